package forward

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

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

// TestDeadConnectionOfAQuietStream has an instance that is gone while nobody expects anything of it: a stream whose limit of
// reading is long. It reads on (or not even that), but answers nothing, PINGs included.
func TestDeadConnectionOfAQuietStream(t *testing.T) {
	f := func(name string, reads bool, want time.Duration) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newH2C(shopPolicy)
				network, over := memory{make(chan net.Conn)}, make(chan struct{})
				defer close(over)
				w.network = network.dial
				go func() {
					conn := <-network.conns
					defer conn.Close()
					quietInstance(conn, reads, over)
				}()
				x := outgoing(t.Context(), t, "GET", "shop:1", nil)
				x.limits = limits{read: 24 * time.Hour}
				resp, err := w.RoundTrip(x)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				begun := time.Now()
				_, err = resp.Body.Read(make([]byte, 1))
				if took := time.Since(begun); err == nil || took != want {
					t.Errorf("got %v after %v, want an error after %v", err, took, want)
				}
				if health.TimedOut(err) {
					t.Errorf("%v counts as slow, but the connection was lost", err)
				}
			})
		})
	}
	f("reads", true, pingAfter+pingTimeout)
	f("stopped", false, pingAfter+writeByteTimeout)
}

// quietInstance answers one request's head over HTTP/2, and then nothing, until the connection is closed.
func quietInstance(conn net.Conn, reads bool, over <-chan struct{}) {
	io.CopyN(io.Discard, conn, int64(len(http2.ClientPreface)))
	settled := make(chan error)
	go func() { settled <- http2.NewFramer(conn, nil).WriteSettings() }() // there is no buffer, and the client is still writing
	framer := http2.NewFramer(conn, conn)
	var stream uint32
	for acknowledged := false; stream == 0 || !acknowledged; { // after that, the client has nothing to write
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			stream = frame.StreamID
		case *http2.SettingsFrame:
			acknowledged = acknowledged || frame.IsAck()
		}
	}
	<-settled
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: statusOK, EndHeaders: true})
	if reads {
		io.Copy(io.Discard, conn)
		return
	}
	<-over
}
