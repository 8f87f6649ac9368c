package sharedsocket

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// side is one configuration's server on a shared socket.
type side struct {
	*http.Server
	listener net.Listener
}

// serve listens on the port of the network ufc, as a configuration does that is loaded, and answers with a name.
func serve(t *testing.T, port, name string) *side {
	t.Helper()
	value, err := Listen(t.Context(), "", "127.0.0.1", port, 0, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{listener: value.(net.Listener), Server: &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }),
	}}
	go s.Serve(s.listener)
	t.Cleanup(func() { s.Close() })
	return s
}

// unusedPort returns a port that was free a moment ago.
func unusedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// begin opens a connection and sends the first part of a request.
func begin(t *testing.T, port, part string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, part); err != nil {
		t.Fatal(err)
	}
	return conn
}

// answerOn returns the body of the answer on a connection.
func answerOn(conn net.Conn) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// A request whose head arrives in pieces while the configuration changes is answered, by the old server.
func TestListenerWaitsForHeads(t *testing.T) {
	for _, first := range []string{"G", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n\r"} {
		port := unusedPort(t)
		old := serve(t, port, "old")
		conn := begin(t, port, first)
		for deadline := time.Now().Add(5 * time.Second); old.listener.(*share).pending.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the connection was never handed out")
			}
		}
		rest := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"[len(first):]
		go func() {
			time.Sleep(headWait / 4) // the client's own slowness
			_, _ = io.WriteString(conn, rest)
		}()
		serve(t, port, "new")
		go old.Shutdown(context.Background())
		if body, err := answerOn(conn); body != "old" {
			t.Errorf("after %q: %q, %v", first, body, err)
		}
	}
}

// A client that never ends its head holds the change up for a moment, and nobody beyond that.
func TestListenerDoesNotWaitForEver(t *testing.T) {
	port := unusedPort(t)
	old := serve(t, port, "old")
	begin(t, port, "GET / HTT")
	for deadline := time.Now().Add(5 * time.Second); old.listener.(*share).pending.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	begun := time.Now()
	serve(t, port, "new")
	if took := time.Since(begun); took < headWait/2 || took > headWait+5*time.Second {
		t.Errorf("the change took %v", took)
	}
	if body, err := answerOn(begin(t, port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")); body != "new" {
		t.Errorf("a new connection got %q, %v", body, err)
	}
}

func TestListenerNamesATakenPort(t *testing.T) {
	port := unusedPort(t)
	taken, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if value, err := Listen(t.Context(), "", "127.0.0.1", port, 0, net.ListenConfig{}); err == nil {
		value.(net.Listener).Close()
		t.Fatal("two listen on one port")
	}
}
