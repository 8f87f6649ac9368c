//go:build unix

package forward

import (
	"io"
	"net"
	"os"
	"syscall"
)

// rawConn returns the connection's descriptor for converse, nil if it has none.
func rawConn(conn net.Conn) syscall.RawConn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// converse sends the request and reads the first bytes of the response.
//
// Reading from a socket is a system call that finds nothing, then a wait, then another call. Here the first of them comes
// before the request is sent, instead of after it. Nothing is lost by that, and it tells whether the connection is open
// and silent still. Sockets wake their reader at each arrival since the last wait was prepared (epoll's edge, kqueue's
// EV_CLEAR), so that a response which comes before the wait isn't missed.
func (c *directConn) converse(p []byte) (int, error) {
	c.into = p
	err := c.raw.Read(c.step)
	c.into = nil
	if err != nil {
		return 0, err
	}
	return c.arrived, c.arrivedErr
}

// receiveOrSend is converse's step, called before each wait. It returns whether there is nothing more to wait for.
func (c *directConn) receiveOrSend(fd uintptr) bool {
	n, err := syscall.Read(int(fd), c.into)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), c.into)
	}
	c.arrived, c.arrivedErr = 0, nil
	switch {
	case err == syscall.EAGAIN && !c.unsent:
		return false
	case err == syscall.EAGAIN:
		c.send()
		c.arrivedErr = c.sendErr
		return c.sendErr != nil
	case err != nil:
		c.arrivedErr = os.NewSyscallError("read", err)
	case n == 0:
		c.arrivedErr = io.EOF
	case c.unsent && c.used:
		c.arrivedErr = errUnsolicited
	case c.unsent:
		// What an instance says at once on a new connection is its answer, such as that it has too many of them.
		c.send()
		c.arrived = n
	default:
		c.arrived = n
	}
	return true
}
