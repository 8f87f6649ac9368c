package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// smuggled is a whole request that must never come out of the inside of another one.
const smuggled = "GET /000smuggled HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: shop\r\n\r\n"

// attack is what a client sends as one request, or as several, and what requests the instance may get of it, by target.
type attack struct {
	name, sent string
	out        []string // nil: refused
}

// attacks are what confuses proxies: where a request ends, where a header ends, and whose header it is.
func attacks() (all []attack) {
	const head = "Host: h\r\nX-Ufc-Service-Name: shop\r\n"
	f := func(name, sent string, out ...string) { all = append(all, attack{name, sent, out}) }
	post := func(name, headers, body string, out ...string) {
		f(name, "POST /000a HTTP/1.1\r\n"+head+headers+"\r\n"+body, out...)
	}
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(smuggled))
	const chunked = "Transfer-Encoding: chunked\r\n"

	// How long a body is.
	post("length and chunks", "Content-Length: 4\r\n"+chunked, chunk, "/000a")
	post("chunks and length", chunked+"Content-Length: 4\r\n", chunk, "/000a")
	post("two lengths", "Content-Length: 0\r\n"+length, smuggled)
	post("two lengths in one", "Content-Length: 0, 56\r\n", smuggled)
	post("the same length twice", length+length, smuggled, "/000a")
	for _, odd := range []string{"+5", "-5", "0x5", "5.0", "5e0", "5 5", "5;", "", "18446744073709551621", "９", "5\x0b", "\"5\""} {
		post("length "+odd, "Content-Length: "+odd+"\r\n", "hello"+smuggled)
	}
	for _, odd := range []string{
		"xchunked", "chunked, identity", "identity", "gzip, chunked", "chunked, chunked", "\"chunked\"", "chunked;x", "\x0bchunked", "chunked\x00",
		"chunked, ", ",chunked", "chu nked", "cow", "",
	} {
		post("coding "+odd, length+"Transfer-Encoding: "+odd+"\r\n", smuggled)
	}
	post("coding in capitals", "TRANSFER-encoding: CHUNKED\r\n", chunk, "/000a")
	post("coding after a tab", "Transfer-Encoding:\tchunked\r\n", chunk, "/000a")
	post("coding twice", chunked+"Transfer-Encoding: x\r\n", chunk)
	post("coding with a space", "Transfer-Encoding : chunked\r\n"+length, smuggled)
	post("coding after a line feed", length+"X: y\nTransfer-Encoding: chunked\r\n", smuggled[:len(smuggled)-4]+"\r\n\r\n", "?")
	post("coding after a carriage return", length+"X: y\rTransfer-Encoding: chunked\r\n", smuggled)
	post("folded coding", length+"X: y\r\n Transfer-Encoding: chunked\r\n", smuggled, "/000a")
	post("coding with an underline", length+"Transfer_Encoding: chunked\r\n", smuggled, "/000a")
	post("length with an underline", "Content_Length: 0\r\n"+length, smuggled, "/000a")
	f("1.0 with chunks", "POST /000a HTTP/1.0\r\n"+head+chunked+"\r\n"+chunk, "/000a")
	f("a body of GET", "GET /000a HTTP/1.1\r\n"+head+length+"\r\n"+smuggled, "/000a")
	f("a body of HEAD", "HEAD /000a HTTP/1.1\r\n"+head+length+"\r\n"+smuggled, "/000a")
	f("a body of DELETE in chunks", "DELETE /000a HTTP/1.1\r\n"+head+chunked+"\r\n"+chunk, "/000a")

	// Where a chunk ends. The instance gets the beginning at most, and never another request.
	for _, odd := range []string{"0x5", "+5", "-5", " 5", "5 x", "5\x00", "ffffffffffffffff5", "1ffffffffffffffff", "8000000000000005", "", ";", "g"} {
		post("chunk "+odd, chunked, odd+"\r\nhello\r\n0\r\n\r\n"+smuggled, "?")
	}
	post("chunk extension", chunked, "5;a=\"b\"\r\nhello\r\n0\r\n\r\n", "/000a")
	post("long chunk extension", chunked, "5;"+strings.Repeat("a", 100_000)+"\r\nhello\r\n0\r\n\r\n", "?")
	post("extensions without end", chunked, strings.Repeat("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n", 20_000)+"0\r\n\r\n", "?")
	post("chunk without its end", chunked, "5\r\nhelloGET /000smuggled HTTP/1.1\r\nHost: h\r\n\r\n", "?")
	post("line feeds in chunks", chunked, "5\nhello\n0\n\n", "?")
	post("a line feed in an extension", chunked, "5;\nGET /000smuggled HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n", "?")
	post("trailers", chunked, "0\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nX-Ufc-Service-Name: other\r\nX-Late: 1\r\n\r\n", "/000a")
	post("a request among the trailers", chunked, "0\r\nX: y\r\n"+smuggled, "?")

	// Where a header ends.
	f("line feeds alone", "GET /000a HTTP/1.1\nHost: h\nX-Ufc-Service-Name: shop\n\n", "/000a")
	f("a space before the colon", "GET /000a HTTP/1.1\r\n"+head+"X-A : b\r\n\r\n")
	f("a space in a name", "GET /000a HTTP/1.1\r\n"+head+"X A: b\r\n\r\n")
	f("no name", "GET /000a HTTP/1.1\r\n"+head+": b\r\n\r\n")
	f("no colon", "GET /000a HTTP/1.1\r\n"+head+"nonsense\r\n\r\n")
	f("an umlaut in a name", "GET /000a HTTP/1.1\r\n"+head+"X-\xc3\xa4: b\r\n\r\n")
	f("folded first", "GET /000a HTTP/1.1\r\n X: y\r\n"+head+"\r\n")
	f("a zero byte", "GET /000a HTTP/1.1\r\n"+head+"X: a\x00b\r\n\r\n")
	f("a carriage return", "GET /000a HTTP/1.1\r\n"+head+"X: a\rGET /000smuggled\r\n\r\n")
	f("a request as a header", "GET /000a HTTP/1.1\r\n"+head+"GET /000smuggled HTTP/1.1: x\r\n\r\n")

	// The request line and the host.
	f("two spaces", "GET  /000a HTTP/1.1\r\n"+head+"\r\n")
	f("a space in the target", "GET /000a /000smuggled HTTP/1.1\r\n"+head+"\r\n")
	f("a tab in the target", "GET /000a\t/000smuggled HTTP/1.1\r\n"+head+"\r\n")
	f("two versions", "GET /000a HTTP/1.1 HTTP/1.1\r\n"+head+"\r\n")
	f("an escaped end of line", "GET /000a%0d%0aX:%20y HTTP/1.1\r\n"+head+"\r\n", "/000a%0d%0aX:%20y")
	f("the other version", "GET /000a HTTP/1.2\r\n"+head+"\r\n", "?")
	f("version 3", "GET /000a HTTP/3.0\r\n"+head+"\r\n")
	f("no version", "GET /000a\r\n\r\n")
	f("a method with a space", "GE T /000a HTTP/1.1\r\n"+head+"\r\n")
	f("CONNECT", "CONNECT 10.0.0.1:22 HTTP/1.1\r\n"+head+"\r\n")
	f("a whole URL", "GET http://elsewhere.test/000a HTTP/1.1\r\n"+head+"\r\n", "/000a")
	f("two hosts", "GET /000a HTTP/1.1\r\n"+head+"Host: other\r\n\r\n")
	f("no host", "GET /000a HTTP/1.1\r\nX-Ufc-Service-Name: shop\r\n\r\n")
	f("an odd host", "GET /000a HTTP/1.1\r\nHost: h\x7f/\r\nX-Ufc-Service-Name: shop\r\n\r\n")
	f("two callees", "GET /000a HTTP/1.1\r\n"+head+"X-Ufc-Service-Name: other\r\n\r\n")
	f("a callee with an underline", "GET /000a HTTP/1.1\r\nHost: h\r\nX_Ufc_Service_Name: shop\r\n\r\n")

	// Headers that Connection names: those that hold the request together stay.
	f("hop by hop", "POST /000a HTTP/1.1\r\n"+head+"X-Ufc-Self-Service-Name: web\r\nContent-Length: 5\r\n"+
		"Connection: close, Host, Content-Length, Transfer-Encoding, X-Ufc-Service-Name, X-Ufc-Self-Service-Name\r\n\r\nhello", "/000a")
	f("hop by hop in chunks", "POST /000a HTTP/1.1\r\n"+head+chunked+"Connection: Transfer-Encoding, Host, keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "/000a")
	f("an upgrade to h2c", "GET /000a HTTP/1.1\r\n"+head+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "/000a")
	f("an upgrade that isn't taken", "GET /000a HTTP/1.1\r\n"+head+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"+strings.Replace(smuggled, "/000smuggled", "/000b", 1), "/000a", "/000b")
	f("TE", "GET /000a HTTP/1.1\r\n"+head+"TE: chunked, trailers\r\nConnection: TE\r\n\r\n", "/000a")

	// Requests after one that was answered without its body being read: the body isn't the next of them.
	for _, body := range []string{smuggled, smuggled + strings.Repeat("x", 400_000)} {
		f("a refused request with a body", fmt.Sprintf("POST /000a HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: unknown\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		f("a refused request with chunks", fmt.Sprintf("POST /000a HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: unknown\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", chunked, len(body), body))
		f("a refused expectation", fmt.Sprintf("POST /000a HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: unknown\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	f("a row of requests", "GET /0001 HTTP/1.1\r\n"+head+"\r\nPOST /0002 HTTP/1.1\r\n"+head+"Content-Length: 5\r\n\r\nhelloGET /0003 HTTP/1.1\r\n"+head+"\r\n", "/0001", "/0002", "/0003")
	return all
}

// refusedAnswer is what a client gets whose request isn't passed on: nothing, if it isn't HTTP at all.
var refusedAnswer = regexp.MustCompile(`^(HTTP/1\.[01] [45]\d\d .*|$)`)

// One request in is exactly one request out, as RFC 9112 writes it, or it is refused.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	instance := newRecorder(t)
	m := startAgent(t, documents("shop", "protocol: http\ntimeouts: {normal: {read: 2s}}", instance.address))
	for n, attack := range attacks() {
		// A path of its own for each, since what an instance gets of a broken request it may get late; of the same length, since
		// it stands inside of bodies, too.
		path := func(text string) string { return strings.ReplaceAll(text, "/000", fmt.Sprintf("/%03d", n)) }
		answers := m.exchange(path(attack.sent))
		requests, wrong := instance.of(path("/000"))
		var targets, want []string
		for _, request := range requests {
			targets = append(targets, request.target())
			if !slices.Contains(request.header, "X-Ufc-Service-Name: shop") {
				t.Errorf("%s: the instance got the header %q", attack.name, request.header)
			}
		}
		for _, target := range attack.out {
			want = append(want, path(target))
		}
		switch {
		case slices.Contains(targets, path("/000smuggled")):
			t.Errorf("%s: smuggled; the instance got %q", attack.name, targets)
		case slices.Equal(attack.out, []string{"?"}):
			if len(targets) > 1 {
				t.Errorf("%s: the instance got %q", attack.name, targets)
			}
		case !slices.Equal(targets, want) || len(wrong) > 0:
			t.Errorf("%s: the instance got %q, want %q, and %q; the client\n%.500s", attack.name, targets, want, wrong, answers)
		}
		if ok := strings.Count(answers, "HTTP/1.1 200 ") + strings.Count(answers, "HTTP/1.0 200 "); ok > len(targets) {
			t.Errorf("%s: %d answers to %d requests:\n%s", attack.name, ok, len(targets), answers)
		}
		if len(attack.out) == 0 && !refusedAnswer.MatchString(answers) {
			t.Errorf("%s: isn't refused, but answered\n%.500q", attack.name, answers)
		}
	}
	// The connections to the instance are as good as before.
	for n := range 50 {
		path := fmt.Sprintf("/after-%d", n)
		if a := m.ask("shop", path); a.status != http.StatusOK || a.header.Get("X-Target") != path {
			t.Errorf("%s is answered %d, %q", path, a.status, a.header.Get("X-Target"))
		}
	}
	if _, wrong := instance.of("/after"); len(wrong) > 0 {
		t.Errorf("afterwards the instance got %q", wrong)
	}
}

// A client that stops in the middle of a body is answered at some time. What it sends then is the rest of that body, and no
// request.
func TestSmugglingBySlowness(t *testing.T) {
	t.Parallel()
	var smuggling atomic.Int64
	address := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "smuggled") {
			smuggling.Add(1)
		}
		if r.URL.Path == "/early" { // which is answered without its body
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			w.WriteHeader(http.StatusOK)
			_ = control.Flush()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})})
	m := newMesh(t)
	m.startCaddy(replace(t, "protocols h1 h2 h2c", "protocols h1 h2 h2c\n\t\ttimeouts {\n\t\t\tread_body_idle 1s\n\t\t}"))
	m.apply(documents("shop", "protocol: http\ntimeouts: {normal: {read: 3s}}", address))
	m.untilCurrent()
	f := func(name, target, framing, begin, status string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := raw(t, m.agent)
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: shop\r\n%s\r\n\r\n%s", target, framing, begin)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			answer := make([]byte, 4096)
			n, err := conn.Read(answer)
			if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 "+status) {
				t.Errorf("it is answered %q, %v", answer[:n], err)
			}
			time.Sleep(2 * time.Second) // longer than the server waits for the rest
			_, _ = io.WriteString(conn, smuggled)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			if more, _ := io.ReadAll(conn); smuggling.Load() > 0 || strings.Contains(string(more), "HTTP/1.1 200 ") {
				t.Errorf("%d requests came out of it, and the answer %q", smuggling.Load(), more)
			}
		})
	}
	length := fmt.Sprintf("Content-Length: %d", len(smuggled)+1)
	f("a slow body", "/", length, "x", "408 ")
	f("a slow body in chunks", "/", "Transfer-Encoding: chunked", "1\r\nx\r\n", "408 ")
	f("an early answer", "/early", length, "x", "200 ")
	f("an early answer to chunks", "/early", "Transfer-Encoding: chunked", "1\r\nx\r\n", "200 ")
	f("no instance", "/", strings.Replace(length, "Content", "X-Ufc-Service-Name: unknown\r\nContent", 1), "x", "4")
	f("a report", "/bypass?command=callback", length, "x", "4")
}

// exchange sends bytes to the agent, and returns all that comes back until nothing has for a while.
func (m *mesh) exchange(sent string) string {
	m.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.agent))
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, sent) }() // some are answered before they have been read
	var text strings.Builder
	reader := bufio.NewReader(conn)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		line, err := reader.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			return text.String()
		}
	}
}
