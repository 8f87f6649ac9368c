package forward

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// connections tells how many connections a server has got.
func connections(server *httptest.Server) *atomic.Int32 {
	var count atomic.Int32
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			count.Add(1)
		}
	}
	return &count
}

func TestH2CConnections(t *testing.T) {
	f := func(name string, change func(*model.Connections), want int32) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(hello))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			count := connections(server)
			server.Start()
			defer server.Close()
			policy := shopPolicy
			change(&policy)
			w := newH2C(policy)
			defer w.CloseIdle()
			for range 5 {
				if status, err := get(t.Context(), w, server.Listener.Addr().String()); status != 200 {
					t.Fatal(status, err)
				}
			}
			if got := count.Load(); got != want {
				t.Errorf("5 requests took %d connections, want %d", got, want)
			}
		})
	}
	f("kept", func(*model.Connections) {}, 1)
	f("one request each", func(c *model.Connections) { c.KeepAlive = false }, 5)
	f("none idle", func(c *model.Connections) { c.MaxIdlePerInstance = 0 }, 5)
}

// TestIdleConnectionThatIsClosed lets an instance close its connections, as idle, just before each request.
func TestIdleConnectionThatIsClosed(t *testing.T) {
	server := h2cBackend(t, hello)
	w := newH2C(shopPolicy)
	defer w.CloseIdle()
	for range 100 {
		if status, err := get(t.Context(), w, server.Listener.Addr().String()); status != 200 {
			t.Fatal(status, err)
		}
		server.CloseClientConnections()
	}
}

// TestConnectionThatEndsWithoutAnswer lets an instance close a connection when the second request comes over it.
func TestConnectionThatEndsWithoutAnswer(t *testing.T) {
	var seen atomic.Int32
	address := framed(t, func(conn tcpConn, framer *http2.Framer, stream uint32) {
		if seen.Add(1)%2 == 0 {
			conn.Close()
			return
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: statusOK, EndHeaders: true, EndStream: true})
	})
	f := func(method string, again bool) {
		t.Helper()
		seen.Store(0)
		w := newH2C(shopPolicy)
		defer w.CloseIdle()
		if status, err := get(t.Context(), w, address); status != 200 {
			t.Fatal(status, err)
		}
		resp, err := w.RoundTrip(outgoing(t.Context(), t, method, address, nil))
		if again {
			if err != nil {
				t.Fatal(method, err)
			}
			resp.Body.Close()
			return
		}
		failed(t, err, model.WhenRead, health.ReadError, err)
	}
	f("GET", true)
	f("POST", false)
}

// framed is an instance that speaks HTTP/2 by hand: it is given the first request's stream.
func framed(t *testing.T, handle func(conn tcpConn, framer *http2.Framer, stream uint32)) string {
	return rawBackend(t, func(conn tcpConn, reader bufReader) {
		io.CopyN(io.Discard, reader, int64(len(http2.ClientPreface)))
		framer := http2.NewFramer(conn, reader)
		framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					framer.WriteSettingsAck()
				}
			case *http2.HeadersFrame:
				handle(conn, framer, frame.StreamID)
			}
		}
	})
}

// statusOK is ":status: 200" in HPACK (RFC 7541, appendix A).
var statusOK = []byte{0x88}

func TestUnprocessedRequests(t *testing.T) {
	var seen atomic.Int32
	first := func(refuse func(tcpConn, *http2.Framer, uint32)) func(tcpConn, *http2.Framer, uint32) {
		return func(conn tcpConn, framer *http2.Framer, stream uint32) {
			if seen.Add(1) == 2 { // the first is for the connection to be in use
				refuse(conn, framer, stream)
				return
			}
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: statusOK, EndHeaders: true, EndStream: true})
		}
	}
	f := func(name string, refuse func(tcpConn, *http2.Framer, uint32)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			for _, body := range []io.Reader{nil, io.MultiReader(strings.NewReader("body"))} {
				seen.Store(0)
				address := framed(t, first(refuse))
				w := newH2C(shopPolicy)
				if status, err := get(t.Context(), w, address); status != 200 {
					t.Fatal(status, err)
				}
				resp, err := w.RoundTrip(outgoing(t.Context(), t, "POST", address, body))
				if body == nil { // sent again by the library
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
				} else { // the body was read: it is the loop's to send it again
					failed(t, err, model.WhenConnect, health.ReadError, err)
				}
				w.CloseIdle()
			}
		})
	}
	f("refused stream", func(_ tcpConn, framer *http2.Framer, stream uint32) {
		framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
	})
	f("going away", func(_ tcpConn, framer *http2.Framer, stream uint32) {
		framer.WriteGoAway(stream-2, http2.ErrCodeNo, nil)
	})
	address := framed(t, first(func(_ tcpConn, framer *http2.Framer, stream uint32) {
		framer.WriteRSTStream(stream, http2.ErrCodeInternal)
	}))
	seen.Store(1)
	w := newH2C(shopPolicy)
	defer w.CloseIdle()
	_, err := w.RoundTrip(outgoing(t.Context(), t, "POST", address, strings.NewReader("body")))
	failed(t, err, model.WhenRead, health.ReadError, err)
}

// hole is a network between a wire and an instance that forgets the connections it has when it is told to. New ones work.
type hole struct {
	mu    sync.Mutex
	conns []chan struct{}
	count atomic.Int32
}

func (h *hole) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, forgotten := range h.conns {
		close(forgotten)
	}
	h.conns = nil
}

func (h *hole) start(t *testing.T, instance string) string {
	return rawBackend(t, func(conn tcpConn, _ bufReader) {
		h.count.Add(1)
		beyond, err := net.Dial("tcp", instance)
		if err != nil {
			return
		}
		defer beyond.Close()
		forgotten := make(chan struct{})
		h.mu.Lock()
		h.conns = append(h.conns, forgotten)
		h.mu.Unlock()
		pass := func(to, from net.Conn) {
			buffer := make([]byte, 4096)
			for {
				n, err := from.Read(buffer)
				select {
				case <-forgotten: // read on, so that the kernel goes on acknowledging
				default:
					to.Write(buffer[:n])
				}
				if err != nil {
					to.Close()
					return
				}
			}
		}
		go pass(conn, beyond)
		pass(beyond, conn)
	})
}

func TestHungConnectionIsGivenUp(t *testing.T) {
	f := func(name string, limit time.Duration, change func(*exchange)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			var between hole
			address := between.start(t, h2cBackend(t, hello).Listener.Addr().String())
			w := newH2C(shopPolicy)
			defer w.CloseIdle()
			if status, err := get(t.Context(), w, address); status != 200 {
				t.Fatal(status, err)
			}
			between.forget()
			lost := 0
			for begun := time.Now(); ; lost++ {
				x := outgoing(t.Context(), t, "GET", address, nil)
				change(x)
				resp, err := w.RoundTrip(x)
				if err == nil {
					resp.Body.Close()
					break
				}
				failed(t, err, model.WhenRead, health.ReadTimeout, err)
				if time.Since(begun) > 3*time.Second {
					t.Fatal("requests still go into the dead connection")
				}
			}
			if want := int(silence/limit) + 1; lost > want || between.count.Load() != 2 {
				t.Errorf("%d requests were lost, and there were %d connections; want %d, 2", lost, between.count.Load(), want)
			}
		})
	}
	f("one long wait", silence, func(x *exchange) { x.limits.read = silence + 100*time.Millisecond })
	f("many short ones", 300*time.Millisecond, func(x *exchange) { x.limits.head = time.Now().Add(300 * time.Millisecond) })
}

// TestSlowHandlerKeepsItsConnection: that an instance is slow with one request says nothing about its connection, as long as
// others are answered over it.
func TestSlowHandlerKeepsItsConnection(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	stall := stalling(over)
	server := h2cBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			stall(w, r)
		}
	})
	address := server.Listener.Addr().String()
	w := newH2C(shopPolicy)
	defer w.CloseIdle()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				if status, err := get(t.Context(), w, address); status != 200 {
					t.Error(status, err)
				}
			}
		}
	}()
	x := outgoing(t.Context(), t, "POST", address, nil)
	x.limits.read = silence + 200*time.Millisecond
	_, err := w.RoundTrip(x)
	failed(t, err, model.WhenRead, health.ReadTimeout, errSlow)
	close(stop)
	<-stopped
	if n := w.generation(address); n != 0 {
		t.Errorf("its connections were given up %d times", n)
	}
}

func TestPooled(t *testing.T) {
	f := func(address string, generation uint64, want string) {
		t.Helper()
		if got := pooled(address, generation); got != want {
			t.Errorf("pooled(%q, %d) is %q, want %q", address, generation, got, want)
		}
	}
	f("10.0.0.1:80", 0, "10.0.0.1:80")
	f("10.0.0.1:80", 3, "10.0.0.1.3:80")
	f("[::1]:80", 2, "[::1.2]:80")
	w := newH2C(shopPolicy)
	w.giveUp("10.0.0.1:80", 0)
	w.giveUp("10.0.0.1:80", 0)
	if n := w.generation("10.0.0.1:80"); n != 1 {
		t.Errorf("two attempts on one connection gave up %d", n)
	}
}

// TestGivenUpOverIPv6 shows that the text under which the library keeps connections is a host to it in all its parts.
func TestGivenUpOverIPv6(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Host", r.Host) }))
	server.Listener.Close()
	server.Listener = listener
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	w := newH2C(shopPolicy)
	defer w.CloseIdle()
	for generation := range uint64(3) {
		resp, err := w.RoundTrip(outgoing(t.Context(), t, "GET", listener.Addr().String(), nil))
		if err != nil || resp.Header.Get("X-Host") != listener.Addr().String() {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
		w.giveUp(listener.Addr().String(), generation)
	}
}
