package forward

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

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
