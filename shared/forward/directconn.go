package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Connections have buffers only while they are in use. 4 KiB, as the standard library's transport has, limits a chunk's
// size line and the trailers, too.
const directBuffer = 4 << 10

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, directBuffer) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, directBuffer) }}
)

// lastWords is how long a response is waited for after the request could not be sent: it says why, perhaps.
const lastWords = 50 * time.Millisecond

// directConn is a connection to an instance. One request has it at a time, or idleConns.
//
// The caller's goroutine reads. It writes, too, but for bodies whose reading may block: those, with their heads, are
// written by the upload's goroutine.
type directConn struct {
	conn  net.Conn
	raw   syscall.RawConn // nil: there is none
	step  func(fd uintptr) bool
	abort func() // closes the connection
	idle  *idleConns
	host  string
	since time.Time // it is idle

	used bool // an earlier request has had a response
	// bulky tells that more than a buffer was written at once: then the socket's buffer may be full of it, and writing may
	// block. A head alone always fits, and needs no alarm.
	bulky   bool
	readBy  alarm
	writeBy alarm

	directState
}

// directState is what a connection knows about its exchange.
type directState struct {
	x       *exchange
	up      *upload // nil: the request has no body
	reader  *bufio.Reader
	unwatch func() bool // stops watching the context. Nil: it isn't watched

	unsent   bool // nothing was sent yet
	sentAt   time.Time
	headBy   time.Time // limits.head, and the time that the body took
	sendErr  error     // why the request isn't whole. The request's own fault, or the connection's
	writeErr error     // of the connection
	written  int64     // bytes

	heard    bool // a byte of the response
	inHead   bool
	headLeft int   // bytes that it may yet have
	limited  error // the limit that was broken

	into       []byte // of converse
	arrived    int
	arrivedErr error
}

func newDirectConn(conn net.Conn, idle *idleConns, host string) *directConn {
	c := &directConn{conn: conn, raw: rawConn(conn), idle: idle, host: host, readBy: alarm{known: true}, writeBy: alarm{known: true}}
	c.abort = func() { conn.Close() }
	c.step = c.receiveOrSend
	return c
}

// roundTrip sends a request and returns the head of its response. After an error, the connection is to be dropped.
func (c *directConn) roundTrip(x *exchange, up *upload, now time.Time) (*http.Response, error) {
	reader := readers.Get().(*bufio.Reader)
	reader.Reset(c)
	c.directState = directState{
		x: x, up: up, reader: reader, unsent: true, sentAt: now, headBy: x.limits.head, inHead: true, headLeft: maxResponseHead,
	}
	if _, err := reader.Peek(1); err != nil && (c.sendErr == nil || c.writeErr == nil) {
		return nil, err
	}
	// Sent or not: an instance that refuses a request may say so before it closes the connection.
	resp, err := c.readHead()
	if err != nil {
		return nil, err
	}
	c.inHead = false
	up.answered()
	reusable := !resp.Close && !x.request.Close && resp.StatusCode >= 200
	if resp.Body == http.NoBody {
		c.end(reusable)
		return resp, nil
	}
	resp.Body = &directBody{ReadCloser: resp.Body, conn: c, reusable: reusable}
	return resp, nil
}

// readHead reads the response's head, and those of 1xx responses before it.
func (c *directConn) readHead() (*http.Response, error) {
	for range maxInformational + 1 {
		resp, err := http.ReadResponse(c.reader, c.x.request)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitch
		case resp.StatusCode < 100 || resp.StatusCode > 199:
			return resp, nil
		case resp.StatusCode == http.StatusContinue:
			c.up.proceed()
		}
		if err := c.x.inform(resp); err != nil {
			return nil, &failure{result: health.Canceled, err: err}
		}
	}
	return nil, errChatter
}

// inform tells of a 1xx response.
func (x *exchange) inform(resp *http.Response) error {
	header := textproto.MIMEHeader(resp.Header)
	if x.informational != nil {
		return x.informational(resp.StatusCode, header)
	}
	if trace := httptrace.ContextClientTrace(x.ctx); trace != nil && trace.Got1xxResponse != nil {
		return trace.Got1xxResponse(resp.StatusCode, header)
	}
	return nil
}

// send sends the request, or sees to it that it is sent.
func (c *directConn) send() {
	c.unsent = false
	if c.x.ctx.Done() != nil {
		c.unwatch = context.AfterFunc(c.x.ctx, c.abort)
	}
	if c.up != nil && c.up.async {
		go c.up.send(c)
		return
	}
	c.sendErr = c.write()
	if c.up != nil {
		c.sent(time.Now())
	}
}

// sent notes when the request's body had been sent. The call's time until the response's head is longer by that.
func (c *directConn) sent(at time.Time) {
	if !c.headBy.IsZero() {
		c.headBy = c.headBy.Add(at.Sub(c.sentAt))
	}
	c.sentAt = at
}

// write writes the request. The standard library flushes heads and chunks, so that they don't wait for what comes after
// them; where nothing is waited for, the writer is hidden from it, and they share a system call.
func (c *directConn) write() error {
	w := writers.Get().(*bufio.Writer)
	w.Reset(c)
	var to io.Writer = struct{ *bufio.Writer }{w}
	if c.up != nil && c.up.async {
		to = w
	}
	err := c.x.request.Write(to)
	if err == nil {
		err = w.Flush()
	}
	w.Reset(nil)
	writers.Put(w)
	switch { // the standard library hides both in a type of its own
	case err == nil:
		return nil
	case c.writeErr != nil:
		return c.writeErr
	case c.up != nil && c.up.failed != nil:
		return c.up.failed
	default:
		return err
	}
}

// Write implements io.Writer, for the request's writer.
func (c *directConn) Write(p []byte) (n int, err error) {
	if c.written > 0 || len(p) > directBuffer {
		c.bulky = true
	}
	if !c.bulky {
		n, err = c.conn.Write(p)
	} else {
		n, err = c.writeLimited(p)
	}
	c.written += int64(n)
	if err != nil {
		c.writeErr = err
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom: each part of a body is sent as it comes, and in large pieces if it comes so.
func (c *directConn) ReadFrom(r io.Reader) (sum int64, err error) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := r.Read(buffer[:])
		if n > 0 {
			n, failed := c.Write(buffer[:n])
			sum += int64(n)
			if failed != nil {
				return sum, failed
			}
		}
		if errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// Read implements io.Reader, for the connection's bufio.Reader.
func (c *directConn) Read(p []byte) (int, error) {
	if c.inHead {
		if c.headLeft == 0 {
			return 0, errLongHead
		}
		p = p[:min(len(p), c.headLeft)]
	}
	n, err := c.readLimited(p)
	if n > 0 {
		c.heard = true
		if c.inHead {
			c.headLeft -= n
		}
	}
	return n, err
}

// readOnce reads; the first time, the request is sent before.
func (c *directConn) readOnce(p []byte) (int, error) {
	if !c.unsent {
		return c.conn.Read(p)
	}
	if c.raw != nil {
		return c.converse(p)
	}
	if c.used && !(c.up == nil && idempotent(c.x.request.Method)) && !c.silent() {
		return 0, errUnsolicited
	}
	c.send()
	if c.sendErr != nil {
		return 0, c.sendErr
	}
	return c.conn.Read(p)
}

// silent tells whether the connection is open and nothing has arrived, where that takes a wait.
func (c *directConn) silent() bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.conn.Read(make([]byte, 1))
	c.readBy.known = false
	_ = c.conn.SetReadDeadline(time.Time{})
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// end is the end of the response, when nobody reads it any more. The connection is kept, if it can be, or closed.
func (c *directConn) end(reusable bool) {
	reusable = c.up.settled() && reusable && c.sendErr == nil && c.reader.Buffered() == 0
	if !c.forget() { // the context is done, and the connection closed
		reusable = false
	}
	c.reader.Reset(nil)
	readers.Put(c.reader)
	if !reusable {
		c.up.stop()
		c.conn.Close()
		return
	}
	c.directState = directState{}
	c.used = true
	if !c.idle.put(c) {
		c.conn.Close()
	}
}

// forget stops watching the context. It returns false if that was too late.
func (c *directConn) forget() bool { return c.unwatch == nil || c.unwatch() }

// drop closes the connection, whatever others do with it.
func (c *directConn) drop() {
	c.forget()
	c.conn.Close()
}

// fail closes the connection of a request that has no response.
func (c *directConn) fail() {
	c.drop()
	c.reader.Reset(nil)
	readers.Put(c.reader)
}

// stale tells, after an error, that the connection was closed or had said something while it was idle, and nothing was
// sent.
func (c *directConn) stale() bool { return c.unsent && c.used && c.limited == nil }

// repeatable tells, after an error, that the same request may be sent once more, since it was the connection's idleness
// that failed.
func (c *directConn) repeatable() bool {
	return c.used && c.up == nil && !c.heard && c.limited == nil && c.x.ctx.Err() == nil &&
		(c.written == 0 || idempotent(c.x.request.Method))
}

// explain finds out which stage failed.
func (c *directConn) explain(err error) error {
	if gone := c.x.ctx.Err(); gone != nil {
		return gone
	}
	if c.sendErr == nil && c.up.ended() {
		c.sendErr = c.up.err
	}
	if c.limited != nil && c.sendErr == nil {
		err = c.limited // the codec may have hidden it
	}
	var failed *failure
	switch {
	case errors.As(err, &failed):
		return failed
	case c.unsent:
		return &failure{stage: model.WhenConnect, result: connectResult(err), err: err}
	case c.sendErr != nil && c.writeErr == nil && c.up == nil:
		return &failure{result: health.Canceled, err: badRequest(c.sendErr)}
	case c.sendErr != nil && c.writeErr == nil:
		return &failure{result: health.Canceled, err: &RequestBodyError{c.sendErr}}
	case c.sendErr != nil:
		return &failure{stage: model.WhenWrite, result: writeResult(c.sendErr), err: c.sendErr}
	default:
		return &failure{stage: model.WhenRead, result: readResult(err), err: err}
	}
}
