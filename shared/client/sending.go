package client

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// sending is a request's body, kept open over attempts that didn't use it. A transport closes the body of what it can't
// send; that is held back until it is known that no other agent will get it.
type sending struct {
	req  *http.Request
	body io.ReadCloser // nil: the request has none

	mu       sync.Mutex
	used     bool // something may have been read of it
	faulty   bool // the request itself is what failed: its body, or a form that nothing can be sent in
	final    bool // a Close is no longer held back
	unclosed bool // a Close was held back
}

func newSending(req *http.Request) *sending {
	s := &sending{req: req}
	if req.Body != http.NoBody {
		s.body = req.Body
	}
	return s
}

// Read implements io.Reader.
func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	s.used = true
	s.mu.Unlock()
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.blame()
	}
	return n, err
}

// blame notes that the request is what failed, whichever agent it is sent to.
func (s *sending) blame() {
	s.mu.Lock()
	s.faulty = true
	s.mu.Unlock()
}

func (s *sending) blamed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faulty
}

// Close implements io.Closer.
func (s *sending) Close() error {
	s.mu.Lock()
	s.unclosed = !s.final
	held := s.unclosed
	s.mu.Unlock()
	if held {
		return nil
	}
	return s.body.Close()
}

// abandon is Close for an attempt that no transport got.
func (s *sending) abandon() {
	s.mu.Lock()
	s.unclosed = s.body != nil
	s.mu.Unlock()
}

// release lets Close through: this attempt was the last.
func (s *sending) release() {
	s.mu.Lock()
	s.final = true
	unclosed := s.unclosed
	s.unclosed = false
	s.mu.Unlock()
	if unclosed {
		_ = s.body.Close()
	}
}

// renew returns the body for another attempt, after one that ended with err, nil if it was answered; nil if the request can't be
// sent again, or must not.
func (s *sending) renew(err error) *sending {
	unreached := errors.As(err, new(*unreachable))
	if !unreached && !mayRepeat(s.req) || s.blamed() {
		return nil
	}
	s.mu.Lock()
	untouched := s.body == nil || unreached && !s.used
	if untouched {
		s.unclosed = false // the next attempt closes it, perhaps after its response has come
	}
	s.mu.Unlock()
	if untouched {
		return s
	}
	if s.req.GetBody == nil {
		return nil
	}
	body, err := s.req.GetBody()
	if err != nil {
		return nil
	}
	s.release()
	return &sending{req: s.req, body: body}
}
