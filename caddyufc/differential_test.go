package caddyufc_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
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

// protocols are what a callee's instances may speak.
var protocols = []string{"http", "h2c", "https"}

// serveInstance starts an instance that speaks a protocol.
func serveInstance(t *testing.T, protocol string, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	switch protocol {
	case "https":
		server.EnableHTTP2 = true
		server.StartTLS()
	case "h2c":
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
	default:
		server.Start()
	}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// reverseProxy is the directive that does what ufc does for an instance.
func reverseProxy(protocol, address string) string {
	switch protocol {
	case "https": // of its own accord it would name the upstream in Host, as ufc does if the Service says so
		return "reverse_proxy https://" + address + ` {
		header_up Host {hostport}
		transport http {
			tls_insecure_skip_verify
			compression off
		}
	}`
	case "h2c":
		return "reverse_proxy " + address + " {\n\t\ttransport http {\n\t\t\tversions h2c\n\t\t\tcompression off\n\t\t}\n\t}"
	default:
		return "reverse_proxy " + address + " {\n\t\ttransport http {\n\t\t\tcompression off\n\t\t}\n\t}"
	}
}

// document is a Service whose instances speak a protocol, and which tries nothing again and bans nobody.
func document(name, protocol string) string {
	return fmt.Sprintf("kind: Service\nname: %s\nprotocol: %s\ntls: {skip_verify: %t}\nretries: {normal: {attempts: 0}}\n"+
		"ban: {requests: {failures: 64, of: 64}}\n", name, protocol, protocol == "https")
}

// sideBySide starts ufc and reverse_proxy before instances with the same handler. The sites may have more directives.
func sideBySide(t *testing.T, protocol, global, directives string, handler http.HandlerFunc) []side {
	t.Helper()
	recording := func(to chan *received) string {
		return serveInstance(t, protocol, func(w http.ResponseWriter, r *http.Request) {
			record(to, w, r)
			handler(w, r)
		})
	}
	prefix := newPrefix()
	ours := side{"ufc", freeAddress(t), make(chan *received, 100)}
	theirs := side{"reverse_proxy", freeAddress(t), make(chan *received, 100)}
	apply(t, prefix, document("web", protocol)+instances("web", recording(ours.backend)))
	load(t, ufcOption(prefix, "")+global, site(ours.address, directives+"ufc web")+
		site(theirs.address, directives+reverseProxy(protocol, recording(theirs.backend))))
	answers(t, "http://"+ours.address+"/ready", http.StatusOK)
	<-ours.backend
	return []side{ours, theirs}
}

// record notes a request with its body, unless the path says that the handler reads that itself.
func record(to chan *received, w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = []string{"Thu, 01 Jan 1970 00:00:00 GMT"}
	if strings.HasPrefix(r.URL.Path, "/unread") {
		return
	}
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
}

// last returns what the instance got last.
func (s side) last() string {
	select {
	case received := <-s.backend:
		return strings.ReplaceAll(received.String(), s.address, "ADDRESS")
	default:
		return "nothing"
	}
}

// forget drops what the instance got so far: a request that broke off on a kept connection may have come twice.
func (s side) forget() {
	for len(s.backend) > 0 {
		<-s.backend
	}
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

// answerOddly answers by the path, in the ways in which responses differ.
func answerOddly(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	switch r.URL.Path {
	case "/headers":
		header["X-Many"] = []string{"a", "b", ""}
		header["Set-Cookie"] = []string{"a=1; Path=/", "b=2"}
		header.Set("X-Latin", "caf\xe9")
		header.Set("Location", "http://elsewhere.test/../x")
		header.Set("Content-Encoding", "gzip")
		header.Set("Server", "instance")
		header.Set("Via", "1.1 before")
		header.Set("Warning", "199 - old")
		if r.ProtoMajor == 1 { // HTTP/2 has none of them
			header.Set("Connection", "X-Hop")
			header.Set("X-Hop", "1")
			header.Set("Keep-Alive", "timeout=5")
		}
		header.Set("Alt-Svc", "h3")
		header.Set("Proxy-Authenticate", "Basic")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	case "/trailers":
		header.Set("Trailer", "X-Announced")
		_, _ = io.WriteString(w, "body")
		header.Set("X-Announced", "1")
		header.Set(http.TrailerPrefix+"X-Late", "2")
	case "/only-trailers":
		header.Set("Trailer", "X-First")
		w.WriteHeader(http.StatusOK)
		header.Set("X-First", "1")
	case "/early":
		header.Set("Link", "</style.css>; rel=preload")
		header.Set("Keep-Alive", "timeout=5")
		w.WriteHeader(http.StatusEarlyHints)
		header.Set("Link", "</script.js>; rel=preload")
		w.WriteHeader(http.StatusProcessing)
		header.Del("Link")
		header.Del("Keep-Alive")
		_, _ = io.WriteString(w, "late")
	case "/204":
		w.WriteHeader(http.StatusNoContent)
	case "/304":
		header.Set("ETag", `"x"`)
		w.WriteHeader(http.StatusNotModified)
	case "/error":
		http.Error(w, "broken", http.StatusInternalServerError)
	case "/empty":
		w.WriteHeader(http.StatusAccepted)
	case "/untyped":
		header["Content-Type"] = nil
		_, _ = io.WriteString(w, "<html>")
	case "/big":
		header.Set("Content-Length", "1000000") // the sizes of chunks are chance
		for range 100 {
			_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
		}
	case "/many":
		for n := range 300 {
			header.Set(fmt.Sprintf("X-%d", n), strings.Repeat("v", 100))
		}
	case "/sized":
		header.Set("Content-Length", "5")
		_, _ = io.WriteString(w, "sized")
	}
}

const host = "Host: example.test\r\nConnection: close\r\n"

// oddRequests are the ways in which requests differ.
var oddRequests = map[string]string{
	"plain":            "GET /?q=1&q=%20 HTTP/1.1\r\n" + host + "\r\n",
	"encoded path":     "GET /a%2Fb//c/../d?x HTTP/1.1\r\n" + host + "\r\n",
	"odd path":         "GET /a;b=%c3%a4'(!)*%7e?x=%zz&;=1? HTTP/1.1\r\n" + host + "\r\n",
	"absolute":         "GET http://other.test/x HTTP/1.1\r\n" + host + "\r\n",
	"host with port":   "GET / HTTP/1.1\r\nHost: example.test:8080\r\nConnection: close\r\n\r\n",
	"no host":          "GET / HTTP/1.0\r\n\r\n",
	"kept alive 1.0":   "GET /sized HTTP/1.0\r\nHost: example.test\r\n\r\n",
	"head":             "HEAD /headers HTTP/1.1\r\n" + host + "\r\n",
	"head of sized":    "HEAD /sized HTTP/1.1\r\n" + host + "\r\n",
	"head of trailers": "HEAD /trailers HTTP/1.1\r\n" + host + "\r\n",
	"head of 304":      "HEAD /304 HTTP/1.1\r\n" + host + "\r\n",
	"options":          "OPTIONS * HTTP/1.1\r\n" + host + "\r\n",
	"trace":            "TRACE / HTTP/1.1\r\n" + host + "Max-Forwards: 1\r\n\r\n",
	"user agent":       "GET / HTTP/1.1\r\n" + host + "User-Agent: me\r\nAccept-Encoding: br\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n",
	"empty values":     "GET / HTTP/1.1\r\n" + host + "User-Agent:\r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice:\r\nx-lower: caf\xe9\r\n\r\n",
	"long header":      "GET / HTTP/1.1\r\n" + host + "X-Long: " + strings.Repeat("x", 12_000) + "\r\n\r\n",
	"response headers": "GET /headers HTTP/1.1\r\n" + host + "\r\n",
	"hop by hop": "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close, X-Mine , ,x-other\r\nX-Mine: 1\r\nX-Other: 2\r\n" +
		"X-Kept: 3\r\nKeep-Alive: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nAuthorization: y\r\nTe: trailers, deflate\r\n\r\n",
	"hop by hop twice": "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: X-Mine\r\nConnection: close\r\nX-Mine: 1\r\nTe: deflate\r\n\r\n",
	"forged": "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Host: bank.test\r\nX-Forwarded-Host: a.test\r\nVia: 1.0 before\r\nForwarded: for=1.2.3.4\r\nX-Real-Ip: 1.2.3.4\r\n\r\n",
	"length":           "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody",
	"empty body":       "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
	"no length":        "POST / HTTP/1.1\r\n" + host + "\r\n",
	"get with body":    "GET / HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody",
	"delete with body": "DELETE / HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\nbody",
	"chunks":           "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
	"no chunks":        "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"sent trailers":    "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-Sum, X-None\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 9\r\n\r\n",
	"trailers":         "GET /trailers HTTP/1.1\r\n" + host + "Te: trailers\r\n\r\n",
	"only trailers":    "GET /only-trailers HTTP/1.1\r\n" + host + "Te: trailers\r\n\r\n",
	"early hints":      "GET /early HTTP/1.1\r\n" + host + "\r\n",
	"no content":       "GET /204 HTTP/1.1\r\n" + host + "\r\n",
	"not modified":     "GET /304 HTTP/1.1\r\n" + host + "\r\n",
	"error":            "GET /error HTTP/1.1\r\n" + host + "\r\n",
	"empty":            "GET /empty HTTP/1.1\r\n" + host + "\r\n",
	"untyped":          "GET /untyped HTTP/1.1\r\n" + host + "\r\n",
	"big":              "GET /big HTTP/1.1\r\n" + host + "\r\n",
	"many headers":     "GET /many HTTP/1.1\r\n" + host + "\r\n",
	"sized":            "GET /sized HTTP/1.1\r\n" + host + "\r\n",
	"smuggle":          "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
	"two lengths":      "POST / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
	"odd header":       "GET / HTTP/1.1\r\n" + host + "X_Under: 1\r\nx.dot: 2\r\n\r\n",
	"range":            "GET /sized HTTP/1.1\r\n" + host + "Range: bytes=0-1\r\nIf-None-Match: \"x\"\r\n\r\n",
	"unknown method":   "BREW / HTTP/1.1\r\n" + host + "\r\n",
}

// upgradeUnmet asks for a protocol that the instance doesn't take up. HTTP/2 knows no such request.
const upgradeUnmet = "GET / HTTP/1.1\r\nHost: example.test\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"

// compareBytes sends the same bytes through both sides, and compares what the instances and the clients get.
func compareBytes(t *testing.T, sides []side, requests map[string]string) {
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			responses := [2]string{sides[0].send(t, request), sides[1].send(t, request)}
			if gots := [2]string{sides[0].last(), sides[1].last()}; gots[0] != gots[1] {
				t.Errorf("the instance of ufc got\n%s\n\nthat of reverse_proxy\n%s", gots[0], gots[1])
			}
			if responses[0] != responses[1] {
				t.Errorf("the client of ufc got\n%.1000s\n\nthat of reverse_proxy\n%.1000s", responses[0], responses[1])
			}
		})
	}
}

// TestLikeReverseProxy compares ufc and reverse_proxy, byte by byte.
func TestLikeReverseProxy(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			sides := sideBySide(t, protocol, "", "header X-Own 1\n\t", answerOddly)
			compareBytes(t, sides, oddRequests)
			if protocol != "h2c" {
				compareBytes(t, sides, map[string]string{"upgrade unmet": upgradeUnmet})
			}
		})
	}
	t.Run("trusted proxy", func(t *testing.T) {
		global := "servers {\n\t\ttrusted_proxies static private_ranges\n\t}\n"
		compareBytes(t, sideBySide(t, "http", global, "", answerOddly), oddRequests)
	})
}
