package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// newSocketServer is an instance that greets each WebSocket, and sends back what comes. ended is told of each one's end.
func newSocketServer(t testing.TB) (address string, ended chan error) {
	ended = make(chan error, 10)
	handler := websocket.Server{Handler: func(ws *websocket.Conn) {
		if err := websocket.Message.Send(ws, "welcome to "+ws.Request().URL.Path); err != nil {
			ended <- err
			return
		}
		for {
			var frame []byte
			if err := websocket.Message.Receive(ws, &frame); err != nil {
				ended <- err
				return
			}
			if string(frame) == "leave" {
				ended <- nil
				return
			}
			if err := websocket.Message.Send(ws, frame); err != nil {
				ended <- err
				return
			}
		}
	}}
	return serve(t, &http.Server{Handler: handler}), ended
}

// socket opens a WebSocket through the agent, and reads the greeting.
func (m *mesh) socket(service, path string) (*websocket.Conn, error) {
	config, err := websocket.NewConfig(fmt.Sprintf("ws://127.0.0.1:%d%s", m.agent, path), "http://www.example.test")
	if err != nil {
		return nil, err
	}
	config.Header.Set("X-Ufc-Service-Name", service)
	ws, err := config.DialContext(m.t.Context())
	if err != nil {
		return nil, err
	}
	m.t.Cleanup(func() { ws.Close() })
	_ = ws.SetDeadline(time.Now().Add(30 * time.Second))
	greeting := ""
	if err := websocket.Message.Receive(ws, &greeting); err != nil {
		return nil, err
	}
	if greeting != "welcome to "+path {
		return nil, fmt.Errorf("the greeting is %q", greeting)
	}
	return ws, nil
}

// echo is nil if a frame comes back.
func echo(ws *websocket.Conn, frame []byte) error {
	if err := websocket.Message.Send(ws, frame); err != nil {
		return err
	}
	var got []byte
	if err := websocket.Message.Receive(ws, &got); err != nil {
		return err
	}
	if !bytes.Equal(got, frame) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(got), len(frame))
	}
	return nil
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	address, ended := newSocketServer(t)
	m := startAgent(t, documents("chat", "protocol: http\ntimeouts: {normal: {read: 300ms, total: 400ms}}", address)+"---\n"+
		service("pages", "protocol: http", newBackend(t, "one")))
	end := func(what string) error {
		t.Helper()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the instance's end of the WebSocket goes on", what)
			return nil
		}
	}

	ws, err := m.socket("chat", "/room/1")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536, 1 << 20} {
		if err := echo(ws, bytes.Repeat([]byte{0, 0xff, '\n'}, size/3+1)[:size]); err != nil {
			t.Errorf("a frame of %d bytes: %v", size, err)
		}
	}
	// A quiet WebSocket outlives the time limits of requests.
	time.Sleep(600 * time.Millisecond)
	if err := echo(ws, []byte("still there")); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	ws.Close()
	if err := end("the client has closed"); !errors.Is(err, io.EOF) {
		t.Errorf("the client has closed, and the instance got %v", err)
	}

	if ws, err = m.socket("chat", "/room/2"); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Send(ws, "leave"); err != nil {
		t.Fatal(err)
	}
	var frame []byte
	if err := websocket.Message.Receive(ws, &frame); !errors.Is(err, io.EOF) {
		t.Errorf("the instance has closed, and the client got %q, %v", frame, err)
	}
	_ = end("the instance has closed")

	// An instance that speaks none answers as it likes.
	if _, err := m.socket("pages", "/"); err == nil {
		t.Error("an instance without WebSockets gave one")
	}
	m.ask("pages", "/", "Connection", "Upgrade", "Upgrade", "websocket").must(t, http.StatusOK, "")
}
