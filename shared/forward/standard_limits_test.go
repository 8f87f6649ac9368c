package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// failed expects an attempt's failure.
func failed(t *testing.T, err error, stage model.RetryWhen, result health.Result, cause error) {
	t.Helper()
	got, ok := err.(*failure)
	if !ok || got.stage != stage || got.result != result || !errors.Is(err, cause) {
		t.Errorf("got %T %v, want %s, %v, %v", err, err, stage, result, cause)
	}
}

// full is the address of a listener that takes no more connections.
func full(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprint("127.0.0.1:", name.(*syscall.SockaddrInet4).Port)
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Skip("this system takes any number of connections")
	return ""
}

// mute is the address of an instance that accepts, reads and says nothing.
func mute(t *testing.T) string {
	return rawBackend(t, func(_ tcpConn, reader bufReader) { io.Copy(io.Discard, reader) })
}

func TestStandardConnectLimit(t *testing.T) {
	secure, err := newTLS(shopPolicy, model.TLS{SkipVerify: true}, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, w *standard, address string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			x := outgoing(t.Context(), t, "POST", address, strings.NewReader("body"))
			x.limits.connect = 50 * time.Millisecond
			_, err := w.RoundTrip(x)
			failed(t, err, model.WhenConnect, health.ConnectTimeout, errSlow)
			if !strings.Contains(err.Error(), address) {
				t.Errorf("%v doesn't name the address", err)
			}
			x = outgoing(t.Context(), t, "POST", address, strings.NewReader("body"))
			x.limits.connect, x.limits.head = 200*time.Millisecond, time.Now().Add(50*time.Millisecond)
			_, err = w.RoundTrip(x)
			failed(t, err, model.WhenConnect, health.ConnectTimeout, errOver)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			x = outgoing(ctx, t, "POST", address, strings.NewReader("body"))
			x.limits.connect = 200 * time.Millisecond
			if _, err = w.RoundTrip(x); err == nil {
				t.Error("it got a response")
			}
			time.Sleep(200 * time.Millisecond) // the dials that nobody waits for end by their own limit
		})
	}
	f("dial", newStandard(shopPolicy), full(t))
	f("dial", newH2C(shopPolicy), full(t))
	f("handshake", secure, mute(t))
	_, err = newH2C(shopPolicy).RoundTrip(outgoing(t.Context(), t, "GET", refusing(t, 1)[0], nil))
	failed(t, err, model.WhenConnect, health.ConnectError, syscall.ECONNREFUSED)
}

// memory is a network without wires or buffers, for bubbles of synctest.
type memory struct{ conns chan net.Conn }

// Accept implements net.Listener.
func (m memory) Accept() (net.Conn, error) {
	conn, ok := <-m.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close implements net.Listener.
func (m memory) Close() error {
	close(m.conns)
	return nil
}

// Addr implements net.Listener.
func (m memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (m memory) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	m.conns <- far
	return near, nil
}

var kinds = []string{"plain", "h2c", "TLS 1", "TLS 2"}

// inServersBubble runs a test over a kind of standard wire where time is not real. The handler is told when it is over.
func inServersBubble(t *testing.T, kind string, handler func(over <-chan struct{}) http.HandlerFunc, f func(t *testing.T, w *standard)) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		server := &http.Server{
			Handler: handler(over), Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		}
		serve, w := server.Serve, newStandard(shopPolicy)
		if kind == "h2c" {
			w = newH2C(shopPolicy)
		}
		if strings.HasPrefix(kind, "TLS") {
			w, _ = newTLS(shopPolicy, model.TLS{SkipVerify: true}, "", quiet)
			server.TLSConfig = newAuthority(t).server(nil)
			serve = func(listener net.Listener) error { return server.ServeTLS(listener, "", "") }
		}
		server.Protocols.SetHTTP1(kind == "plain" || kind == "TLS 1")
		server.Protocols.SetHTTP2(kind == "TLS 2")
		server.Protocols.SetUnencryptedHTTP2(kind == "h2c")
		network := memory{make(chan net.Conn)}
		w.network = network.dial
		go serve(network)
		f(t, w)
		close(over)
		w.CloseIdle()
		server.Close()
		time.Sleep(time.Minute) // both sides of TLS say goodbye, for a while, to nobody
	})
}

// stalling is a handler that stops where the request says, until it is over.
func stalling(over <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		switch r.Header.Get("Stall") {
		case "write":
		case "late write":
			w.(http.Flusher).Flush()
		case "head":
			io.Copy(io.Discard, r.Body)
		case "body":
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}
}

// endless is a body that has always more.
type endless struct{ closed chan struct{} }

func (e endless) Read(p []byte) (int, error) { return len(p), nil }

func (e endless) Close() error {
	close(e.closed)
	return nil
}

func TestStandardStalls(t *testing.T) {
	type limit struct {
		name  string
		set   func(*exchange)
		cause error
	}
	const patient = time.Minute
	write := limit{"write", func(x *exchange) { x.limits.write = patient }, errSlow}
	read := limit{"read", func(x *exchange) { x.limits.read = patient }, errSlow}
	head := limit{"head", func(x *exchange) { x.limits.head = time.Now().Add(patient) }, errOver}
	end := limit{"end", func(x *exchange) { x.limits.end = time.Now().Add(patient) }, errOver}
	gone := limit{"client gone", func(x *exchange) {
		ctx, cancel := context.WithCancel(x.ctx)
		time.AfterFunc(patient, cancel)
		x.ctx = ctx
	}, context.Canceled}

	f := func(where string, limit limit, stage model.RetryWhen, result health.Result) {
		t.Helper()
		test := func(t *testing.T, w *standard) {
			body := endless{make(chan struct{})}
			x := outgoing(t.Context(), t, "POST", "shop:1", body)
			if !strings.Contains(where, "write") {
				x.request.Body = nil
			}
			x.limits = limits{connect: time.Hour, write: time.Hour, read: time.Hour}
			x.request.Header.Set("Stall", where)
			limit.set(x)
			begun := time.Now()
			resp, err := w.RoundTrip(x)
			switch {
			case stage == "" && err == nil: // it ends in the body
				defer resp.Body.Close()
				var text []byte
				if text, err = io.ReadAll(resp.Body); where == "body" && string(text) != "half" || err != limit.cause {
					t.Errorf("got %q, %v, want %v", text, err, limit.cause)
				}
			case limit.cause == context.Canceled && err != nil && x.ctx.Err() != nil:
			default:
				failed(t, err, stage, result, limit.cause)
			}
			if took := time.Since(begun); took != patient {
				t.Errorf("it took %v", took)
			}
			if x.request.Body != nil && stage != "" {
				<-body.closed
			}
		}
		for _, kind := range kinds {
			t.Run(fmt.Sprint(kind, "/", where, "/", limit.name), func(t *testing.T) { inServersBubble(t, kind, stalling, test) })
		}
	}
	f("write", write, model.WhenWrite, health.WriteTimeout)
	f("write", end, model.WhenWrite, health.WriteTimeout)
	f("write", gone, model.WhenWrite, health.Canceled)
	f("late write", write, "", 0)
	f("late write", end, "", 0)
	f("late write", gone, "", 0)
	f("head", read, model.WhenRead, health.ReadTimeout)
	f("head", head, model.WhenRead, health.ReadTimeout)
	f("head", end, model.WhenRead, health.ReadTimeout)
	f("head", gone, model.WhenRead, health.Canceled)
	f("body", read, "", 0)
	f("body", end, "", 0)
	f("body", gone, "", 0)
}

// slow is a body whose client takes its time.
type slow struct {
	io.Reader
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.Reader.Read(p[:1])
}

func TestStandardSlowClient(t *testing.T) {
	handler := func(over <-chan struct{}) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			select {
			case <-over:
			case <-time.After(2 * time.Second):
				io.WriteString(w, "thanks")
			}
		}
	}
	f := func(head time.Duration, want error) {
		t.Helper()
		for _, kind := range kinds {
			t.Run(fmt.Sprint(kind, " ", head), func(t *testing.T) {
				inServersBubble(t, kind, handler, func(t *testing.T, w *standard) {
					x := outgoing(t.Context(), t, "POST", "shop:1", &slow{strings.NewReader("body"), time.Minute})
					x.limits.write, x.limits.read, x.limits.head = time.Second, 3*time.Second, time.Now().Add(head)
					resp, err := w.RoundTrip(x)
					if want != nil {
						failed(t, err, model.WhenRead, health.ReadTimeout, want)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				})
			})
		}
	}
	f(2500*time.Millisecond, nil)
	f(1500*time.Millisecond, errOver)
}

// TestStandardClientStops stops in the middle of the request's body. Whatever happens then, the attempt ends at once, and
// the body is closed when its Read comes back.
func TestStandardClientStops(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		r.Body.Read(make([]byte, 1))
		if r.Header.Get("Then") == "dies" {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				conn.Close()
				return
			}
			panic(http.ErrAbortHandler)
		}
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}, func(t *testing.T, w *standard, address string, _ int) {
		f := func(then string, change func(*exchange)) (err error) {
			t.Helper()
			pipe, sender := io.Pipe()
			upload := &stubborn{Reader: pipe, closed: make(chan struct{})}
			x := outgoing(t.Context(), t, "POST", address, upload)
			x.request.Header.Set("Then", then)
			change(x)
			done := make(chan struct{})
			go func() {
				_, err = w.RoundTrip(x)
				close(done)
			}()
			io.WriteString(sender, "some")
			within(t, "the attempt's end", done)
			sender.CloseWithError(errors.New("the client is back"))
			within(t, "the body's end", upload.closed)
			return err
		}
		err := f("waits", func(x *exchange) { x.limits.end = time.Now().Add(100 * time.Millisecond) })
		failed(t, err, model.WhenWrite, health.Canceled, errOver)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := f("waits", func(x *exchange) { x.ctx = ctx }); err == nil {
			t.Error("it got a response")
		}
		err = f("dies", func(*exchange) {})
		if got, ok := err.(*failure); !ok || got.stage == model.WhenConnect || got.result == health.Canceled ||
			errors.Is(err, errConnectionGone) {
			t.Errorf("got %v", err)
		}
	})
}

// stubborn is a body like a server's: closing it waits for a Read.
type stubborn struct {
	io.Reader
	mu     sync.Mutex
	closed chan struct{}
}

func (s *stubborn) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Reader.Read(p)
}

func (s *stubborn) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.closed)
	return nil
}
