package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// echoing is an instance that switches to an echo: it answers each line, and says bye at the end.
func echoing(conn tcpConn, reader bufReader) {
	req, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	if req.Header.Get("Upgrade") != "echo" || req.Header.Get("Connection") != "Upgrade" {
		io.WriteString(conn, "HTTP/1.1 400 No Upgrade\r\nContent-Length: 0\r\n\r\n")
		return
	}
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: Echo\r\nX-Ufc-Error: forged\r\n"+
		"Sec-WebSocket-Accept: a\r\n\r\nhello\n")
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			fmt.Fprintln(conn, "bye")
			return
		}
		fmt.Fprint(conn, "echo ", line)
	}
}

const upgrading = "GET /ws HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nConnection: keep-alive, upgrade\nUpgrade: Echo\n\n"

// upgrade opens a tunnel. What follows the request may be sent with it.
func (r *rig) upgrade(t testing.TB, ahead string) (tcpConn, bufReader) {
	t.Helper()
	conn, reader := r.dial(t, upgrading+ahead)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	if resp.Header.Get("Upgrade") != "Echo" || resp.Header.Get("Connection") != "Upgrade" || resp.Header["X-Ufc-Error"] != nil {
		t.Errorf("got the header %v", resp.Header)
	}
	line(t, reader, "hello")
	return conn, reader
}

func line(t testing.TB, reader *bufio.Reader, want string) {
	t.Helper()
	if got, err := reader.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestTunnel(t *testing.T) {
	f := func(name, ahead string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, append(refusing(t, 1), rawBackend(t, echoing))...)
			conn, reader := r.upgrade(t, ahead)
			if ahead != "" {
				line(t, reader, "echo "+strings.TrimSpace(ahead))
			}
			for n := range 10 {
				fmt.Fprintln(conn, n)
				line(t, reader, fmt.Sprint("echo ", n))
			}
			if n := r.count(t, "ufc_attempts_total", "result", "ok"); n != 0 {
				t.Error("the outcome was told before the tunnel's end")
			}
			conn.CloseWrite()
			line(t, reader, "bye") // the other direction is still open
			if _, err := reader.ReadByte(); err != io.EOF {
				t.Errorf("got %v at the end", err)
			}
			r.expect(t, 1, "ufc_attempts_total", "result", "ok")
			r.expect(t, 1, "ufc_requests_total", "code", "101")
		})
	}
	f("plain", "")
	f("sent ahead", "early\n")
}

func TestTunnelEnds(t *testing.T) {
	f := func(name, result string, end func(r *rig, conn tcpConn, instance tcpConn)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			instances := make(chan tcpConn, 1)
			gone := make(chan struct{})
			r := newRig(t, nil, rawBackend(t, func(conn tcpConn, reader bufReader) {
				defer close(gone)
				instances <- conn
				echoing(conn, reader)
			}))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r.cancel = cancel
			inner := r.server.Config.Handler
			r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				inner.ServeHTTP(w, req.WithContext(ctx))
			})
			conn, reader := r.upgrade(t, "")
			end(r, conn, <-instances)
			io.Copy(io.Discard, reader)
			within(t, "the end of the instance's connection", gone)
			r.outcome(t, result, "101")
		})
	}
	f("forwarder closed", "ok", func(r *rig, _, _ tcpConn) { r.Forwarder.Close() })
	f("context ends", "ok", func(r *rig, _, _ tcpConn) { r.cancel() })
	f("client closes", "ok", func(_ *rig, conn, _ tcpConn) { conn.Close() })
	f("client resets", "ok", func(_ *rig, conn, _ tcpConn) { conn.SetLinger(0); conn.Close() })
	f("instance closes", "ok", func(_ *rig, conn, instance tcpConn) { instance.Close(); conn.CloseWrite() })
	f("instance resets", "reset", func(_ *rig, _, instance tcpConn) { instance.SetLinger(0); instance.Close() })
}

func TestTunnelAfterClose(t *testing.T) {
	r := newRig(t, nil, rawBackend(t, echoing))
	r.Forwarder.Close()
	_, reader := r.dial(t, upgrading)
	if rest, err := io.ReadAll(reader); strings.Contains(string(rest), "hello") {
		t.Errorf("a tunnel opened after Close: %q, %v", rest, err)
	}
}

func TestUpgradesThatDontPass(t *testing.T) {
	f := func(name, request string, status int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, rawBackend(t, echoing))
			_, reader := r.dial(t, request)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("got %d, want %d", resp.StatusCode, status)
			}
		})
	}
	head := "GET / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\n"
	f("not named by Connection", head+"Upgrade: echo\n\n", 400)
	f("h2c", head+"Connection: Upgrade\nUpgrade: h2c\n\n", 400)
	f("h2c hidden in a list", head+"Connection: Upgrade\nUpgrade: echo, h2c\n\n", 400)
	f("with a body", head+"Connection: Upgrade\nUpgrade: echo\nContent-Length: 2\n\nok", 400)
	f("not ASCII", head+"Connection: Upgrade\nUpgrade: écho\n\n", 400)
	f("refused by the instance", head+"Connection: Upgrade\nUpgrade: other\n\n", 400)
}

func TestWebSocketHeadersKeepTheirCase(t *testing.T) {
	got := make(chan string, 1)
	r := newRig(t, nil, rawBackend(t, func(conn tcpConn, reader bufReader) {
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			text, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(text)
		}
		got <- head.String()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: a\r\n\r\n")
	}))
	_, reader := r.dial(t, "GET / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\nConnection: Upgrade\nUpgrade: websocket\nsec-websocket-key: k\n\n")
	answer, _ := io.ReadAll(reader)
	if head := <-got; !strings.Contains(head, "Sec-WebSocket-Key: k") {
		t.Errorf("the instance got %q", head)
	}
	if !strings.Contains(string(answer), "Sec-WebSocket-Accept: a") {
		t.Errorf("the client got %q", answer)
	}
}
