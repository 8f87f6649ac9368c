package forward

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// patienceForContinue is how long a body that waits for 100 (Continue) waits. Instances may ignore the request's wish
// (RFC 9110 §10.1.1).
const patienceForContinue = time.Second

// settling is how long the end of a response waits for the last write of the request's body to return.
const settling = 50 * time.Millisecond

var errStopped = errors.New("the request's body isn't wanted any more")

// upload is the body of a request as the standard library's writer sees it. It is read until its length, closed once, and
// not read after that. Its methods do nothing on nil: there is no body.
type upload struct {
	body   io.ReadCloser
	left   int64 // bytes to come; negative: unknown
	failed error // what Read returned at last, if it failed

	expects chan struct{} // closed when the body may be sent, or isn't wanted. Nil: it needn't wait

	mu       sync.Mutex
	waiting  bool // for the instance's 100 (Continue)
	begun    bool // a read
	closed   bool
	complete bool // all was read

	// What follows is of a body that is sent by a goroutine.
	async bool
	done  chan struct{} // closed when the request was sent, or can't be
	at    time.Time     // when
	err   error         // why it can't be
}

// newUpload takes the request's body over. Nil: there is none.
func newUpload(x *exchange) *upload {
	req := x.request
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	u := &upload{body: req.Body, left: req.ContentLength}
	if req.ContentLength == 0 {
		u.left = -1 // that is what 0 means of a request with a body
	}
	if httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue") {
		u.expects, u.waiting = make(chan struct{}), true
		if u.left < 0 {
			req.TransferEncoding = []string{"chunked"} // else, for a GET, the writer looks into the body first
		}
	}
	if !x.buffered || u.expects != nil {
		u.async, u.done = true, make(chan struct{})
	}
	req.Body = u
	return u
}

// send writes the request. It runs in a goroutine of its own.
func (u *upload) send(c *directConn) {
	err := c.write()
	broken := err != nil && c.writeErr == nil && !errors.Is(err, errStopped)
	u.at, u.err = time.Now(), err
	close(u.done)
	switch {
	case broken: // by itself, and the instance waits for the rest
		c.conn.Close()
	case err != nil: // wake the reader, who would wait for long
		_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// sending tells whether the goroutine is at work.
func (u *upload) sending() bool { return u != nil && u.async && !u.ended() }

// ended tells whether the goroutine has ended; at and err may be read.
func (u *upload) ended() bool {
	if u == nil || !u.async {
		return false
	}
	select {
	case <-u.done:
		return true
	default:
		return false
	}
}

// settled tells whether all was sent. Of a body that was read to its end, the last write may be about to return.
func (u *upload) settled() bool {
	if u == nil || !u.async {
		return true
	}
	if u.sending() {
		u.mu.Lock()
		complete := u.complete
		u.mu.Unlock()
		if !complete {
			return false
		}
		timer := time.NewTimer(settling)
		defer timer.Stop()
		select {
		case <-u.done:
		case <-timer.C:
			return false
		}
	}
	return u.err == nil
}

// proceed lets a body that waits be sent.
func (u *upload) proceed() {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting {
		u.waiting = false
		close(u.expects)
	}
}

// answered is told of the response proper: a body that still waits isn't sent any more.
func (u *upload) answered() {
	if u == nil || u.expects == nil {
		return
	}
	u.mu.Lock()
	waiting := u.waiting
	u.mu.Unlock()
	if waiting {
		u.stop()
	}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.left == 0 {
		return 0, io.EOF
	}
	u.await()
	n, err := u.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		u.failed = err
	}
	return n, err
}

func (u *upload) read(p []byte) (int, error) {
	if !u.begin() {
		return 0, errStopped
	}
	n, err := u.body.Read(p)
	if u.left > 0 {
		u.left = max(u.left-int64(n), 0)
		if u.left == 0 && err == nil {
			err = io.EOF
		}
	}
	if !u.finish(err) {
		return 0, errStopped
	}
	return n, err
}

// await waits until the body may be sent, or isn't wanted.
func (u *upload) await() {
	if u.expects == nil {
		return
	}
	timer := time.NewTimer(patienceForContinue)
	defer timer.Stop()
	select {
	case <-u.expects:
	case <-timer.C:
		u.proceed()
	}
}

func (u *upload) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begun = u.begun || !u.closed
	return !u.closed
}

func (u *upload) finish(err error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.complete = errors.Is(err, io.EOF)
	return !u.closed
}

// Close implements io.Closer, for the writer.
func (u *upload) Close() error {
	if first, _ := u.end(); first {
		return u.body.Close()
	}
	return nil
}

// stop closes the body, which nobody wants any more, while the writer may be reading it. A read that waits is woken up by
// that in some bodies, and keeps Close waiting in others, such as the server's own; so nobody waits here.
func (u *upload) stop() {
	if u == nil {
		return
	}
	switch first, busy := u.end(); {
	case first && busy:
		go u.body.Close()
	case first:
		_ = u.body.Close() // there is nobody to tell
	}
}

// end lets nobody read any more. It returns whether it is for the caller to close the body, and whether that may have to
// wait: a body that nobody has begun to read is closed at once, since the next attempt may read it.
func (u *upload) end() (first, busy bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	first, u.closed = !u.closed, true
	if u.waiting {
		u.waiting = false
		close(u.expects)
	}
	return first, u.begun && !u.complete
}

// The states of a directBody.
const (
	bodyOpen int32 = iota
	bodyEnded
	bodyClosed
)

// directBody is the body of a response. At its end the connection goes back; closed before, the connection is closed.
// Read and Close may be called by two goroutines.
type directBody struct {
	io.ReadCloser // the standard library's. It reads from the connection, which is ours only as long as the body is open
	conn          *directConn
	reusable      bool
	state         atomic.Int32
	err           error // how it ended; Read's own
}

// Read implements io.Reader.
func (b *directBody) Read(p []byte) (int, error) {
	switch b.state.Load() {
	case bodyEnded:
		return 0, b.err
	case bodyClosed:
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	whole := errors.Is(err, io.EOF)
	if !whole {
		if b.conn.limited != nil {
			err = b.conn.limited
		}
		if gone := b.conn.x.ctx.Err(); gone != nil {
			err = gone
		}
	}
	b.err = err
	if !b.state.CompareAndSwap(bodyOpen, bodyEnded) {
		return n, http.ErrBodyReadAfterClose
	}
	b.conn.end(whole && b.reusable)
	return n, err
}

// Close implements io.Closer.
func (b *directBody) Close() error {
	if b.state.Swap(bodyClosed) == bodyOpen {
		b.conn.drop()
		b.conn.up.stop()
	}
	return nil
}

var (
	_ io.ReadCloser = (*directBody)(nil)
	_ io.ReadCloser = (*upload)(nil)
)
