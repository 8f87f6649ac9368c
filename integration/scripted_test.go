package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// scripted is one connection to an instance that does below HTTP what a test says.
type scripted struct {
	*net.TCPConn
	reader *bufio.Reader
}

// newScripted starts such an instance. serve gets each connection on a goroutine of its own; the connection is closed when
// it returns.
func newScripted(t testing.TB, serve func(c *scripted)) (address string) {
	t.Helper()
	listener := listen(t)
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			running.Go(func() {
				serve(&scripted{conn.(*net.TCPConn), bufio.NewReader(conn)})
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return listener.Addr().String()
}

// request reads one request with its body, and returns it; nil when the agent has closed the connection.
func (c *scripted) request() *http.Request {
	req, err := http.ReadRequest(c.reader)
	if err != nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil
	}
	return req
}

// say writes. Whether that has worked, the other end knows.
func (c *scripted) say(format string, arguments ...any) { fmt.Fprintf(c, format, arguments...) }

// reset closes the connection as a crashed machine does, by RST.
func (c *scripted) reset() {
	_ = c.SetLinger(0)
	c.Close()
}

// untilClosed waits until the agent has closed the connection.
func (c *scripted) untilClosed() { _, _ = io.Copy(io.Discard, c.reader) }
