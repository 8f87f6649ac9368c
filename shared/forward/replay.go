package forward

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// maxReplay is how much of a request's body is kept for further attempts, in bytes. A call whose body is longer has one
// attempt once that much was read.
const maxReplay = 64 << 10

// replay is the body of a call's request. Each attempt reads it from its beginning: what an earlier attempt has read was
// kept. A nil replay is a request without a body.
type replay struct {
	from   io.ReadCloser
	length int64 // in bytes; -1: unknown
	keeps  bool  // what is read, for another attempt
	failed atomic.Pointer[RequestBodyError]
	final  atomic.Pointer[replayReader] // of the attempt that no other one follows
	once   sync.Once                    // closes from

	sum atomic.Int64 // total, for those who can't wait

	mu    sync.Mutex // held while a Read waits for the client, which may be for ever
	kept  []byte
	total int64 // how much was read; written to sum, too
	ended bool
}

// newReplay takes the body of a call's request over; nil if there is none. again tells whether the request may be sent
// again after some of it was sent. With trailers it may not: a wire gets them in a map, which an earlier attempt may still
// be reading.
func newReplay(req *http.Request, again bool) *replay {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	return &replay{from: req.Body, length: req.ContentLength, keeps: again && len(req.Trailer) == 0}
}

// reader returns the body for one attempt. sent is told when it was read to its end.
func (u *replay) reader(sent func()) *replayReader { return &replayReader{replay: u, sent: sent} }

// replayable tells whether another attempt may send the body.
func (u *replay) replayable() bool {
	if u == nil {
		return true
	}
	if !u.mu.TryLock() { // an earlier attempt waits for more of it, which the next one gets if it is kept
		return u.keeps && u.sum.Load() <= maxReplay
	}
	defer u.mu.Unlock()
	return u.total == 0 || u.keeps && u.total <= maxReplay
}

// whole tells whether all of the body is kept, so that reading it never blocks.
func (u *replay) whole() bool {
	if u == nil {
		return true
	}
	if !u.mu.TryLock() {
		return false
	}
	defer u.mu.Unlock()
	return u.ended && u.keeps && u.total <= maxReplay
}

// settle says that no other attempt follows the one with this reader: the body is closed with it.
func (u *replay) settle(last *replayReader) {
	if u == nil {
		return
	}
	u.final.Store(last)
	if last.closed.Load() {
		u.release()
	}
}

// release closes the body when no attempt will send it any more. While a Read waits for the client, closing may have to
// wait as well, as it does with a server's own body.
func (u *replay) release() {
	if u == nil {
		return
	}
	u.once.Do(func() { // of no further use; there is nobody to tell of an error
		if !u.mu.TryLock() {
			go u.from.Close()
			return
		}
		u.mu.Unlock()
		u.from.Close()
	})
}

// drain drops what the client still sends, until the body's end or an error, such as a deadline's.
func (u *replay) drain() {
	if u == nil {
		return
	}
	u.mu.Lock() // waits for an attempt's Read, which the deadline ends too
	defer u.mu.Unlock()
	_, _ = io.Copy(io.Discard, u.from)
}

// failure returns the error that reading the body ended with, nil if it did not.
func (u *replay) failure() error {
	if u == nil {
		return nil
	}
	if failed := u.failed.Load(); failed != nil {
		return failed
	}
	return nil
}

// replayReader is the body as one attempt sees it.
type replayReader struct {
	replay *replay
	sent   func()
	at     int64 // how much of it was read
	closed atomic.Bool
}

// errReplaced is the error of reading for an attempt that has ended.
var errReplaced = errors.New("the attempt has ended")

// Read implements io.Reader. A reader that waits for the client when its attempt ends leaves what comes to the next one.
func (r *replayReader) Read(p []byte) (int, error) {
	u := r.replay
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case r.closed.Load():
		return 0, errReplaced
	case r.at < int64(len(u.kept)):
		n := copy(p, u.kept[r.at:])
		r.read(n)
		return n, nil
	case u.failed.Load() != nil:
		return 0, u.failed.Load().Err
	case u.ended:
		r.sent()
		return 0, io.EOF
	case r.at < u.total: // beyond what is kept; no attempt is begun then
		return 0, errReplaced
	}
	n, err := u.from.Read(p)
	if u.keeps && u.total <= maxReplay {
		u.kept = append(u.kept, p[:n]...)
	}
	u.total += int64(n)
	u.sum.Store(u.total)
	r.read(n)
	if u.ended = errors.Is(err, io.EOF); u.ended {
		r.sent()
	}
	if err != nil && !u.ended {
		u.failed.CompareAndSwap(nil, &RequestBodyError{err})
	}
	return n, err
}

// read notes that so much more was read. A wire that knows the length doesn't ask for the end.
func (r *replayReader) read(n int) {
	if r.at += int64(n); n > 0 && r.at == r.replay.length {
		r.sent()
	}
}

// Close implements io.Closer. It doesn't wait for a Read.
func (r *replayReader) Close() error {
	r.closed.Store(true)
	if r.replay.final.Load() == r {
		r.replay.release()
	}
	return nil
}
