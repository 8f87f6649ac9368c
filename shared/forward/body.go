package forward

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

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
	case health.TimedOut(e.Err):
		return http.StatusRequestTimeout
	default:
		return http.StatusBadRequest
	}
}

// responseBody tells the agent the outcome of its attempt: where it ends, or when the caller closes it before.
type responseBody struct {
	io.ReadCloser
	x       *exchange
	upload  *replay
	outcome agent.Outcome // as it stands at the response's head
	closed  func()        // told of the first Close; nil: nobody is
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
	return b.close()
}

func (b *responseBody) close() error {
	if b.closed != nil {
		defer b.closed()
	}
	defer b.x.release()
	return b.ReadCloser.Close()
}

func (b *responseBody) result(err error) health.Result {
	switch {
	case errors.Is(err, io.EOF):
		return health.OK
	case b.x.ctx.Err() != nil, b.upload.failure() != nil, errors.Is(err, errOver):
		return health.Canceled // the client's own limit: the policy's total ends at the head
	default:
		return readResult(err)
	}
}

// done tells the outcome. Only the first one counts: Read and Close may be called by two goroutines.
func (b *responseBody) done(result health.Result) {
	outcome := b.outcome
	outcome.Result = result
	b.x.done(outcome)
}

// tunnelBody is the body of a 101: the connection, now for another protocol. The instance has kept its word at the head,
// so that whoever ends the tunnel in good order, the outcome is ok.
type tunnelBody struct {
	responseBody
	conn io.ReadWriteCloser // the responseBody's
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
	return b.close()
}

// watch makes the response's body tell the outcome of its attempt.
func watch(resp *http.Response, watching responseBody) {
	if resp.Body == http.NoBody {
		watching.done(health.OK)
		watching.x.release()
		return
	}
	watching.ReadCloser = resp.Body
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &tunnelBody{responseBody: watching, conn: conn}
		return
	}
	resp.Body = &watching
}

// onClose calls f when the body of a watched response is closed first, which may be now.
func onClose(resp *http.Response, f func()) {
	switch body := resp.Body.(type) {
	case *responseBody:
		body.closed = sync.OnceFunc(f)
	case *tunnelBody:
		body.closed = sync.OnceFunc(f)
	default: // none
		f()
	}
}
