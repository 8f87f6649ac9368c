package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// usualLimits are the model's defaults.
var usualLimits = limits{connect: 300 * time.Millisecond, write: 5 * time.Second, read: 5 * time.Second}

// usualPolicy is the model's default.
var usualPolicy = model.DefaultService("shop").Connections

// directTo returns a wire that ends with the test, and a function that makes exchanges for the instance.
func directTo(t testing.TB, host string) (*direct, func(method string, body io.Reader) *exchange) {
	t.Helper()
	w := newDirect(usualPolicy)
	t.Cleanup(w.CloseIdle)
	return w, func(method string, body io.Reader) *exchange { return exchangeWith(host, method, body) }
}

func exchangeWith(host, method string, body io.Reader) *exchange {
	req := &http.Request{
		Method: method, URL: &url.URL{Scheme: "http", Host: host, Path: "/p"}, Host: "shop",
		Header: http.Header{"User-Agent": {""}}, ProtoMajor: 1, ProtoMinor: 1,
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(body), -1
		if sized, ok := body.(interface{ Len() int }); ok {
			req.ContentLength = int64(sized.Len())
		}
	}
	return &exchange{ctx: context.Background(), request: req, limits: usualLimits}
}

// answer sends the exchange and returns "status body", or "status body + error", or the error.
func answer(w wire, x *exchange) string {
	resp, err := w.RoundTrip(x)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	text := fmt.Sprintf("%d %s", resp.StatusCode, body)
	if err != nil {
		text += " + " + err.Error()
	}
	return text
}

// counted is a rawBackend that tells each connection its number, from 1.
func counted(t testing.TB, handle func(number int, conn *net.TCPConn, reader *bufio.Reader)) (string, *atomic.Int32) {
	var n atomic.Int32
	return rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) { handle(int(n.Add(1)), conn, reader) }), &n
}

// discardRequest reads one request, with its body.
func discardRequest(reader *bufio.Reader) error {
	req, err := http.ReadRequest(reader)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func lines(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func TestDirectReadsResponses(t *testing.T) {
	// The instance closes the connection after a response that needs it, or keeps it open; then it is used again, or not.
	const closed, open, reused = "closed", "open", "reused"
	f := func(name, method, response, want, connection string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			host, conns := counted(t, func(_ int, conn *net.TCPConn, reader *bufio.Reader) {
				for discardRequest(reader) == nil {
					io.WriteString(conn, lines(response))
					if connection == closed {
						return
					}
				}
			})
			w, request := directTo(t, host)
			for range 3 {
				if got := answer(w, request(method, nil)); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if n := conns.Load(); (n == 1) != (connection == reused) {
				t.Errorf("%d connections for 3 requests", n)
			}
		})
	}
	f("length", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ok", reused)
	f("chunks", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\no\n1;x=y\nk\n0\n\n", "200 ok", reused)
	f("until close", "GET", "HTTP/1.1 200 OK\n\nok", "200 ok", closed)
	f("empty", "GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "200 ", reused)
	f("204", "GET", "HTTP/1.1 204 No Content\n\n", "204 ", reused)
	f("304", "GET", "HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n", "304 ", reused)
	f("HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", "200 ", reused)
	f("HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "200 ", reused)
	f("close", "GET", "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok", "200 ok", open)
	f("1.0", "GET", "HTTP/1.0 200 OK\nContent-Length: 2\n\nok", "200 ok", closed)
	f("1.0 kept alive", "GET", "HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nok", "200 ok", reused)
	f("equal lengths", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 2\n\nok", "200 ok", reused)
	f("after 1xx", "GET", "HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ok", reused)

	f("contradicting lengths", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok",
		`read: http: message cannot contain multiple Content-Length headers; got ["2" "3"]`, open)
	f("no HTTP", "GET", "SSH-2.0-x\n", `read: malformed HTTP response "SSH-2.0-x"`, open)
	f("nothing", "GET", "", "read: EOF", closed)
	f("half a head", "GET", "HTTP/1.1 200 OK\nX: ", "read: unexpected EOF", closed)
	f("too short", "GET", "HTTP/1.1 200 OK\nContent-Length: 3\n\nok", "200 ok + unexpected EOF", closed)
	f("chunks break off", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n", "200 ok + unexpected EOF", closed)
	f("bad chunks", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nokx\n0\n\n", "200 ok + malformed chunked encoding", open)
	f("no protocol switch", "GET", "HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: Upgrade\n\n", "read: "+errSwitch.Error(), open)
	f("more than a response", "GET", "HTTP/1.1 200 OK\nContent-Length: 2\n\nokHTTP/1.1 200 OK\n\n", "200 ok", open)
	f("a body of HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 ", open)
}

func TestDirectEndsBodiesAtOnce(t *testing.T) {
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			io.WriteString(conn, okResponse)
		}
	})
	w, request := directTo(t, host)
	resp, err := w.RoundTrip(request("GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := resp.Body.Read(make([]byte, 2)); n != 2 || err != io.EOF {
		t.Errorf("the last byte came with %v", err)
	}
	if n, err := resp.Body.Read(make([]byte, 2)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	idle := w.idle.take(host, time.Now())
	if idle == nil {
		t.Fatal("the connection isn't back")
	}
	resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 2)); !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := idle.roundTrip(request("GET", nil), nil, time.Now()); err != nil {
		t.Errorf("the old body's Close has closed the connection of the next: %v", err)
	}
	idle.drop()
}

func TestDirectHasNoBodyWhereThereIsNone(t *testing.T) {
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			io.WriteString(conn, lines("HTTP/1.1 204 No Content\n\n"))
		}
	})
	w, request := directTo(t, host)
	for _, x := range []*exchange{request("GET", nil), request("POST", strings.NewReader("sent by a goroutine"))} {
		resp, err := w.RoundTrip(x)
		if err != nil || resp.Body != http.NoBody {
			t.Fatalf("%v, %v", resp, err)
		}
		c := w.idle.take(host, time.Now())
		if c == nil {
			t.Fatal("the connection isn't back yet")
		}
		w.idle.put(c)
	}
}

func TestDirectTrailers(t *testing.T) {
	seen := make(chan *http.Request, 1)
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		seen <- req
		io.WriteString(conn, lines("HTTP/1.1 200 OK\nConnection: close\nTrailer: X-A\nTransfer-Encoding: chunked\n\n2\nok\n0\nX-A: 1\nX-B: 2\n\n"))
	})
	w, request := directTo(t, host)
	for _, buffered := range []bool{true, false} {
		x := request("POST", nil)
		x.buffered = buffered
		x.request.ContentLength, x.request.Trailer = -1, http.Header{"X-Sum": nil}
		x.request.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) {
			x.request.Trailer["X-Sum"] = []string{"6"}
			return 0, io.EOF
		})))
		resp, err := w.RoundTrip(x)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Trailer) != 1 || resp.Trailer.Get("X-A") != "" {
			t.Errorf("announced: %v", resp.Trailer)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Trailer.Get("X-A") != "1" || resp.Trailer.Get("X-B") != "2" {
			t.Errorf("got %v", resp.Trailer)
		}
		if req := <-seen; req.Trailer.Get("X-Sum") != "6" {
			t.Errorf("the instance got %v", req.Trailer)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestDirectKeepsAsThePolicySays(t *testing.T) {
	f := func(policy model.Connections, together, wantConns, wantIdle int) {
		t.Helper()
		policy.IdleTimeout = model.Duration(time.Minute)
		var closing atomic.Bool
		gate := make(chan struct{}, together)
		host, conns := counted(t, func(_ int, conn *net.TCPConn, reader *bufio.Reader) {
			for {
				req, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				if req.Close {
					closing.Store(true)
				}
				<-gate
				io.WriteString(conn, okResponse)
			}
		})
		w := newDirect(policy)
		defer w.CloseIdle()
		for range 3 {
			var running sync.WaitGroup
			for range together {
				running.Go(func() {
					if got := answer(w, exchangeWith(host, "GET", nil)); got != "200 ok" {
						t.Error(got)
					}
				})
			}
			before := conns.Load()
			eventually(t, func() bool { return w.idleCount() == max(0, wantIdle-together) || conns.Load() > before }, func() string { return "none sent" })
			for range together {
				gate <- struct{}{}
			}
			running.Wait()
			if n := w.idleCount(); n != wantIdle {
				t.Errorf("%+v: %d are idle, want %d", policy, n, wantIdle)
			}
		}
		if n := int(conns.Load()); n > wantConns {
			t.Errorf("%+v: %d connections, want %d", policy, n, wantConns)
		}
		if closing.Load() == (policy.KeepAlive && policy.MaxIdlePerInstance > 0) {
			t.Errorf("%+v: Connection: close is %t", policy, closing.Load())
		}
	}
	f(model.Connections{KeepAlive: true, MaxIdlePerInstance: 64}, 1, 1, 1)
	f(model.Connections{KeepAlive: true, MaxIdlePerInstance: 0}, 1, 3, 0)
	f(model.Connections{KeepAlive: false, MaxIdlePerInstance: 64}, 1, 3, 0)
}

// idleCount is how many connections are idle.
func (w *direct) idleCount() (n int) {
	for i := range w.idle.shards {
		s := &w.idle.shards[i]
		s.mu.Lock()
		for _, stack := range s.instances {
			n += len(stack.conns)
		}
		s.mu.Unlock()
	}
	return n
}

func TestDirectCloseIdle(t *testing.T) {
	closed := make(chan struct{}, 8)
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			io.WriteString(conn, okResponse)
		}
		closed <- struct{}{}
	})
	w, request := directTo(t, host)
	busy, err := w.RoundTrip(request("GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(w, request("GET", nil)); got != "200 ok" {
		t.Fatal(got)
	}
	w.CloseIdle()
	<-closed // the idle one
	if body, err := io.ReadAll(busy.Body); string(body) != "ok" {
		t.Errorf("the busy one: %q, %v", body, err)
	}
	<-closed // the busy one, now that it isn't any more
	if got := answer(w, request("GET", nil)); got != "200 ok" {
		t.Errorf("later: %s", got)
	}
	<-closed
}

// TestDirectStale lets the instance do something with an idle connection.
func TestDirectStale(t *testing.T) {
	f := func(name string, meddle func(*net.TCPConn)) {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				idle, meddled := make(chan struct{}), make(chan struct{})
				host, conns := counted(t, func(number int, conn *net.TCPConn, reader *bufio.Reader) {
					for discardRequest(reader) == nil {
						io.WriteString(conn, okResponse)
						if number == 1 {
							<-idle
							meddle(conn)
							close(meddled)
							if n, _ := io.Copy(io.Discard, reader); n > 0 {
								t.Errorf("%d bytes were sent on the connection", n)
							}
						}
					}
				})
				w, request := directTo(t, host)
				answer(w, request("GET", nil))
				close(idle)
				<-meddled
				for range 2 {
					x := request(method, nil)
					if method == "POST" {
						x = request(method, onlyReader{strings.NewReader("body")})
					}
					if got := answer(w, x); got != "200 ok" {
						t.Error(got)
					}
				}
				if n := conns.Load(); n != 2 {
					t.Errorf("%d connections, want 2", n)
				}
			})
		}
	}
	f("closes", func(conn *net.TCPConn) { conn.CloseWrite() })
	f("resets", func(conn *net.TCPConn) {
		conn.SetLinger(0)
		conn.Close()
	})
	f("answers unasked", func(conn *net.TCPConn) { io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") })
	f("says goodbye", func(conn *net.TCPConn) {
		io.WriteString(conn, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
		conn.CloseWrite()
	})
}

type onlyReader struct{ io.Reader }

// TestDirectClosedInTheMoment lets the instance close a connection on which it has just got another request.
func TestDirectClosedInTheMoment(t *testing.T) {
	f := func(method string, body func() io.Reader, healthy bool, want string, wantConns int) {
		t.Helper()
		host, conns := counted(t, func(number int, conn *net.TCPConn, reader *bufio.Reader) {
			for i := 0; discardRequest(reader) == nil; i++ {
				if i == 1 || number > 1 && !healthy {
					return
				}
				io.WriteString(conn, okResponse)
			}
		})
		w, request := directTo(t, host)
		answer(w, request("GET", nil))
		x := request(method, nil)
		if body != nil {
			x = request(method, body())
		}
		if got := answer(w, x); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
		if n := int(conns.Load()); n != wantConns {
			t.Errorf("%s: %d connections, want %d", method, n, wantConns)
		}
	}
	text := func() io.Reader { return strings.NewReader("x") }
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"} {
		want := "200 ok"
		if method == "HEAD" {
			continue // its response would be the next one's
		}
		f(method, nil, true, want, 2)
		f(method, nil, false, "read: EOF", 2)
	}
	f("POST", nil, true, "read: EOF", 1)
	f("PUT", text, true, "read: EOF", 1)
	f("POST", text, true, "read: EOF", 1)
}

func TestDirectFailsToConnect(t *testing.T) {
	host := refusing(t, 1)[0]
	closing := rawBackend(t, func(conn *net.TCPConn, _ *bufio.Reader) {
		conn.SetLinger(0)
	})
	w, _ := directTo(t, host)
	for _, host := range []string{host, closing} {
		body := &watched{Reader: strings.NewReader("x")}
		x := exchangeWith(host, "POST", nil)
		x.request.Body, x.request.ContentLength = body, 1
		_, err := w.RoundTrip(x)
		var failed *failure
		if !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if host != closing && (failed.stage != model.WhenConnect || failed.result != health.ConnectError || body.reads.Load() > 0) {
			t.Errorf("%+v, %d reads", failed, body.reads.Load())
		}
		if failed.stage == model.WhenConnect && body.reads.Load() > 0 {
			t.Error("the body was read, and nothing sent")
		}
		eventually(t, func() bool { return body.closes.Load() == 1 }, func() string { return "not closed" })
	}
}

// watched is a body that counts what is done with it.
type watched struct {
	io.Reader
	reads, closes, late atomic.Int32
	onClose             func()
}

func (b *watched) Read(p []byte) (int, error) {
	b.reads.Add(1)
	if b.closes.Load() > 0 {
		b.late.Add(1)
	}
	return b.Reader.Read(p)
}

func (b *watched) Close() error {
	if b.closes.Add(1) == 1 && b.onClose != nil {
		b.onClose()
	}
	return nil
}

func (b *watched) check(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return b.closes.Load() > 0 }, func() string { return "the body was never closed" })
	if b.closes.Load() != 1 || b.late.Load() != 0 {
		t.Errorf("closed %d times, read %d times after that", b.closes.Load(), b.late.Load())
	}
}

func TestDirectWritesHeadAndBodyAtOnce(t *testing.T) {
	got := make(chan string, 2)
	host := rawBackend(t, func(conn *net.TCPConn, _ *bufio.Reader) {
		buffer := make([]byte, 64<<10)
		for n, err := conn.Read(buffer); err == nil; n, err = conn.Read(buffer) {
			got <- string(buffer[:n])
			io.WriteString(conn, okResponse)
		}
	})
	w, request := directTo(t, host)
	for _, length := range []int64{4, -1} {
		x := request("POST", onlyReader{strings.NewReader("body")})
		x.buffered, x.request.ContentLength = true, length
		if got := answer(w, x); got != "200 ok" {
			t.Fatal(got)
		}
		if got := <-got; !strings.Contains(got, "body") {
			t.Errorf("the first segment is %q", got)
		}
	}
}

func TestDirectSendsLargeBodies(t *testing.T) {
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if err != nil {
				t.Error(err)
			}
		}
	})
	w, request := directTo(t, host)
	content := strings.Repeat("0123456789", 50_000)
	for _, buffered := range []bool{true, false} {
		for _, length := range []int64{int64(len(content)), -1, 0} { // 0 is unknown, as there is a body
			x := request("PUT", onlyReader{strings.NewReader(content)})
			x.buffered, x.request.ContentLength = buffered, length
			if got := answer(w, x); got != "200 "+content {
				t.Errorf("buffered %t, length %d: %d bytes came back", buffered, length, len(got)-4)
			}
		}
	}
	if n := w.idleCount(); n != 1 {
		t.Errorf("%d connections are idle", n)
	}
}

// TestDirectFullDuplex lets the response's body follow the request's, piece by piece.
func TestDirectFullDuplex(t *testing.T) {
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			io.WriteString(conn, lines("HTTP/1.1 200 OK\nContent-Length: 30\n\n"))
			io.Copy(struct{ io.Writer }{conn}, req.Body)
		}
	})
	w, request := directTo(t, host)
	for range 2 {
		from, to := io.Pipe()
		resp, err := w.RoundTrip(request("POST", from))
		if err != nil {
			t.Fatal(err)
		}
		piece := make([]byte, 10)
		for range 3 {
			io.WriteString(to, "0123456789")
			if _, err := io.ReadFull(resp.Body, piece); err != nil || string(piece) != "0123456789" {
				t.Fatalf("%q, %v", piece, err)
			}
		}
		to.Close()
		resp.Body.Close()
	}
}

// TestDirectEarlyResponse lets the instance answer before it has the whole body.
func TestDirectEarlyResponse(t *testing.T) {
	f := func(name, response string, body io.Reader, closing, buffered bool) {
		t.Run(name, func(t *testing.T) {
			host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
				http.ReadRequest(reader)
				io.WriteString(conn, lines(response))
				if closing {
					return // with bytes unread: a reset
				}
				io.Copy(io.Discard, reader)
			})
			w, request := directTo(t, host)
			upload := &watched{Reader: body}
			x := request("POST", upload)
			x.request.Body, x.buffered = upload, buffered
			if got := answer(w, x); got != "413 no" {
				t.Errorf("got %q", got)
			}
			upload.check(t)
			if n := w.idleCount(); n != 0 {
				t.Errorf("%d connections are kept", n)
			}
		})
	}
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	silent, _ := io.Pipe()
	t.Cleanup(func() { silent.Close() })
	f("endless", "HTTP/1.1 413 Large\nContent-Length: 2\n\nno", endless, false, false)
	f("silent", "HTTP/1.1 413 Large\nContent-Length: 2\n\nno", silent, false, false)
	f("large and closed", "HTTP/1.1 413 Large\nConnection: close\nContent-Length: 2\n\nno", io.LimitReader(endless, 64<<10), true, true)
}

// TestDirectBlockedBody fails the response while the body's Read blocks.
func TestDirectBlockedBody(t *testing.T) {
	f := func(name string, wakes bool) {
		t.Run(name, func(t *testing.T) {
			reading, release := make(chan struct{}), make(chan struct{})
			host := rawBackend(t, func(_ *net.TCPConn, reader *bufio.Reader) {
				http.ReadRequest(reader)
				<-reading
			})
			upload := &watched{Reader: readerFunc(func([]byte) (int, error) {
				close(reading)
				<-release
				return 0, io.ErrUnexpectedEOF
			})}
			if wakes {
				upload.onClose = func() { close(release) }
			} else {
				upload.onClose = func() { <-release } // as the server's own: Close waits for Read
				t.Cleanup(func() { close(release) })
			}
			w, request := directTo(t, host)
			x := request("POST", upload)
			x.request.Body = upload
			done := make(chan struct{})
			go func() {
				defer close(done)
				if got := answer(w, x); !strings.HasPrefix(got, "read: ") {
					t.Error(got)
				}
			}()
			within(t, "RoundTrip", done)
			upload.check(t)
		})
	}
	f("Close wakes Read", true)
	f("Close waits for Read", false)
}

func TestDirectBrokenBody(t *testing.T) {
	host := rawBackend(t, func(_ *net.TCPConn, reader *bufio.Reader) { io.Copy(io.Discard, reader) })
	w, request := directTo(t, host)
	f := func(body io.Reader, length int64) {
		t.Helper()
		for _, buffered := range []bool{true, false} {
			x := request("POST", body)
			x.buffered, x.request.ContentLength = buffered, length
			_, err := w.RoundTrip(x)
			var failed *failure
			var own *RequestBodyError
			if !errors.As(err, &failed) || failed.result != health.Canceled || !errors.As(err, &own) {
				t.Errorf("buffered %t: %#v", buffered, err)
			}
		}
	}
	f(readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }), -1)
	f(strings.NewReader(""), 5) // shorter than it says
}

func TestDirectExpectContinue(t *testing.T) {
	f := func(name string, instance func(conn *net.TCPConn, reader *bufio.Reader), want string, read bool) {
		for _, length := range []int64{4, -1} {
			t.Run(fmt.Sprintf("%s %d", name, length), func(t *testing.T) {
				host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
					req, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					if n := reader.Buffered(); n > 0 {
						t.Errorf("%d bytes of the body came with the head", n)
					}
					instance(conn, reader)
					io.Copy(io.Discard, req.Body)
				})
				w, request := directTo(t, host)
				upload := &watched{Reader: strings.NewReader("body")}
				x := request("POST", upload)
				x.buffered = true
				x.request.Body, x.request.ContentLength = upload, length
				x.request.Header["Expect"] = []string{"100-continue"}
				if got := answer(w, x); got != want {
					t.Error(got)
				}
				upload.check(t)
				if (upload.reads.Load() > 0) != read {
					t.Errorf("%d reads", upload.reads.Load())
				}
			})
		}
	}
	f("continue", func(conn *net.TCPConn, reader *bufio.Reader) {
		io.WriteString(conn, lines("HTTP/1.1 100 Continue\n\n"))
		reader.Peek(4)
		io.WriteString(conn, okResponse)
	}, "200 ok", true)
	f("refused", func(conn *net.TCPConn, _ *bufio.Reader) {
		io.WriteString(conn, lines("HTTP/1.1 417 No\nContent-Length: 2\n\n"))
		time.Sleep(2 * lastWords) // the body's part of the connection has ended long since
		io.WriteString(conn, "no")
	}, "417 no", false)
	f("silence", func(conn *net.TCPConn, reader *bufio.Reader) {
		reader.Peek(4)
		io.WriteString(conn, okResponse)
	}, "200 ok", true)
}

func TestDirectInformational(t *testing.T) {
	w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			io.WriteString(conn, lines("HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nLink: a\n\n")+okResponse)
		}
	}))
	var got []string
	told := func(code int, header textproto.MIMEHeader) error {
		got = append(got, fmt.Sprint(code, header.Get("Link")))
		return nil
	}
	for _, way := range []string{"exchange", "trace"} {
		got = nil
		x := request("GET", nil)
		if way == "exchange" {
			x.informational = told
		} else {
			x.ctx = httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{Got1xxResponse: told})
		}
		if got := answer(w, x); got != "200 ok" {
			t.Error(got)
		}
		if want := []string{"100", "103a"}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", way, got, want)
		}
	}
	x := request("GET", nil)
	broken := errors.New("client gone")
	x.informational = func(int, textproto.MIMEHeader) error { return broken }
	if _, err := w.RoundTrip(x); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestDirectLimitsHeads(t *testing.T) {
	f := func(name, head string, want error) {
		t.Helper()
		w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
			if discardRequest(reader) == nil {
				io.WriteString(conn, head)
				io.Copy(io.Discard, reader)
			}
		}))
		resp, err := w.RoundTrip(request("GET", nil))
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	large := "X-A: " + strings.Repeat("a", maxResponseHead/2) + "\r\n"
	f("half", "HTTP/1.1 200 OK\r\n"+large+"Content-Length: 0\r\n\r\n", nil)
	f("one long line", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 2*maxResponseHead), errLongHead)
	f("in 1xx, too", "HTTP/1.1 103 x\r\n"+large+"\r\nHTTP/1.1 200 OK\r\n"+large+"\r\n", errLongHead)
	f("many 1xx", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", maxInformational+1)+okResponse, errChatter)
	f("some 1xx", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", maxInformational)+okResponse, nil)
}

func TestDirectRefusesBadRequests(t *testing.T) {
	w, request := directTo(t, refusing(t, 1)[0])
	for name, spoil := range map[string]func(*http.Request){
		"method":         func(req *http.Request) { req.Method = "GET / HTTP/1.1\r\nX:" },
		"header name":    func(req *http.Request) { req.Header["X Y"] = []string{""} },
		"header value":   func(req *http.Request) { req.Header["X"] = []string{"a\nb"} },
		"trailer":        func(req *http.Request) { req.Trailer = http.Header{"X\n": {""}} },
		"header control": func(req *http.Request) { req.Header["X"] = []string{"\x00"} },
	} {
		upload := &watched{Reader: strings.NewReader("x")}
		x := request("POST", upload)
		x.request.Body = upload
		spoil(x.request)
		_, err := w.RoundTrip(x)
		var failed *failure
		if !errors.As(err, &failed) || failed.stage != "" || failed.result != health.Canceled {
			t.Errorf("%s: %v", name, err)
		}
		upload.check(t)
	}
	good, request := directTo(t, rawBackend(t, answering("HTTP/1.1 204 x\n\n")))
	x := request("GET", nil)
	x.request.URL.Opaque = "/\x7f"
	var failed *failure
	if _, err := good.RoundTrip(x); !errors.As(err, &failed) || failed.stage != "" {
		t.Errorf("URL: %v", err)
	}
}

// TestDirectContext ends the context at every stage; the connection must be closed at once.
func TestDirectContext(t *testing.T) {
	f := func(name, response string, body io.Reader, buffered bool, at string) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			closed := make(chan struct{})
			host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
				http.ReadRequest(reader)
				io.WriteString(conn, lines(response))
				if at == "head" {
					cancel()
				}
				if at == "write" {
					time.AfterFunc(20*time.Millisecond, cancel) // when the sockets' buffers are full, or nearly
					<-ctx.Done()
				}
				io.Copy(io.Discard, reader)
				close(closed)
			})
			w, request := directTo(t, host)
			x := request("POST", body)
			x.ctx, x.buffered = ctx, buffered
			if body == nil {
				x.request.Method = "GET"
			}
			resp, err := w.RoundTrip(x)
			if at == "body" {
				if err != nil {
					t.Fatal(err)
				}
				cancel() // and nobody reads
				within(t, "the connection's end", closed)
				_, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			within(t, "the connection's end", closed)
		})
	}
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	silent, _ := io.Pipe()
	t.Cleanup(func() { silent.Close() })
	f("head", "", nil, false, "head")
	f("head, body blocks", "", silent, false, "head")
	f("body", "HTTP/1.1 200 OK\nContent-Length: 9\n\nx", nil, false, "body")
	f("body, upload blocks", "HTTP/1.1 200 OK\nContent-Length: 9\n\nx", silent, false, "body")
	f("write", "", endless, false, "write")
	f("write by the caller", "", endless, true, "write")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, request := directTo(t, refusing(t, 1)[0])
	x := request("GET", nil)
	x.ctx = ctx
	if _, err := w.RoundTrip(x); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	w.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	x = request("GET", nil)
	x.ctx = ctx
	if _, err := w.RoundTrip(x); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v", err)
	}
}

// TestDirectContextAtTheEnd ends the context when all of the response has arrived, but isn't read yet.
func TestDirectContextAtTheEnd(t *testing.T) {
	closed := make(chan struct{})
	w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		io.WriteString(conn, okResponse)
		io.Copy(io.Discard, reader)
		close(closed)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	x := request("GET", nil)
	x.ctx = ctx
	resp, err := w.RoundTrip(x)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	within(t, "the connection's end", closed)
	if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
	if w.idleCount() != 0 {
		t.Error("a closed connection is kept")
	}
}

// TestDirectReadsBodiesToTheirLength has a body that would block where its length is reached.
func TestDirectReadsBodiesToTheirLength(t *testing.T) {
	w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			io.WriteString(conn, okResponse)
		}
	}))
	for _, buffered := range []bool{true, false} {
		from, to := io.Pipe()
		go io.WriteString(to, "body")
		x := request("POST", from)
		x.buffered, x.request.ContentLength = buffered, 4
		if got := answer(w, x); got != "200 ok" {
			t.Error(got)
		}
		if w.idleCount() != 1 {
			t.Error("the connection isn't kept")
		}
	}
}

// TestDirectCloseDuringRead closes a body that another goroutine reads.
func TestDirectCloseDuringRead(t *testing.T) {
	closed := make(chan struct{})
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
		io.Copy(io.Discard, reader)
		close(closed)
	})
	w, request := directTo(t, host)
	resp, err := w.RoundTrip(request("GET", nil))
	if err != nil {
		t.Fatal(err)
	}
	reading, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		resp.Body.Read(make([]byte, 1))
		close(reading)
		if n, err := resp.Body.Read(make([]byte, 1)); n > 0 || err == nil || err == io.EOF {
			t.Errorf("%d, %v", n, err)
		}
	}()
	<-reading
	resp.Body.Close()
	within(t, "Read", done)
	within(t, "the connection's end", closed)
	if n := w.idleCount(); n != 0 {
		t.Errorf("%d connections are kept", n)
	}
}

// TestDirectResponseInPieces reads a response whose every byte comes by itself.
func TestDirectResponseInPieces(t *testing.T) {
	text := lines("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X\n\n2\nok\n0\nX: 1\n\n")
	w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			for i := range len(text) {
				conn.Write([]byte{text[i]})
			}
		}
	}))
	for range 3 {
		if got := answer(w, request("GET", nil)); got != "200 ok" {
			t.Error(got)
		}
	}
	if n := w.idleCount(); n != 1 {
		t.Errorf("%d connections are idle", n)
	}
}
