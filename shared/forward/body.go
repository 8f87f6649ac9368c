package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

// RequestBodyError is the error of a call whose request's body could not be read: the client stopped in the middle, or
// the body broke a limit. It says nothing about any instance.
type RequestBodyError struct{ Err error }

// Error implements error.
func (e *RequestBodyError) Error() string {
	return fmt.Sprintf("reading the request's body: %v", e.Err)
}

// Unwrap returns what the body's Read returned.
func (e *RequestBodyError) Unwrap() error { return e.Err }

// Status is the HTTP status that answers the request, if the error doesn't bring its own: 413 over a limit, 408 for a
// client that was too slow, 400 for the rest.
func (e *RequestBodyError) Status() int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(e.Err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case isTimeout(e.Err):
		return http.StatusRequestTimeout
	default:
		return http.StatusBadRequest
	}
}

// requestBody is the body of a call's request, as its attempts see it. It stays open for the next attempt until some
// attempt has read of it.
type requestBody struct {
	io.ReadCloser
	read   atomic.Bool
	failed atomic.Pointer[RequestBodyError]
}

// hold makes the request's body a requestBody. It returns nil if there is none.
func hold(req *http.Request) *requestBody {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	body := &requestBody{ReadCloser: req.Body}
	req.Body = body
	return body
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed.CompareAndSwap(nil, &RequestBodyError{err})
	}
	return n, err
}

// Close implements io.Closer. It is called by a wire after each attempt.
func (b *requestBody) Close() error {
	if !b.read.Load() {
		return nil
	}
	return b.ReadCloser.Close()
}

// replayable tells whether another attempt may send the body.
func (b *requestBody) replayable() bool { return b == nil || !b.read.Load() }

// release closes the body when no attempt will send it any more.
func (b *requestBody) release() {
	if b != nil {
		_ = b.ReadCloser.Close() // of no further use; there is nobody to tell
	}
}

// failure returns the error that reading the body ended with, nil if it did not.
func (b *requestBody) failure() error {
	if b == nil {
		return nil
	}
	if failed := b.failed.Load(); failed != nil {
		return failed
	}
	return nil
}

// responseBody tells the agent the outcome of its attempt: where it ends, or when the caller closes it before.
type responseBody struct {
	io.ReadCloser
	ctx     context.Context
	upload  *requestBody
	attempt *agent.Attempt
	outcome agent.Outcome // as it stands at the response's head
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.done(b.result(err))
	}
	return n, err
}

// Close implements io.Closer. A body that isn't read to its end is the caller's doing.
func (b *responseBody) Close() error {
	b.done(health.Canceled)
	return b.ReadCloser.Close()
}

func (b *responseBody) result(err error) health.Result {
	switch {
	case errors.Is(err, io.EOF):
		return health.OK
	case b.ctx.Err() != nil, b.upload.failure() != nil:
		return health.Canceled
	default:
		return readResult(err)
	}
}

// done tells the outcome. Only the first one counts: Read and Close may be called by two goroutines.
func (b *responseBody) done(result health.Result) {
	outcome := b.outcome
	outcome.Result = result
	b.attempt.Done(outcome)
}

// tunnelBody is the body of a 101: the connection, now for another protocol. The instance has kept its word at the head,
// so that whoever ends the tunnel in good order, the outcome is ok.
type tunnelBody struct {
	responseBody
	conn io.ReadWriteCloser
}

// Write implements io.Writer.
func (b *tunnelBody) Write(p []byte) (int, error) { return b.conn.Write(p) }

// CloseWrite closes the direction to the instance.
func (b *tunnelBody) CloseWrite() error {
	if conn, ok := b.conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return http.ErrNotSupported
}

// Close implements io.Closer.
func (b *tunnelBody) Close() error {
	b.done(health.OK)
	return b.conn.Close()
}

// watch makes the response's body tell the outcome of its attempt.
func watch(resp *http.Response, watching responseBody) {
	if resp.Body == http.NoBody {
		watching.done(health.OK)
		return
	}
	watching.ReadCloser = resp.Body
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &tunnelBody{responseBody: watching, conn: conn}
		return
	}
	resp.Body = &watching
}
