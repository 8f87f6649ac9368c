package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
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
		set   func(*exchange, time.Duration)
		cause error
	}
	write := limit{func(x *exchange, d time.Duration) { x.limits.write = d }, errSlow}
	read := limit{func(x *exchange, d time.Duration) { x.limits.read = d }, errSlow}
	head := limit{func(x *exchange, d time.Duration) { x.limits.head = time.Now().Add(d) }, errOver}
	end := limit{func(x *exchange, d time.Duration) { x.limits.end = time.Now().Add(d) }, errOver}
	gone := limit{func(x *exchange, d time.Duration) {
		ctx, cancel := context.WithCancel(x.ctx)
		time.AfterFunc(d, cancel)
		x.ctx = ctx
	}, context.Canceled}

	over := make(chan struct{})
	defer close(over)
	overAll(t, stalling(over), func(t *testing.T, w *standard, address string, _ int) {
		f := func(where string, limit limit, stage model.RetryWhen, result health.Result) {
			t.Helper()
			t.Run(fmt.Sprint(where, " ", limit.cause), func(t *testing.T) {
				body := endless{make(chan struct{})}
				x := outgoing(t.Context(), t, "POST", address, body)
				if !strings.Contains(where, "write") {
					x.request.Body = nil
				}
				x.request.Header.Set("Stall", where)
				begun := time.Now()
				limit.set(x, 100*time.Millisecond)
				resp, err := w.RoundTrip(x)
				if stage == "" { // it ends in the body
					if err != nil {
						t.Fatal(err)
					}
					text, failure := io.ReadAll(resp.Body)
					if err = failure; where == "body" && string(text) != "half" {
						t.Errorf("got %q", text)
					}
					defer resp.Body.Close()
				}
				switch {
				case limit.cause == context.Canceled && err != nil && x.ctx.Err() != nil:
				case stage == "" && err != limit.cause:
					t.Errorf("got %v, want %v", err, limit.cause)
				case stage != "":
					failed(t, err, stage, result, limit.cause)
				}
				if took := time.Since(begun); took < 100*time.Millisecond || took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				if x.request.Body != nil && stage != "" {
					within(t, "the body's end", body.closed)
				}
			})
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
	})
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
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(100 * time.Millisecond)
		io.WriteString(w, "thanks")
	}, func(t *testing.T, w *standard, address string, _ int) {
		x := outgoing(t.Context(), t, "POST", address, &slow{strings.NewReader("ab"), 200 * time.Millisecond})
		x.limits.write, x.limits.read = 150*time.Millisecond, 2*time.Second
		x.limits.head = time.Now().Add(300 * time.Millisecond)
		resp, err := w.RoundTrip(x)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	})
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
