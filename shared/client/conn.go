package client

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// silence is after how long a connection on which nothing came is reported as connected. Some protocols are silent; and an id
// lasts for 5 minutes.
const silence = 30 * time.Second

// unused is after how long the end of a connection on which nothing was written says nothing: transports connect ahead, and servers
// end what isn't used. A server that is to speak first, and can't, ends it sooner; the few that take longer aren't worth healthy
// ones banned for their time limits.
const unused = time.Second

// patience is what a program's own time limit has to be for the instance to have failed when it is over, if the callee's is not shorter:
// a program that takes 50 ms for too long says nothing of who may take five seconds. But the drivers' own limits, which are of
// seconds, are all that tells an instance that hangs.
const patience = time.Second

// patient tells whether a program that gave up after its own time limit has waited long enough. 0: the callee's isn't known.
func patient(waited, callee time.Duration) bool { return waited >= min(callee, patience) }

// conn is a connection to an instance that reports its first exchange. From then on a Read and a Write cost an atomic load
// more than the connection's own.
type conn struct {
	net.Conn
	given   handout
	reports *reporter
	took    time.Duration // of the connect
	begun   time.Time     // a nanosecond before the connection stood, so that no moment since then is 0
	timer   *time.Timer   // ends the wait for a first byte

	settled  atomic.Bool
	asked    atomic.Int64 // when the first Read began, and
	written  atomic.Int64 // when the last Write ended: ns since begun; 0: there was none
	writing  atomic.Int32 // Writes under way
	givingUp atomic.Bool  // the read deadline was set to the past: the program ends what it was doing
	stopping atomic.Bool  // so was the write deadline
}

// track makes a connection that has just been made report.
func (c *Client) track(inner net.Conn, given handout, took time.Duration) *conn {
	t := &conn{Conn: inner, given: given, reports: c.reports, took: took, begun: time.Now().Add(-1)}
	t.timer = time.AfterFunc(silence, func() {
		_, overdue := t.overdue() // then it is no success, whatever the program still waits for
		if t.settled.CompareAndSwap(false, true) && !overdue {
			t.reports.add(given.report(resultOK, took))
		}
	})
	return t
}

// settle reports, unless the connection is settled already.
func (c *conn) settle(result string, latency time.Duration) {
	if c.end() {
		c.reports.add(c.given.report(result, latency))
	}
}

// end settles without a report, and returns whether that wasn't done before.
func (c *conn) end() bool {
	if !c.settled.CompareAndSwap(false, true) {
		return false
	}
	c.timer.Stop()
	return true
}

func (c *conn) now() int64 { return int64(time.Since(c.begun)) }

// waited is for how long an answer is being waited for; 0 if nobody waits, or if the program is still writing what is to be answered.
func (c *conn) waited() time.Duration {
	asked := c.asked.Load()
	if asked == 0 || c.writing.Load() > 0 {
		return 0
	}
	return time.Duration(c.now() - max(asked, c.written.Load()))
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.settled.Load() || len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.asked.CompareAndSwap(0, c.now())
	n, err := c.Conn.Read(p)
	latency := c.took + c.waited()
	switch {
	case n > 0:
		c.settle(resultOK, latency)
	case err == nil, errors.Is(err, net.ErrClosed): // Close has settled it
	case !errors.Is(err, os.ErrDeadlineExceeded):
		c.ended(err)
	case c.givingUp.Load():
		c.giveUp()
	case patient(latency-c.took, c.given.read):
		c.settle(resultReadTimeout, latency)
	default: // it may come back, or close; or it still writes, which tells more
	}
	return n, err
}

// ended settles a connection that the other side has ended during a Read.
func (c *conn) ended(err error) {
	waited := c.waited()
	if c.written.Load() == 0 && waited >= unused {
		c.end()
		return
	}
	c.settle(broken(err, resultReadError), c.took+waited)
}

// giveUp settles a connection whose program doesn't wait any longer. Unless it has waited for as long as the callee may
// take for what it was asked, that says nothing: a pool may close a connection that it never used.
func (c *conn) giveUp() {
	if waited, overdue := c.overdue(); overdue {
		c.settle(resultReadTimeout, c.took+waited)
		return
	}
	c.end()
}

// overdue tells for how long an answer is being waited for, and whether that is as long as the callee may take for what was written.
func (c *conn) overdue() (waited time.Duration, overdue bool) {
	waited = c.waited()
	return waited, c.given.read > 0 && waited >= c.given.read && c.written.Load() != 0
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.settled.Load() {
		return c.Conn.Write(p)
	}
	start := c.now()
	c.writing.Add(1)
	n, err := c.Conn.Write(p)
	c.wrote(start, err)
	return n, err
}

func (c *conn) wrote(start int64, err error) {
	now := c.now()
	c.written.Store(now)
	c.writing.Add(-1)
	switch {
	case err == nil, errors.Is(err, net.ErrClosed):
	case errors.Is(err, os.ErrDeadlineExceeded):
		if c.stopping.Load() || !patient(time.Duration(now-start), c.given.write) {
			c.end()
			return
		}
		c.settle(resultWriteTimeout, c.took+time.Duration(now-start))
	default:
		c.settle(broken(err, resultWriteError), c.took+time.Duration(now-start))
	}
}

// broken is the result of a connection that the other side ended.
func broken(err error, otherwise string) string {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return resultReset
	}
	return otherwise
}

// Close implements net.Conn.
func (c *conn) Close() error {
	switch {
	case c.settled.Load():
	case c.asked.Load() == 0: // nothing was to come: it did connect
		c.settle(resultOK, c.took)
	default:
		c.giveUp()
	}
	return c.Conn.Close()
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.noteDeadline(&c.givingUp, t)
	c.noteDeadline(&c.stopping, t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.noteDeadline(&c.givingUp, t)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.noteDeadline(&c.stopping, t)
	return c.Conn.SetWriteDeadline(t)
}

// noteDeadline sees whether a deadline is one that was over when it was set: so programs interrupt a Read or a Write.
func (c *conn) noteDeadline(over *atomic.Bool, t time.Time) {
	if !c.settled.Load() {
		over.Store(!t.IsZero() && !t.After(time.Now()))
	}
}

// SyscallConn implements syscall.Conn: clients look through it whether an idle connection is still alive.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if inner, ok := c.Conn.(syscall.Conn); ok {
		return inner.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite ends the sending side, as of net.TCPConn.
func (c *conn) CloseWrite() error {
	if inner, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return inner.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection below, as of tls.Conn. What is done on it directly is not seen.
func (c *conn) NetConn() net.Conn { return c.Conn }

// ReadFrom implements io.ReaderFrom, for the kernel to copy large bodies. Its error may be the source's, and settles nothing.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if c.settled.Load() {
		return io.Copy(c.Conn, r)
	}
	c.writing.Add(1)
	n, err := io.Copy(c.Conn, r)
	if n > 0 {
		c.written.Store(c.now())
	}
	c.writing.Add(-1)
	return n, err
}

// WriteTo implements io.WriterTo, for the kernel to copy large bodies once the first bytes have come.
func (c *conn) WriteTo(w io.Writer) (copied int64, err error) {
	buffer := make([]byte, 16<<10)
	for !c.settled.Load() {
		n, failed := c.Read(buffer)
		if n > 0 {
			written, err := w.Write(buffer[:n])
			copied += int64(written)
			if err != nil {
				return copied, err
			}
		}
		if errors.Is(failed, io.EOF) {
			return copied, nil
		}
		if failed != nil {
			return copied, failed
		}
	}
	n, err := io.Copy(w, c.Conn)
	return copied + n, err
}
