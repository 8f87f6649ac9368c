package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// shopPolicy is how connections are kept where a test doesn't care.
var shopPolicy = model.DefaultService("shop").Connections

// h2cBackend starts an instance that speaks HTTP/2 without TLS only.
func h2cBackend(t testing.TB, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// overAll runs a test over each kind of standard wire.
func overAll(t *testing.T, handler http.HandlerFunc, f func(t *testing.T, w *standard, address string, major int)) {
	run := func(name string, major int, w *standard, address string) {
		t.Run(name, func(t *testing.T) {
			defer w.CloseIdle()
			f(t, w, address, major)
		})
	}
	run("plain", 1, newStandard(shopPolicy), backend(t, handler))
	run("h2c", 2, newH2C(shopPolicy), h2cBackend(t, handler).Listener.Addr().String())
	for major, protocols := range map[int][]string{1: nil, 2: {"h2"}} {
		w, err := newTLS(shopPolicy, model.TLS{SkipVerify: true}, "", quiet)
		if err != nil {
			t.Fatal(err)
		}
		config := newAuthority(t).server(nil)
		config.NextProtos = protocols
		run(fmt.Sprint("TLS ", major), major, w, tlsBackend(t, config, handler))
	}
}

// outgoing makes an exchange with limits that no test should reach.
func outgoing(ctx context.Context, t testing.TB, method, address string, body io.Reader) *exchange {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+address+"/path?q", body)
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil // the loop's requests have none
	return &exchange{ctx: ctx, request: req, limits: limits{connect: patience, write: patience, read: patience}}
}

func TestStandardCarries(t *testing.T) {
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Announced")
		w.Header()["X-Saw"] = []string{r.Method, r.Host, r.RequestURI, r.Header.Get("Te"), r.Header.Get("Accept-Encoding")}
		fmt.Fprintf(w, "%s %v %s", body, err, r.Trailer.Get("X-End"))
		w.(http.Flusher).Flush()
		w.Header().Set("X-Announced", "a")
		w.Header().Set(http.TrailerPrefix+"X-Not-Announced", "b")
	}, func(t *testing.T, w *standard, address string, major int) {
		for _, buffered := range []bool{true, false} {
			x := outgoing(t.Context(), t, "POST", address, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 100<<10))})
			x.buffered = buffered
			x.request.Host = "shop.test"
			x.request.Header.Set("Te", "trailers")
			x.request.Trailer = http.Header{"X-End": {"the end"}}
			resp, err := w.RoundTrip(x)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			if err != nil || string(text) != strings.Repeat("x", 100<<10)+" <nil> the end" {
				t.Errorf("got %d bytes, %v", len(text), err)
			}
			if saw := fmt.Sprintf("%q", resp.Header["X-Saw"]); saw != `["POST" "shop.test" "/path?q" "trailers" ""]` {
				t.Errorf("the instance saw %s", saw)
			}
			if resp.ProtoMajor != major || resp.Trailer.Get("X-Announced") != "a" || resp.Trailer.Get("X-Not-Announced") != "b" {
				t.Errorf("got HTTP/%d and the trailers %v", resp.ProtoMajor, resp.Trailer)
			}
			resp.Body.Close()
		}
	})
}

func TestStandardStreamsBothWays(t *testing.T) {
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		buffer := make([]byte, 1)
		for {
			if _, err := r.Body.Read(buffer); err != nil {
				return
			}
			w.Write(buffer)
			w.(http.Flusher).Flush()
		}
	}, func(t *testing.T, w *standard, address string, _ int) {
		upload, sender := io.Pipe()
		x := outgoing(t.Context(), t, "POST", address, upload)
		x.limits.write, x.limits.read = 200*time.Millisecond, 200*time.Millisecond
		go io.WriteString(sender, "a")
		resp, err := w.RoundTrip(x)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buffer := make([]byte, 1)
		for n, letter := range []string{"a", "b", "c"} {
			if n > 0 {
				io.WriteString(sender, letter)
			}
			if _, err := io.ReadFull(resp.Body, buffer); err != nil || string(buffer) != letter {
				t.Fatalf("got %q, %v", buffer, err)
			}
		}
		time.AfterFunc(500*time.Millisecond, func() { sender.Close() }) // quiet, but the client is so as well
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v at the end", rest, err)
		}
	})
}

func TestStandardHasNoBody(t *testing.T) {
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
	}, func(t *testing.T, w *standard, address string, _ int) {
		resp, err := w.RoundTrip(outgoing(t.Context(), t, "HEAD", address, nil))
		if err != nil || resp.Body != http.NoBody || resp.ContentLength != 5 {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

func TestStandardInformational(t *testing.T) {
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
	}, func(t *testing.T, w *standard, address string, _ int) {
		var outer, own atomic.Int32
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { outer.Add(1); return nil },
		})
		x := outgoing(ctx, t, "GET", address, nil)
		expect := func(wantOuter, wantOwn int32) {
			t.Helper()
			resp, err := w.RoundTrip(x)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if outer.Load() != wantOuter || own.Load() != wantOwn {
				t.Errorf("the context's trace got %d, the exchange %d", outer.Load(), own.Load())
			}
		}
		expect(1, 0)
		x.informational = func(code int, _ textproto.MIMEHeader) error { own.Add(int32(code)); return nil }
		expect(1, http.StatusEarlyHints)
		x.informational = func(int, textproto.MIMEHeader) error { return errors.New("enough") }
		if _, err := w.RoundTrip(x); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("got %v", err)
		}
	})
}

func TestStandardUpgrades(t *testing.T) {
	secure, err := newTLS(shopPolicy, model.TLS{SkipVerify: true}, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	switching := func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello ")
		io.Copy(conn, buffered)
		io.WriteString(conn, " bye")
	}
	config := newAuthority(t).server(nil)
	config.NextProtos = []string{"h2", "http/1.1"}
	f := func(w *standard, address string) {
		t.Helper()
		x := outgoing(t.Context(), t, "GET", address, nil)
		x.request.Header.Set("Connection", "Upgrade")
		x.request.Header.Set("Upgrade", "echo")
		x.limits.read, x.limits.end = 100*time.Millisecond, time.Now().Add(200*time.Millisecond)
		resp, err := w.RoundTrip(x)
		if err != nil {
			t.Fatal(err)
		}
		tunnel := resp.Body.(io.ReadWriteCloser)
		defer tunnel.Close()
		time.Sleep(time.Until(x.limits.end) + 100*time.Millisecond) // limits don't hold in a tunnel
		io.WriteString(tunnel, "echo")
		if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
		if text, err := io.ReadAll(tunnel); err != nil || string(text) != "hello echo bye" {
			t.Errorf("got %q, %v", text, err)
		}
	}
	f(newStandard(shopPolicy), backend(t, switching))
	f(secure, tlsBackend(t, config, switching))

	// HTTP/2 has no upgrades: the instance is asked without.
	h2c := newH2C(shopPolicy)
	defer h2c.CloseIdle()
	x := outgoing(t.Context(), t, "GET", h2cBackend(t, hello).Listener.Addr().String(), nil)
	x.request.Header.Set("Connection", "Upgrade")
	x.request.Header.Set("Upgrade", "echo")
	if resp, err := h2c.RoundTrip(x); err != nil || resp.StatusCode != 200 || resp.Body.Close() != nil {
		t.Error(resp, err)
	}
	if x.request.Header.Get("Upgrade") != "echo" {
		t.Error("the loop's headers were changed")
	}
}

// TestRequestThatCantBeSent shows that a request which the library refuses to send says nothing about the instance.
func TestRequestThatCantBeSent(t *testing.T) {
	overAll(t, hello, func(t *testing.T, w *standard, address string, _ int) {
		x := outgoing(t.Context(), t, "GET", address, nil)
		x.request.Header["Bad name"] = []string{""}
		_, err := w.RoundTrip(x)
		failed(t, err, model.WhenRead, health.Canceled, err)
	})
	w := newH2C(shopPolicy)
	defer w.CloseIdle()
	x := outgoing(t.Context(), t, "GET", h2cBackend(t, hello).Listener.Addr().String(), nil)
	x.request.Header.Set("Connection", "strange")
	_, err := w.RoundTrip(x)
	failed(t, err, model.WhenRead, health.Canceled, err)
}

func TestResponseHeadIsBounded(t *testing.T) {
	overAll(t, func(w http.ResponseWriter, r *http.Request) {
		for n := range 20 {
			w.Header().Set(fmt.Sprint("X-", n), strings.Repeat("x", maxResponseHead/16))
		}
	}, func(t *testing.T, w *standard, address string, _ int) {
		if _, err := get(t.Context(), w, address); err == nil {
			t.Error("a head without measure was taken")
		}
	})
}

func BenchmarkStandard(b *testing.B) {
	for name, instance := range map[string]func() (*standard, string){
		"plain": func() (*standard, string) { return newStandard(shopPolicy), backend(b, hello) },
		"h2c":   func() (*standard, string) { return newH2C(shopPolicy), h2cBackend(b, hello).Listener.Addr().String() },
	} {
		b.Run(name, func(b *testing.B) {
			w, address := instance()
			defer w.CloseIdle()
			b.ReportAllocs()
			for b.Loop() {
				if status, err := get(b.Context(), w, address); status != 200 {
					b.Fatal(status, err)
				}
			}
		})
	}
}
