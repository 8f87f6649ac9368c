// Package sharedsocket has TCP listeners whose reload drops no connection: all configurations of a process share one socket by address.
package sharedsocket

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Listen opens a listener; it is a caddy.ListenerFunc.
//
// A reload opens Caddy's own TCP listeners a second time, by SO_REUSEPORT, and closes the old socket; the kernel then
// resets what waits in the queue of that, and Go's server closes, without an answer, connections whose first request
// comes after its shutdown began. Under load each reload costs about one new connection. Here all configurations share one
// socket, the newest gets the connections, and on Linux only when a client has begun to speak. One may be lost where the old
// server hasn't begun on it within headWait, on a machine without CPU to spare: 1 of 58,814 in 9,511 reloads within a
// minute. A port in use by another process is an error, too, which SO_REUSEPORT hides.
func Listen(ctx context.Context, _, host, ports string, offset uint, config net.ListenConfig) (any, error) {
	tcp, err := caddy.ParseNetworkAddress(caddy.JoinNetworkAddress("tcp", host, ports))
	if err != nil {
		return nil, err
	}
	address := tcp.JoinHostPort(offset)
	value, _, err := sockets.LoadOrNew(address, func() (caddy.Destructor, error) {
		config.Control = deferAccept
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		s := &socket{listener: listener, done: make(chan struct{})}
		go s.accept()
		return s, nil
	})
	if err != nil {
		return nil, fmt.Errorf("network ufc: %w", err)
	}
	added, before := value.(*socket).add(address)
	for deadline := time.Now().Add(headWait); before != nil && before.pending.Load() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return added, nil
}

// headWait is how long a reload waits at most for the old server to begin on the connections that it got last. That takes a
// millisecond, unless a client stops in the middle of its first head; new connections wait as long, so it is short.
const headWait = 100 * time.Millisecond

// sockets are those that are open, by address.
var sockets = caddy.NewUsagePool()

// socket is one listening socket and those who share it.
type socket struct {
	listener net.Listener
	done     chan struct{} // closed when accept has ended

	mu     sync.Mutex
	shares []*share // the newest last
}

// share is the listener of one configuration.
type share struct {
	socket  *socket
	address string // the key in sockets
	accepts chan accepted
	closed  chan struct{}
	once    sync.Once
	// pending counts the connections for this share whose first request its server hasn't begun to answer.
	pending atomic.Int64
}

type accepted struct {
	conn net.Conn
	err  error
}

// add adds a share. It returns the one, too, that got the connections before, if there was one.
func (s *socket) add(address string) (added, before *share) {
	added = &share{socket: s, address: address, accepts: make(chan accepted), closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shares) > 0 {
		before = s.shares[len(s.shares)-1]
	}
	s.shares = append(s.shares, added)
	return added, before
}

// choose returns the share that gets the next connection, which is pending from now on; nil if there is none.
func (s *socket) choose() *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shares) == 0 {
		return nil
	}
	newest := s.shares[len(s.shares)-1]
	newest.pending.Add(1)
	return newest
}

// accept hands out connections, until the socket is closed.
func (s *socket) accept() {
	defer close(s.done)
	for {
		conn, err := s.listener.Accept()
		if !s.deliver(conn, err) {
			if conn != nil {
				conn.Close()
			}
			return
		}
	}
}

// deliver gives a connection, or why there is none, to the newest share. It tells whether there was one.
func (s *socket) deliver(conn net.Conn, err error) bool {
	for {
		to := s.choose()
		if to == nil {
			return false
		}
		next := accepted{err: err}
		if err == nil {
			next.conn = &pendingConn{TCPConn: conn.(*net.TCPConn), begun: sync.OnceFunc(func() { to.pending.Add(-1) })}
		}
		select {
		case to.accepts <- next:
			if err != nil {
				to.pending.Add(-1)
			}
			return true
		case <-to.closed:
			to.pending.Add(-1)
		}
	}
}

// pendingConn finds out when a server has begun to answer the first request, since from then on its shutdown waits for the
// answer: it reads again, or writes, after it has read the whole head (or HTTP/2's preface, which ends like one).
type pendingConn struct {
	*net.TCPConn
	ended int // how much of the head's end the last bytes read are. One goroutine at a time reads
	begun func()
}

const headEnd = "\r\n\r\n"

// Read implements net.Conn.
func (c *pendingConn) Read(p []byte) (int, error) {
	if c.ended == len(headEnd) {
		c.begun()
		return c.TCPConn.Read(p)
	}
	n, err := c.TCPConn.Read(p)
	for _, b := range p[:n] {
		switch {
		case c.ended == len(headEnd):
		case b == headEnd[c.ended]:
			c.ended++
		case b == headEnd[0]:
			c.ended = 1
		default:
			c.ended = 0
		}
	}
	return n, err
}

// Write implements net.Conn.
func (c *pendingConn) Write(p []byte) (int, error) {
	c.begun()
	return c.TCPConn.Write(p)
}

// Close implements net.Conn.
func (c *pendingConn) Close() error {
	c.begun()
	return c.TCPConn.Close()
}

// Destruct closes the socket, when nobody shares it any more.
func (s *socket) Destruct() error {
	err := s.listener.Close()
	<-s.done
	return err
}

// Accept implements net.Listener.
func (l *share) Accept() (net.Conn, error) {
	select {
	case next := <-l.accepts:
		return next.conn, next.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr implements net.Listener.
func (l *share) Addr() net.Addr { return l.socket.listener.Addr() }

// Close implements net.Listener. Connections go to the newest of the others, or stop coming.
func (l *share) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		l.socket.mu.Lock()
		l.socket.shares = slices.DeleteFunc(l.socket.shares, func(other *share) bool { return other == l })
		l.socket.mu.Unlock()
		close(l.closed)
		_, err = sockets.Delete(l.address)
	})
	return err
}

// Interface guards
var (
	_ net.Listener     = (*share)(nil)
	_ caddy.Destructor = (*socket)(nil)
)
