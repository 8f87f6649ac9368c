package forward

import (
	"errors"
	"io"
	"sync"
)

// uploadChunk is how much of a request's body the library gets at once, in bytes. The instance must have taken it within
// the limit of writing, and nobody sees the progress in between: the library would ask for up to 512 KiB.
const uploadChunk = 16 << 10

// errPumpClosed is what the library gets that reads on after it has closed the body. It is never an attempt's error.
var errPumpClosed = errors.New("the request's body is closed")

// errConnectionGone is what the library gets that waits for a body while its connection is closed.
var errConnectionGone = errors.New("the connection was closed while the request's body was awaited")

// pumped is a request's body as the library reads it.
//
// Its Read comes back when the body or the connection is closed, though the client sends nothing: the library waits for
// the end of the Read that it is in, even to tell that the instance is gone. So a body that may block is read by a
// goroutine of its own, one Read at a time and never ahead.
//
// Before it has read, the library may close the body and then start again, on another connection. So the source is closed
// only when it was read of, or at the attempt's end.
type pumped struct {
	source   io.ReadCloser
	buffered bool // the source never blocks
	dog      *watchdog
	gone     func() <-chan struct{} // closed with the connection in use

	ask  chan struct{} // for the pump: read once
	give chan gift
	stop chan struct{}

	mu      sync.Mutex
	begun   bool // something was asked for
	pumping bool // the pump is in the source's Read
	closed  bool
	rest    gift // what was read but not taken yet
}

// gift is what a Read of the source returned.
type gift struct {
	data []byte
	err  error
}

func newPumped(x *exchange, dog *watchdog, gone func() <-chan struct{}) *pumped {
	return &pumped{
		source: x.request.Body, buffered: x.buffered, dog: dog, gone: gone,
		ask: make(chan struct{}, 1), give: make(chan gift, 1), stop: make(chan struct{}),
	}
}

// Read implements io.Reader.
func (u *pumped) Read(p []byte) (int, error) {
	p = p[:min(len(p), uploadChunk)]
	u.dog.bodyAsked()
	defer u.dog.bodyGiven()
	if u.buffered {
		return u.readBuffered(p)
	}
	if n, err, done := u.begin(p); done {
		return n, err
	}
	select {
	case got := <-u.give:
		return u.take(got, p)
	case <-u.stop:
		return 0, errPumpClosed
	case <-u.gone():
		u.shut()
		return 0, errConnectionGone
	}
}

func (u *pumped) readBuffered(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, errPumpClosed
	}
	u.begun = true
	return u.source.Read(p)
}

// begin takes what is left of the last Read, or has the pump read more.
func (u *pumped) begin(p []byte) (n int, err error, done bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed:
		return 0, errPumpClosed, true
	case len(u.rest.data) > 0 || u.rest.err != nil:
		n, err = u.rest.into(p)
		return n, err, true
	case !u.begun:
		u.begun = true
		go u.pump()
	}
	u.pumping = true
	u.ask <- struct{}{}
	return 0, nil, false
}

// take copies what the pump has read. The data is the pump's, whose buffer goes when the body is closed.
func (u *pumped) take(got gift, p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, errPumpClosed
	}
	u.rest = got
	return u.rest.into(p)
}

func (g *gift) into(p []byte) (int, error) {
	n := copy(p, g.data)
	g.data = g.data[n:]
	if len(g.data) > 0 {
		return n, nil
	}
	return n, g.err
}

// pump reads when it is asked to. It ends when the body is closed and the source's Read has come back: the server ends
// that one with the client's connection, or with the request.
func (u *pumped) pump() {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for range u.ask {
		n, err := u.source.Read(buffer[:uploadChunk])
		u.mu.Lock()
		u.pumping = false
		closed := u.closed
		u.mu.Unlock()
		if closed {
			_ = u.source.Close() // of no further use; there is nobody to tell
			return
		}
		u.give <- gift{buffer[:n], err}
	}
}

// Close implements io.Closer, for the library.
func (u *pumped) Close() error {
	u.mu.Lock()
	begun := u.begun
	u.mu.Unlock()
	if begun {
		u.shut()
	}
	return nil
}

// shut closes the body for good. A Read of the source that is under way is left to the pump, which closes the source
// then: closing it now may have to wait for that Read.
func (u *pumped) shut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	u.closed, u.rest = true, gift{}
	close(u.ask)
	close(u.stop)
	if !u.pumping {
		_ = u.source.Close() // of no further use; there is nobody to tell
	}
}
