package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// wire sends one request to one instance, and returns when the response's head is there. It is used by many goroutines at
// once.
//
// The request is the attempt's own: its URL names the instance, its context is an *exchange. The wire reads the body no
// more after it has closed it, and closes it even when it fails. 1xx responses but 101 go to the httptrace.ClientTrace of
// the context. The body of a 101 is an io.ReadWriteCloser; it has CloseWrite() error if the connection can be half closed.
//
// An error is a *failure, which tells the stage; model.WhenConnect promises that nothing of the request was sent. When the
// context is done, or the request's own body can't be read, any error will do: the loop looks at those first.
type wire interface {
	RoundTrip(req *http.Request) (*http.Response, error)
	// CloseIdle closes the connections that no request uses, now and when they become idle.
	CloseIdle()
}

// exchange is one attempt as a wire sees it, and the context of its request.
type exchange struct {
	context.Context
	connect time.Duration // limit of the dial
	url     url.URL
}

type exchangeKey struct{}

// Value implements context.Context.
func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

// failure is why there is no response.
type failure struct {
	stage  model.RetryWhen // empty: it says nothing about the instance, and err is what the caller gets
	result health.Result
	err    error
}

// Error implements error.
func (f *failure) Error() string {
	if f.stage == "" {
		return f.err.Error()
	}
	return fmt.Sprintf("%s: %v", f.stage, f.err)
}

// Unwrap returns what the operating system or the codec said.
func (f *failure) Unwrap() error { return f.err }

var reasons = map[model.RetryWhen]string{
	model.WhenConnect: agent.ReasonConnect, model.WhenWrite: agent.ReasonWrite, model.WhenRead: agent.ReasonRead,
}

// answer is the error for the caller, after the call's last attempt failed.
func (f *failure) answer(call *agent.Call) error {
	if f.stage == "" {
		return f.err
	}
	detail := "the attempt failed: "
	if n := call.Attempts(); n > 1 {
		detail = fmt.Sprintf("%d attempts failed, the last: ", n)
	}
	return &agent.Refusal{
		Reason: reasons[f.stage], Service: call.Callee, Timeout: isTimeout(f.err), Detail: detail + plain(f.err),
	}
}

// plain says what went wrong without naming addresses: callers may be outside of the mesh. The log names them.
func plain(err error) string {
	var number syscall.Errno
	switch {
	case isTimeout(err):
		return "timed out"
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the instance closed the connection"
	default:
		return "no valid HTTP response"
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// connectResult is the outcome of an attempt whose dial failed.
func connectResult(err error) health.Result {
	switch {
	case isTimeout(err):
		return health.ConnectTimeout
	case health.OwnFault(err):
		return health.Canceled
	default:
		return health.ConnectError
	}
}

// writeResult is the outcome of an attempt whose request could not be sent.
func writeResult(err error) health.Result {
	switch {
	case isTimeout(err):
		return health.WriteTimeout
	case errors.Is(err, syscall.ECONNRESET):
		return health.Reset
	default:
		return health.WriteError
	}
}

// readResult is the outcome of an attempt whose response could not be read to its end.
func readResult(err error) health.Result {
	switch {
	case isTimeout(err):
		return health.ReadTimeout
	case errors.Is(err, syscall.ECONNRESET):
		return health.Reset
	default:
		return health.ReadError
	}
}
