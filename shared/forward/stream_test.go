package forward

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newHTTP2Client returns a client that speaks HTTP/2 without TLS.
func (r *rig) newHTTP2Client(t testing.TB) *http.Client {
	client := r.newClient(t)
	transport := client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	return client
}

// bothProtocols runs a test with a client of HTTP/1.1 and with one of HTTP/2.
func bothProtocols(t *testing.T, handler http.HandlerFunc, f func(t *testing.T, r *rig)) {
	address := backend(t, handler)
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP %d", major), func(t *testing.T) {
			r := newRig(t, nil, address)
			if major == 2 {
				r.client = r.newHTTP2Client(t)
			}
			f(t, r)
		})
	}
}

func TestFirstByteDoesNotWaitForTheLast(t *testing.T) {
	next := make(chan struct{})
	f := func(name string, header http.Header) {
		t.Helper()
		bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
			maps.Copy(w.Header(), header)
			w.(http.Flusher).Flush() // the head alone
			for _, event := range []string{"one", "two"} {
				<-next
				io.WriteString(w, event)
				w.(http.Flusher).Flush()
			}
		}, func(t *testing.T, r *rig) {
			resp, err := r.client.Do(r.request(t, "GET", "/", nil)) // returns at the head
			if err != nil {
				t.Fatal(name, err)
			}
			defer resp.Body.Close()
			buffer := make([]byte, 3)
			for _, event := range []string{"one", "two"} {
				next <- struct{}{}
				if _, err := io.ReadFull(resp.Body, buffer); err != nil || string(buffer) != event {
					t.Fatalf("%s: got %q, %v, want %q", name, buffer, err, event)
				}
			}
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
				t.Errorf("%s: got %q, %v at the end", name, rest, err)
			}
			r.outcome(t, "ok", "200")
		})
	}
	f("chunks", nil)
	f("events", http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}, "Content-Length": {"6"}})
	f("incremental", http.Header{"Incremental": {"?1"}, "Content-Length": {"6"}})
}

func TestFullDuplex(t *testing.T) {
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "echo "+lines.Text())
			w.(http.Flusher).Flush()
		}
	}, func(t *testing.T, r *rig) {
		upload, sender := io.Pipe()
		resp, err := r.client.Do(r.request(t, "POST", "/", upload))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for n := range 100 {
			fmt.Fprintln(sender, n)
			if !lines.Scan() || lines.Text() != fmt.Sprint("echo ", n) {
				t.Fatalf("line %d: got %q, %v", n, lines.Text(), lines.Err())
			}
		}
		sender.Close()
		if lines.Scan() || lines.Err() != nil {
			t.Errorf("got %q, %v at the end", lines.Text(), lines.Err())
		}
		r.outcome(t, "ok", "200")
	})
}

func TestLargeBodiesPassWhole(t *testing.T) {
	const size = 8 << 20
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		sum := sha256.New()
		io.Copy(w, io.TeeReader(io.LimitReader(r.Body, size+1), sum))
		w.Header().Set(http.TrailerPrefix+"X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
	}, func(t *testing.T, r *rig) {
		sent, received := sha256.New(), sha256.New()
		pattern := io.LimitReader(&counting{}, size)
		resp, err := r.client.Do(r.request(t, "POST", "/", io.TeeReader(pattern, sent)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(received, resp.Body)
		want := fmt.Sprintf("%x", sent.Sum(nil))
		if err != nil || n != size || fmt.Sprintf("%x", received.Sum(nil)) != want || resp.Trailer.Get("X-Sum") != want {
			t.Errorf("%d of %d bytes came back, %v, trailer %v", n, size, err, resp.Trailer)
		}
	})
}

// counting reads as bytes that count up.
type counting struct{ n int }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.n % 251)
		c.n++
	}
	return len(p), nil
}

func TestEarlyResponse(t *testing.T) {
	f := func(name, request string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			address := rawBackend(t, func(conn tcpConn, reader bufReader) {
				answering("HTTP/1.1 413 Too Large\nContent-Length: 3\n\nbig")(conn, reader)
				io.Copy(io.Discard, reader)
			})
			r := newRig(t, nil, address)
			conn, reader := r.dial(t, request)
			resp, err := http.ReadResponse(reader, nil) // although the body doesn't come
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "big" || resp.StatusCode != 413 {
				t.Errorf("got %d %q %v", resp.StatusCode, body, err)
			}
			r.outcome(t, "ok", "413")
			conn.Close()
		})
	}
	f("length", "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nContent-Length: 1000\n\nstart")
	f("chunks", "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nTransfer-Encoding: chunked\n\n5\nstart\n")
}

func TestTrailers(t *testing.T) {
	var got http.Header
	var announced []string
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		announced = slices.Sorted(maps.Keys(r.Trailer))
		io.Copy(io.Discard, r.Body)
		got = r.Trailer
		w.Header().Set("Trailer", "X-Announced, X-Ufc-Error, X-Absent")
		io.WriteString(w, "short")
		w.Header()["X-Announced"] = []string{"1", "2"}
		w.Header().Set("X-Ufc-Error", "forged")
		w.Header().Set(http.TrailerPrefix+"X-Sudden", "3")
		w.Header().Set(http.TrailerPrefix+"X-Ufc-Panic", "1")
	}, func(t *testing.T, r *rig) {
		for _, length := range []int64{-1, 5} {
			req := r.request(t, "POST", "/", struct{ io.Reader }{strings.NewReader("hello")})
			req.ContentLength = length
			if length >= 0 && r.client.Transport.(*http.Transport).Protocols == nil {
				continue // HTTP/1 has trailers in chunks only
			}
			req.Header.Set("TE", "trailers")
			req.Trailer = http.Header{"X-Sum": {"abc"}, "X-Ufc-Forged": {"x"}}
			resp, body := r.do(t, req)
			if resp.StatusCode != 200 || body != "short" {
				t.Fatalf("got %d %q", resp.StatusCode, body)
			}
			if got.Get("X-Sum") != "abc" || got.Get("X-Ufc-Forged") != "" || !slices.Contains(announced, "X-Sum") {
				t.Errorf("length %d: the instance got the trailers %v, announced %v", length, got, announced)
			}
			want := http.Header{"X-Announced": {"1", "2"}, "X-Sudden": {"3"}}
			delete(resp.Trailer, "X-Absent")
			if !maps.EqualFunc(resp.Trailer, want, slices.Equal) {
				t.Errorf("length %d: the client got the trailers %v", length, resp.Trailer)
			}
		}
	})
}

func TestUnannouncedRequestTrailer(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, nil, backend(t, func(_ http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		got <- req.Trailer
	}))
	r.dial(t, "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nTransfer-Encoding: chunked\n\n2\nok\n0\nX-Sudden: 1\n\n")
	if trailer := <-got; trailer.Get("X-Sudden") != "1" {
		t.Errorf("the instance got %v", trailer)
	}
}

func TestInformationalResponses(t *testing.T) {
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Link", "</a.css>")
		w.Header().Set("X-Ufc-Error", "forged")
		w.WriteHeader(103)
		w.Header().Set("Link", "</b.css>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		io.WriteString(w, "hello")
	}, func(t *testing.T, r *rig) {
		var mu sync.Mutex
		var got []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(code, header.Get("Link"), header.Get("X-Ufc-Error")))
			return nil
		}}
		req := r.request(t, "POST", "/", strings.NewReader("body"))
		resp, body := r.do(t, req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
		if resp.StatusCode != 200 || body != "hello" || resp.Header["Link"] != nil {
			t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(got, []string{"103</a.css>", "103</b.css>"}) {
			t.Errorf("got %q", got)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	got := make(chan string, 1)
	r := newRig(t, nil, backend(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		got <- req.Header.Get("Expect") + " " + string(body)
	}))
	conn, reader := r.dial(t, "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nExpect: 100-continue\nContent-Length: 5\n\n")
	interim, err := http.ReadResponse(reader, nil)
	if err != nil || interim.StatusCode != 100 {
		t.Fatal(interim, err)
	}
	io.WriteString(conn, "hello")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != 200 { // and not a second 100
		t.Fatal(resp, err)
	}
	if body := <-got; body != "100-continue hello" {
		t.Errorf("the instance got %q", body)
	}
}

func TestExpectContinueOfARefusedCall(t *testing.T) {
	r := newRig(t, nil, refusing(t, 2)...)
	_, reader := r.dial(t, "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nExpect: 100-continue\nContent-Length: 5\n\n")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != 502 { // at once, and without asking for the body
		t.Fatal(resp, err)
	}
}

func TestClientLeavesBeforeTheHead(t *testing.T) {
	arrived, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	bothProtocols(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			<-arrived
			cancel()
		}()
		resp, err := r.client.Do(r.request(t, "GET", "/", nil).WithContext(ctx))
		if err == nil {
			resp.Body.Close()
			t.Fatalf("got %v", resp)
		}
		within(t, "the end of the instance's request", ended)
		r.outcome(t, "canceled", "499")
	})
}

func TestClientLeavesInTheBody(t *testing.T) {
	ended := make(chan struct{}, 1)
	bothProtocols(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "start")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		ended <- struct{}{}
	}, func(t *testing.T, r *rig) {
		resp, err := r.client.Do(r.request(t, "GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(resp.Body, make([]byte, 5))
		resp.Body.Close()
		within(t, "the end of the instance's request", ended)
		r.outcome(t, "canceled", "499")
	})
}

func TestClientLeavesInItsOwnBody(t *testing.T) {
	f := func(name, request string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan struct{}), make(chan struct{})
			r := newRig(t, nil, backend(t, func(w http.ResponseWriter, req *http.Request) {
				req.Body.Read(make([]byte, 5))
				close(begun)
				io.Copy(io.Discard, req.Body)
				close(ended)
			}))
			conn, _ := r.dial(t, request)
			within(t, "the start of the body", begun)
			conn.Close()
			within(t, "the end of the instance's request", ended)
			r.outcome(t, "canceled", "499")
		})
	}
	f("length", "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nContent-Length: 100000\n\n"+strings.Repeat("x", 9000))
	f("chunks", "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nTransfer-Encoding: chunked\n\n2328\n"+strings.Repeat("x", 9000)+"\n")
}

func TestMalformedRequestBody(t *testing.T) {
	r := newRig(t, nil, backend(t, func(_ http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) }))
	_, reader := r.dial(t, "POST / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nTransfer-Encoding: chunked\n\nnonsense\n")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != 400 {
		t.Fatal(resp, err)
	}
	r.outcome(t, "canceled", "400")
}

func TestResponseThatBreaksOff(t *testing.T) {
	f := func(name, answer, result string, handle func(conn tcpConn)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{}, 1)
			address := rawBackend(t, func(conn tcpConn, reader bufReader) {
				answering(answer)(conn, reader)
				<-sent // the client has the start
				handle(conn)
			})
			for _, major := range []int{1, 2} {
				r := newRig(t, nil, address)
				if major == 2 {
					r.client = r.newHTTP2Client(t)
				}
				resp, err := r.client.Do(r.request(t, "GET", "/", nil))
				if err != nil {
					t.Fatal(err)
				}
				start := make([]byte, 5)
				if !strings.Contains(answer, "Content-Length") {
					io.ReadFull(resp.Body, start)
				}
				sent <- struct{}{}
				rest, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil {
					t.Errorf("HTTP/%d: a clean end after %q", major, rest)
				}
				r.outcome(t, result, "200")
			}
		})
	}
	reset := func(conn tcpConn) { conn.SetLinger(0) }
	closed := func(tcpConn) {}
	long := strings.Repeat("x", 5000)
	f("chunks, reset", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nstart\n", "reset", reset)
	f("chunks, closed", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nstart\n", "read_error", closed)
	f("length, reset", "HTTP/1.1 200 OK\nContent-Length: 9999\n\n"+long, "reset", reset)
	f("length, closed", "HTTP/1.1 200 OK\nContent-Length: 9999\n\n"+long, "read_error", closed)
	f("bad chunk", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nstart\nnonsense\n", "read_error", closed)
}

// TestUnreadBodyIsNoRequest: what is left of a body when its response has been sent is not the next request, also where
// the server's own body was put into another one.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	var smuggled atomic.Int32
	r := newRig(t, nil, backend(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/smuggled":
			smuggled.Add(1)
		case "/whole":
			io.Copy(io.Discard, req.Body)
		}
		_ = http.NewResponseController(w).EnableFullDuplex() // else it waits for the body
		w.WriteHeader(http.StatusForbidden)
	}))
	direct := r.server.Config.Handler
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = struct{ io.ReadCloser }{req.Body} // as Caddy does, to limit time
		direct.ServeHTTP(w, req)
	})
	const next = "GET /smuggled HTTP/1.1\r\nHost: h\r\nx-ufc-service-name: shop\r\n\r\n"
	f := func(path, framing, first, rest string, closes bool) {
		t.Helper()
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: h\r\nx-ufc-service-name: shop\r\n%s\r\n\r\n%s", path, framing, first)
		reader := bufio.NewReader(conn)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil || resp.StatusCode != http.StatusForbidden || resp.Close != closes {
			t.Errorf("%s: %v, %v", framing, resp, err)
			return
		}
		io.WriteString(conn, rest) // may fail: the connection is closed
		if resp, err := http.ReadResponse(reader, nil); closes == (err == nil) {
			t.Errorf("%s: then %v, %v", framing, resp, err)
		}
	}
	many := strings.Repeat(next, 10_000)
	f("/", "Content-Length: 10000000", "x", many, true)
	f("/", "Transfer-Encoding: chunked", "1\r\nx\r\n", many, true)
	if n := smuggled.Load(); n > 0 {
		t.Errorf("%d requests were smuggled", n)
	}
	// The connection of a whole body is used again, for what is the next request indeed.
	f("/whole", "Content-Length: 4", "xxxx", next, false)
	f("/whole", "Transfer-Encoding: chunked", "1\r\nx\r\n0\r\n\r\n", next, false)
}
