package caddyufc_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
)

// received is a request as a backend got it.
type received struct {
	line, host, body string // host is "INSTANCE" if it is the instance's own address
	length           int64
	encoding         []string
	header, trailer  http.Header
}

func (r *received) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nhost %s\nlength %d %v\n", r.line, r.host, r.length, r.encoding)
	write := func(kind string, header http.Header) {
		for _, name := range slices.Sorted(func(yield func(string) bool) {
			for name := range header {
				if !strings.HasPrefix(name, "X-Ufc-") && !yield(name) {
					return
				}
			}
		}) {
			fmt.Fprintf(&b, "%s %s: %q\n", kind, name, header[name])
		}
	}
	write("header", r.header)
	write("trailer", r.trailer)
	return b.String() + "body " + r.body
}

// side is one of the two proxies that are compared.
type side struct {
	name, address string
	backend       chan *received
}

// sideBySide starts ufc and reverse_proxy before backends with the same handler.
func sideBySide(t *testing.T, global string, handler http.HandlerFunc) []side {
	t.Helper()
	recording := func(to chan *received) string {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = []string{"Thu, 01 Jan 1970 00:00:00 GMT"}
			got := &received{
				line: r.Method + " " + r.RequestURI + " " + r.Proto, host: r.Host, length: r.ContentLength,
				encoding: r.TransferEncoding, header: r.Header,
			}
			if own := r.Context().Value(http.LocalAddrContextKey).(net.Addr); got.host == own.String() {
				got.host = "INSTANCE"
			}
			body, err := io.ReadAll(r.Body)
			if got.body = string(body); err != nil {
				got.body += " " + err.Error()
			}
			got.trailer = r.Trailer
			to <- got
			handler(w, r)
		})
	}
	prefix := newPrefix()
	ours := side{"ufc", freeAddress(t), make(chan *received, 10)}
	theirs := side{"reverse_proxy", freeAddress(t), make(chan *received, 10)}
	apply(t, prefix, instances("web", recording(ours.backend)))
	load(t, ufcOption(prefix, "")+global, site(ours.address, "ufc web")+site(theirs.address,
		"reverse_proxy "+recording(theirs.backend)+" {\n\t\ttransport http {\n\t\t\tcompression off\n\t\t}\n\t}"))
	answers(t, "http://"+ours.address, http.StatusOK)
	<-ours.backend
	return []side{ours, theirs}
}

// dial connects to a proxy, for at most some seconds.
func (s side) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// send writes a request as it is, and returns all that comes back until the connection is closed.
func (s side) send(t *testing.T, request string) string {
	t.Helper()
	conn := s.dial(t)
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("%s: %v after %q", s.name, err, response)
	}
	return strings.ReplaceAll(string(response), s.address, "ADDRESS")
}

// TestLikeReverseProxy sends the same bytes through ufc and reverse_proxy, and compares what the instances and the clients
// get.
func TestLikeReverseProxy(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/headers":
			w.Header()["X-Many"] = []string{"a", "b"}
			w.Header().Set("Server", "instance")
			w.Header().Set("Via", "1.1 before")
			w.Header().Set("Connection", "X-Hop")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("Keep-Alive", "timeout=5")
			w.Header().Set("Alt-Svc", "h3")
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "short and stout")
		case "/trailers":
			w.Header().Set("Trailer", "X-Announced")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Announced", "1")
			w.Header().Set(http.TrailerPrefix+"X-Late", "2")
		case "/early":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Link", "</script.js>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			_, _ = io.WriteString(w, "late")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/untyped":
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		case "/big":
			w.Header().Set("Content-Length", "1000000") // the sizes of chunks are chance
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
			}
		case "/sized":
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "sized")
		}
	}
	const host = "Host: example.test\r\nConnection: close\r\n"
	requests := map[string]string{
		"plain":            "GET /?q=1&q=%20 HTTP/1.1\r\n" + host + "\r\n",
		"encoded path":     "GET /a%2Fb//c/../d?x HTTP/1.1\r\n" + host + "\r\n",
		"absolute":         "GET http://other.test/x HTTP/1.1\r\n" + host + "\r\n",
		"no host":          "GET / HTTP/1.0\r\n\r\n",
		"head":             "HEAD /headers HTTP/1.1\r\n" + host + "\r\n",
		"options":          "OPTIONS * HTTP/1.1\r\n" + host + "\r\n",
		"user agent":       "GET / HTTP/1.1\r\n" + host + "User-Agent: me\r\nAccept-Encoding: br\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
		"response headers": "GET /headers HTTP/1.1\r\n" + host + "\r\n",
		"hop by hop": "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close, X-Mine , ,x-other\r\nX-Mine: 1\r\nX-Other: 2\r\n" +
			"X-Kept: 3\r\nKeep-Alive: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTe: trailers, deflate\r\n\r\n",
		"forged": "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n" +
			"X-Forwarded-Host: bank.test\r\nVia: 1.0 before\r\nForwarded: for=1.2.3.4\r\n\r\n",
		"length":         "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody",
		"empty body":     "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
		"chunks":         "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"sent trailers":  "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 9\r\n\r\n",
		"trailers":       "GET /trailers HTTP/1.1\r\n" + host + "Te: trailers\r\n\r\n",
		"early hints":    "GET /early HTTP/1.1\r\n" + host + "\r\n",
		"no content":     "GET /204 HTTP/1.1\r\n" + host + "\r\n",
		"not modified":   "GET /304 HTTP/1.1\r\n" + host + "\r\n",
		"untyped":        "GET /untyped HTTP/1.1\r\n" + host + "\r\n",
		"big":            "GET /big HTTP/1.1\r\n" + host + "\r\n",
		"sized":          "GET /sized HTTP/1.1\r\n" + host + "\r\n",
		"upgrade unmet":  "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n",
		"smuggle":        "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
		"odd header":     "GET / HTTP/1.1\r\n" + host + "X_Under: 1\r\nx.dot: 2\r\n\r\n",
		"range":          "GET /sized HTTP/1.1\r\n" + host + "Range: bytes=0-1\r\nIf-None-Match: \"x\"\r\n\r\n",
		"unknown method": "BREW / HTTP/1.1\r\n" + host + "\r\n",
	}
	compare := func(t *testing.T, sides []side) {
		for name, request := range requests {
			t.Run(name, func(t *testing.T) {
				var gots, responses []string
				for _, side := range sides {
					response := side.send(t, request)
					responses = append(responses, response)
					got := "nothing"
					select {
					case received := <-side.backend:
						got = strings.ReplaceAll(received.String(), side.address, "ADDRESS")
					default:
					}
					gots = append(gots, got)
				}
				if gots[0] != gots[1] {
					t.Errorf("the instance of ufc got\n%s\n\nthat of reverse_proxy\n%s", gots[0], gots[1])
				}
				if responses[0] != responses[1] {
					t.Errorf("the client of ufc got\n%.1000s\n\nthat of reverse_proxy\n%.1000s", responses[0], responses[1])
				}
			})
		}
	}
	t.Run("stranger", func(t *testing.T) { compare(t, sideBySide(t, "", handler)) })
	t.Run("trusted proxy", func(t *testing.T) {
		compare(t, sideBySide(t, "servers {\n\t\ttrusted_proxies static private_ranges\n\t}\n", handler))
	})
}

// TestUnlikeReverseProxy is where ufc differs, and why.
func TestUnlikeReverseProxy(t *testing.T) {
	ours := sideBySide(t, "", func(http.ResponseWriter, *http.Request) {})[0]
	const post = "POST / HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n"

	// reverse_proxy sends both the server's and the instance's 100 Continue.
	response := ours.send(t, post+"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
	if got := <-ours.backend; got.body != "body" || strings.Count(response, "100 Continue") != 1 {
		t.Errorf("the instance got %s\nthe client %s", got, response)
	}
	// reverse_proxy answers 502, as if the instance had failed.
	response = ours.send(t, post+"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzzz\r\n")
	if !strings.HasPrefix(response, "HTTP/1.1 400 ") {
		t.Errorf("a broken body is answered %s", response)
	}
}

// TestStreamsLikeReverseProxy lets client and instance answer each other in turn: whatever is held back in between stops
// both.
func TestStreamsLikeReverseProxy(t *testing.T) {
	next := make(chan struct{})
	gone := make(chan struct{}, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for n := range 3 {
				fmt.Fprintf(w, "data: %d\n\n", n)
				_ = controller.Flush()
				<-next
			}
		case "/wait":
			w.Header().Set("Content-Type", "text/event-stream")
			_ = controller.Flush()
			<-r.Context().Done()
			gone <- struct{}{}
		case "/break":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "not all")
			_ = controller.Flush()
			panic(http.ErrAbortHandler)
		case "/tunnel":
			conn, buffered, err := controller.Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ECHO\r\nX-Ok: 1\r\n\r\n")
			line, _ := buffered.ReadString('\n')
			_, _ = io.WriteString(conn, "heard "+line)
			rest, _ := io.ReadAll(buffered) // until the client closes its half
			_, _ = io.WriteString(conn, "then "+string(rest))
		}
	}
	for _, side := range sideBySide(t, "", handler) {
		get := func(path, headers string) (net.Conn, *bufio.Reader) {
			conn := side.dial(t)
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: example.test\r\n%s\r\n", path, headers)
			return conn, bufio.NewReader(conn)
		}
		t.Run(side.name+"/events", func(t *testing.T) {
			_, reader := get("/events", "Connection: close\r\n")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			body := bufio.NewReader(resp.Body)
			for n := range 3 {
				line, err := body.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d\n", n) {
					t.Fatalf("event %d: %q %v", n, line, err)
				}
				_, _ = body.ReadString('\n')
				next <- struct{}{}
			}
			if _, err := body.ReadByte(); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
		t.Run(side.name+"/client abort", func(t *testing.T) {
			conn, reader := get("/wait", "")
			if _, err := http.ReadResponse(reader, nil); err != nil {
				t.Fatal(err)
			}
			conn.Close()
			select {
			case <-gone:
			case <-time.After(5 * time.Second):
				t.Error("the instance doesn't learn that the client has gone")
			}
		})
		t.Run(side.name+"/instance abort", func(t *testing.T) {
			_, reader := get("/break", "")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "not all" || err == nil {
				t.Errorf("a response that broke off reads as %q %v", body, err)
			}
		})
		t.Run(side.name+"/upgrade", func(t *testing.T) {
			conn, reader := get("/tunnel", "Connection: Upgrade\r\nUpgrade: Echo\r\n")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(resp.Header.Get("Upgrade"), "echo") ||
				resp.Header.Get("Connection") != "Upgrade" || resp.Header.Get("X-Ok") != "1" {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
			fmt.Fprint(conn, "one\n")
			if line, err := reader.ReadString('\n'); line != "heard one\n" {
				t.Errorf("%q %v", line, err)
			}
			fmt.Fprint(conn, "two")
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(reader); string(rest) != "then two" {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
}

// TestProtocolsLikeReverseProxy compares what HTTP/2 without TLS gets with what HTTP/1.1 gets.
func TestProtocolsLikeReverseProxy(t *testing.T) {
	sides := sideBySide(t, "servers {\n\t\tprotocols h1 h2 h2c\n\t}\n", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "answer")
		w.Header().Set("X-Sum", "6")
	})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	var gots []string
	for _, side := range sides {
		req, err := http.NewRequest(http.MethodPost, "http://"+side.address+"/x", io.NopCloser(strings.NewReader("question")))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "example.test"
		req.Trailer = http.Header{"X-Mine": {"8"}}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		resp.Body.Close()
		gots = append(gots, fmt.Sprintf("%s\n%s %q %s %v %v", <-side.backend, resp.Proto, body, resp.Status,
			textproto.MIMEHeader(resp.Header), resp.Trailer))
	}
	if gots[0] != gots[1] {
		t.Errorf("ufc:\n%s\n\nreverse_proxy:\n%s", gots[0], gots[1])
	}
	if !strings.Contains(gots[0], "HTTP/2.0") || !strings.Contains(gots[0], "X-Mine") {
		t.Errorf("this compares nothing: %s", gots[0])
	}
}
