package caddyufc_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// listenRaw serves each connection by a function, and returns the address.
func listenRaw(t *testing.T, serve func(conn *net.TCPConn, reader *bufio.Reader)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn), bufio.NewReader(conn))
			}()
		}
	}()
	return listener.Addr().String()
}

// rawSides starts ufc and reverse_proxy before instances of HTTP/1.1 that write what they like.
func rawSides(t *testing.T, serve func(conn *net.TCPConn, reader *bufio.Reader)) []side {
	t.Helper()
	prefix := newPrefix()
	ours, theirs := side{name: "ufc", address: freeAddress(t)}, side{name: "reverse_proxy", address: freeAddress(t)}
	apply(t, prefix, document("web", "http")+instances("web", listenRaw(t, serve)))
	load(t, ufcOption(prefix, ""), site(ours.address, "ufc web")+site(theirs.address, reverseProxy("http", listenRaw(t, serve))))
	eventually(t, func() error {
		answer, err := tryAsk(t.Context(), http.DefaultClient, "GET", "http://"+ours.address, "")
		if err == nil && answer.StatusCode == http.StatusServiceUnavailable {
			err = errors.New("no documents yet")
		}
		return err
	})
	return []side{ours, theirs}
}

const date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n"

// rawResponses are the ways in which the bytes of a response differ. After them the connection is closed.
var rawResponses = map[string]string{
	"1.0":                  "HTTP/1.0 200 OK\r\n" + date + "\r\nbody",
	"1.0 with length":      "HTTP/1.0 200 OK\r\n" + date + "Content-Length: 4\r\nConnection: keep-alive\r\n\r\nbody",
	"no length":            "HTTP/1.1 200 OK\r\n" + date + "\r\nbody",
	"says close":           "HTTP/1.1 200 OK\r\n" + date + "Connection: close\r\nContent-Length: 4\r\n\r\nbody",
	"odd case and space":   "HTTP/1.1 200 OK\r\n" + date + "content-LENGTH: 4\r\nx-odd-CASE: \t v \t \r\nX-Empty:\r\n\r\nbody",
	"line feeds":           "HTTP/1.1 200 OK\n" + strings.ReplaceAll(date, "\r", "") + "Content-Length: 4\n\nbody",
	"folded":               "HTTP/1.1 200 OK\r\n" + date + "X-Folded: a\r\n  b\r\nContent-Length: 4\r\n\r\nbody",
	"chunk extensions":     "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0\r\nX-Late: 1\r\n\r\n",
	"own reason":           "HTTP/1.1 200 Fine\r\n" + date + "Content-Length: 0\r\n\r\n",
	"no reason":            "HTTP/1.1 200\r\n" + date + "Content-Length: 0\r\n\r\n",
	"unknown status":       "HTTP/1.1 299 Odd\r\n" + date + "Content-Length: 0\r\n\r\n",
	"high status":          "HTTP/1.1 999 Odd\r\n" + date + "Content-Length: 0\r\n\r\n",
	"long status":          "HTTP/1.1 1000 Odd\r\n" + date + "Content-Length: 0\r\n\r\n",
	"same length twice":    "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
	"two lengths":          "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\nContent-Length: 3\r\n\r\nbody",
	"length and chunks":    "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	"odd encoding":         "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
	"negative length":      "HTTP/1.1 200 OK\r\n" + date + "Content-Length: -4\r\n\r\nbody",
	"no number":            "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 4x\r\n\r\nbody",
	"more than its length": "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nbody",
	"less than its length": "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 20\r\n\r\nbody",
	"cut chunk":            "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n9\r\nbody",
	"cut after a chunk":    "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
	"bad chunk":            "HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nzz\r\n\r\n",
	"204 with body":        "HTTP/1.1 204 No Content\r\n" + date + "Content-Length: 4\r\n\r\nbody",
	"304 with length":      "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 4\r\nETag: \"x\"\r\n\r\n",
	"early hints": "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n" +
		"HTTP/1.1 199 Odd\r\n\r\nHTTP/1.1 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nbody",
	"hops":          "HTTP/1.1 200 OK\r\n" + date + "Connection: close, X-A\r\nX-A: 1\r\nTe: x\r\nUpgrade: y\r\nProxy-Connection: z\r\nContent-Length: 4\r\n\r\nbody",
	"no HTTP":       "SSH-2.0-OpenSSH_9.9\r\n",
	"nothing":       "",
	"cut head":      "HTTP/1.1 200 OK\r\nDate: x",
	"no colon":      "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
	"space in name": "HTTP/1.1 200 OK\r\n" + date + "X-A : 1\r\nContent-Length: 4\r\n\r\nbody",
	"other version": "HTTP/3.7 200 OK\r\n" + date + "Content-Length: 4\r\n\r\nbody",
}

// TestRawResponsesLikeReverseProxy compares what clients get of odd and of broken responses.
func TestRawResponsesLikeReverseProxy(t *testing.T) {
	sides := rawSides(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if req, err := http.ReadRequest(reader); err == nil {
			_, _ = io.WriteString(conn, rawResponses[req.Header.Get("X-Case")])
		}
	})
	for name := range rawResponses {
		t.Run(name, func(t *testing.T) {
			var got [2]string
			for range 3 { // reverse_proxy may find out too late that the instance has closed a kept connection
				for n := range got {
					got[n] = sides[n].send(t, "GET / HTTP/1.1\r\n"+host+"X-Case: "+name+"\r\n\r\n")
					if strings.HasPrefix(got[n], "HTTP/1.1 502 ") {
						got[n] = "502" // how a refusal is put is UFC's own
					}
				}
				if got[0] == got[1] {
					break
				}
			}
			if got[0] != got[1] {
				t.Errorf("the client of ufc got\n%s\n\nthat of reverse_proxy\n%s", got[0], got[1])
			}
		})
	}
}

// TestTunnelsLikeReverseProxy compares what both ends of a tunnel see.
func TestTunnelsLikeReverseProxy(t *testing.T) {
	for _, protocol := range []string{"http", "https"} { // HTTP/2 knows no upgrade
		sides := sideBySide(t, protocol, "", "", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ready" {
				return
			}
			conn, buffered, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX-Ok: 1\r\n"+
				date+"Sec-Websocket-Accept: a\r\nKeep-Alive: 1\r\n\r\n")
			line, _ := buffered.ReadString('\n')
			_, _ = io.WriteString(conn, "heard "+line)
			rest, err := io.ReadAll(buffered) // until the client closes its half
			_, _ = fmt.Fprintf(conn, "then %s %v", rest, err)
		})
		for _, headers := range []string{
			"Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: p\r\n", "Upgrade: WEBSOCKET\r\nOrigin: x\r\n",
		} {
			var saw [2]string
			for n := range saw {
				saw[n] = throughEcho(t, sides[n], headers)
				saw[n] += sides[n].last()
			}
			if saw[0] != saw[1] || !strings.Contains(saw[0], "then two <nil>") {
				t.Errorf("%s: the client of ufc saw\n%s\n\nthat of reverse_proxy\n%s", protocol, saw[0], saw[1])
			}
		}
	}
}

// throughEcho talks through a tunnel, and returns all that came back. The first line is sent along with the request.
func throughEcho(t *testing.T, side side, headers string) string {
	t.Helper()
	conn := side.dial(t)
	fmt.Fprintf(conn, "GET /tunnel HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\n%s\r\none\n", headers)
	reader, text := bufio.NewReader(conn), ""
	for !strings.HasSuffix(text, "heard one\n") {
		line, err := reader.ReadString('\n')
		if text += line; err != nil {
			return text + err.Error()
		}
	}
	fmt.Fprint(conn, "two")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(reader)
	return fmt.Sprintf("%s%s %v\n", text, rest, err)
}

// TestStaleConnectionsLikeReverseProxy lets instances close connections right after a response that doesn't say so.
func TestStaleConnectionsLikeReverseProxy(t *testing.T) {
	for _, side := range rawSides(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := http.ReadRequest(reader); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
		}
	}) {
		for n := range 30 {
			if answer := ask(t, "GET", "http://"+side.address, ""); answer.StatusCode != http.StatusOK || answer.body != "body" {
				t.Errorf("%s, request %d: %s %q", side.name, n, answer.Status, answer.body)
			}
		}
	}
}

// TestUnlikeReverseProxy is where ufc differs, and why.
func TestUnlikeReverseProxy(t *testing.T) {
	s := newStreams()
	ours := sideBySide(t, "http", "", "", func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r)
		answerOddly(w, r)
	})[0]
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
	// reverse_proxy sends 1xx to clients of HTTP/1.0, which take them for the response (RFC 9110 §15.2).
	response = ours.send(t, "GET /early HTTP/1.0\r\n\r\n")
	if !strings.HasPrefix(response, "HTTP/1.0 200 ") || !strings.HasSuffix(response, "\r\n\r\nlate") {
		t.Errorf("a client of HTTP/1.0 got %s", response)
	}
	// reverse_proxy gives a client of HTTP/1.1 no response before the request's end, unless the server has enable_full_duplex.
	if saw := converse(t, s, clientOf(t, "HTTP/1.1"), ours); !strings.Contains(saw, `"heard line 2\n" <nil>`) {
		t.Errorf("in turn: %s", saw)
	}
}

// TestUnlikeReverseProxyOfRawResponses is where ufc differs in what instances can only do wrongly.
func TestUnlikeReverseProxyOfRawResponses(t *testing.T) {
	f := func(response, want string) {
		t.Helper()
		ours := rawSides(t, func(conn *net.TCPConn, reader *bufio.Reader) {
			if _, err := http.ReadRequest(reader); err == nil {
				_, _ = io.WriteString(conn, response)
			}
		})[0]
		if got := ours.send(t, "GET / HTTP/1.1\r\n"+host+"\r\n"); !strings.HasPrefix(got, want[:12]) || !strings.HasSuffix(got, want[12:]) {
			t.Errorf("%q is answered %q", response, got)
		}
	}
	// reverse_proxy panics at a status that its server can't write, and closes the client's connection.
	f("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 502}\n")
	// reverse_proxy passes hop-by-hop headers on if they come as trailers.
	f("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Late: 1\r\nConnection: x\r\n\r\n",
		"HTTP/1.1 200\r\n4\r\nbody\r\n0\r\nX-Late: 1\r\n\r\n")
	// reverse_proxy makes an empty 200 of a 101 that nobody asked for.
	f("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "HTTP/1.1 502}\n")
}

// TestRefusedUploads answers before the request is read. reverse_proxy goes on with the client's connection then, and
// takes what is left of the body for the next request; and two of its goroutines race for the body, so that it isn't
// compared.
func TestRefusedUploads(t *testing.T) {
	for _, protocol := range protocols {
		s := newStreams()
		ours := sideBySide(t, protocol, withHTTP2, "", s.serve)[0]
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			for _, sized := range []bool{true, false} {
				client := clientOf(t, version)
				if saw := upload("/unread/refuse", sized)(t, s, client, ours); !strings.HasPrefix(saw, "403 Forbidden no") {
					t.Errorf("%s to %s, sized: %t: %s", version, protocol, sized, saw)
				}
				if saw := wholeOf("/large")(t, s, client, ours); !strings.HasPrefix(saw, "200 OK 3000000 bytes") {
					t.Errorf("%s to %s, sized: %t: and then %s", version, protocol, sized, saw)
				}
			}
		}
	}
}
