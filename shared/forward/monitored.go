package forward

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// monitored is a connection that knows how long its instance has been silent, and how it ended.
type monitored struct {
	net.Conn
	over        *tls.Conn // this one. nil: no TLS
	multiplexed bool      // HTTP/2

	heard atomic.Int64 // when something came from the instance, in ns since 1970
	owing atomic.Int64 // when the first request was sent after that. 0: none was

	failed atomic.Pointer[error] // of the first Read that failed
	ended  chan struct{}         // closed when one has

	once sync.Once
	gone chan struct{} // closed with the connection
}

// Read implements net.Conn.
func (c *monitored) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
		c.owing.Store(0)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && c.failed.CompareAndSwap(nil, &err) {
		close(c.ended)
	}
	return n, err
}

// Write implements net.Conn.
func (c *monitored) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-c.gone:
		case <-timer.C:
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *monitored) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.Conn.Close()
}

// CloseWrite closes the direction to the instance.
func (c *monitored) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return http.ErrNotSupported
}

// isOver tells whether the connection has ended, by whomever. No connection hasn't.
func (c *monitored) isOver() bool {
	if c == nil {
		return false
	}
	select {
	case <-c.ended:
		return true
	case <-c.gone:
		return true
	default:
		return false
	}
}

// reason is how the connection ended, as its reader saw it. Only when it is gone.
func (c *monitored) reason() error {
	if c.over != nil {
		_, err := c.over.Read(make([]byte, 1)) // such an error stays
		return err
	}
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return net.ErrClosed
}

// asked is told of each request that is sent.
func (c *monitored) asked() { c.owing.CompareAndSwap(0, time.Now().UnixNano()) }

// silent tells since when nothing has come, though it was asked for. Only right while a request is unanswered.
func (c *monitored) silent() time.Duration {
	since := c.owing.Load()
	if since == 0 {
		since = c.heard.Load()
	}
	return time.Since(time.Unix(0, since))
}
