package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"syscall"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// wire sends one request to one instance, and returns when the response's head is there. It is used by many goroutines at
// once.
//
// The wire reads the request's body no more after it has closed it, and closes it even when it fails. 1xx responses but
// 101 go to the exchange. The body of a 101 is an io.ReadWriteCloser; it has CloseWrite() error if the connection can be
// half closed.
//
// The exchange's context and its time limits hold until the response's body has been read to its end or closed.
//
// An error is a *failure, which tells the stage; model.WhenConnect promises that nothing of the request was sent. When the
// context is done, or the request's own body can't be read, any error will do: the loop looks at those first.
type wire interface {
	RoundTrip(x *exchange) (*http.Response, error)
	// CloseIdle closes the connections that no request uses, now and when they become idle.
	CloseIdle()
	// inline tells that nothing of an exchange whose request has no body is in use any more when RoundTrip has failed, or
	// the response's body was closed.
	inline() bool
}

// exchange is one attempt as a wire sees it.
type exchange struct {
	// ctx is done when nobody waits for the response any more.
	ctx context.Context
	// request is the attempt's own. Its URL names the instance. Its context is not to be used.
	request *http.Request
	// buffered tells that reading the request's body never blocks.
	buffered bool
	limits   limits
	// informational is told of 1xx responses but 101, on any goroutine, before RoundTrip returns. Nil: the
	// httptrace.ClientTrace of ctx is, if there is one. Its error ends the attempt.
	informational func(code int, header textproto.MIMEHeader) error

	// What follows is no business of a wire's.

	attempt *agent.Attempt
	degrade int                 // the request's mark
	body    *replayReader       // of the request; nil: none
	traced  func(agent.Outcome) // ends the attempt's span; nil: there is none
	cancel  context.CancelFunc  // of ctx; nil: it is the call's
}

// done tells the agent what became of the attempt, once.
func (x *exchange) done(outcome agent.Outcome) {
	if x.attempt.Done(outcome) && x.traced != nil {
		x.traced(outcome)
	}
}

// release ends what belongs to the attempt alone.
func (x *exchange) release() {
	if x.cancel != nil {
		x.cancel()
	}
}

// limits are the time limits of one attempt.
type limits struct {
	connect time.Duration // until a connection stands, TLS included
	write   time.Duration // that the instance may take nothing of what is written. Time in which the body has nothing to give doesn't count
	read    time.Duration // from the request's end to the response's head, and that the response's body may stand still
	// head is when the call's time until the response's head is over. The time that sending the request's body takes is
	// added to it. Zero: never.
	head time.Time
	// end is when the call's time is over, whatever it is doing, but for a tunnel. Zero: never.
	end time.Time
	// hasty are the stages for which the client asks for less time than the policy gives.
	hasty struct{ connect, write, read bool }
}

// hurried tells whether the client has less patience at a stage than the policy: then a timeout is no failure.
func (l *limits) hurried(stage model.RetryWhen) bool {
	switch stage {
	case model.WhenConnect:
		return l.hasty.connect
	case model.WhenWrite:
		return l.hasty.write
	default:
		return l.hasty.read
	}
}

// errOver is the error of an attempt, or of a response's body, that ended by limits.head or limits.end.
var errOver error = timeLimit("the call's time is over")

// errSlow is the error of an attempt that ended by one of its own limits.
var errSlow error = timeLimit("the instance took too long")

// timeLimit is an error that is a timeout, as net.Error has it.
type timeLimit string

// Error implements error.
func (t timeLimit) Error() string { return string(t) }

// Timeout implements net.Error.
func (timeLimit) Timeout() bool { return true }

// Temporary implements net.Error.
func (timeLimit) Temporary() bool { return true }

// failure is why there is no response.
type failure struct {
	stage   model.RetryWhen // empty: it says nothing about the instance, and err is what the caller gets
	result  health.Result
	err     error
	givenUp bool // canceled, since the client waited no longer
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
		Reason: reasons[f.stage], Service: call.Callee, Timeout: health.TimedOut(f.err), Detail: detail + plain(f.err),
	}
}

// plain says what went wrong without naming addresses: callers may be outside of the mesh. The log names them.
func plain(err error) string {
	var number syscall.Errno
	secure := plainTLS(err)
	switch {
	case health.TimedOut(err):
		return "timed out"
	case secure != "":
		return secure
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the instance closed the connection"
	default:
		return "no valid HTTP response"
	}
}

// connectResult is the outcome of an attempt whose dial failed.
func connectResult(err error) health.Result {
	switch {
	case health.TimedOut(err):
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
	case health.TimedOut(err):
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
	case health.TimedOut(err):
		return health.ReadTimeout
	case errors.Is(err, syscall.ECONNRESET):
		return health.Reset
	default:
		return health.ReadError
	}
}
