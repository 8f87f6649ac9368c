package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// direct is the wire for HTTP/1.1 that runs a request on the caller's goroutine, since handing it to others is most of
// what the standard library's transport costs. Requests are written and responses read by the standard library's own
// codec. It doesn't upgrade: a 101 is a failure.
//
// A connection that the instance has closed while it was idle costs nobody an error. Before a request is sent on it, it
// is asked, without a system call more, whether it is open and silent; and what the instance closes in the very moment
// is tried again, once, on a new connection to the same instance, if the request has no body and a method that may be
// repeated (RFC 9110 §9.2.2). That counts as the same attempt.
type direct struct {
	idle *idleConns
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// newDirect returns a wire that keeps connections as the policy says.
func newDirect(policy model.Connections) *direct {
	most := policy.MaxIdlePerInstance
	if !policy.KeepAlive {
		most = 0
	}
	return &direct{idle: newIdleConns(most, policy.IdleTimeout.Std()), dial: new(net.Dialer).DialContext}
}

// inline implements wire.
func (*direct) inline() bool { return true }

// CloseIdle implements wire.
func (w *direct) CloseIdle() { w.idle.close() }

// RoundTrip implements wire.
func (w *direct) RoundTrip(x *exchange) (*http.Response, error) {
	up := newUpload(x)
	if err := checkRequest(x.request); err != nil {
		up.stop()
		return nil, &failure{result: health.Canceled, err: err}
	}
	if w.idle.most == 0 {
		x.request.Close = true
	}
	resp, err := w.roundTrip(x, up)
	if err != nil {
		up.stop()
		return nil, err
	}
	return resp, nil
}

func (w *direct) roundTrip(x *exchange, up *upload) (*http.Response, error) {
	for fresh := false; ; {
		if err := x.ctx.Err(); err != nil {
			return nil, err
		}
		now := time.Now()
		var c *directConn
		if !fresh {
			c = w.idle.take(x.request.URL.Host, now)
		}
		if c == nil {
			var err error
			if c, err = w.connect(x, now); err != nil {
				return nil, err
			}
			now = time.Now()
		}
		resp, err := c.roundTrip(x, up, now)
		if err == nil {
			return resp, nil
		}
		c.fail()
		switch {
		case c.stale(): // take the next one
		case c.repeatable():
			fresh = true
		default:
			return nil, c.explain(err)
		}
	}
}

// connect opens a connection within the attempt's limits.
func (w *direct) connect(x *exchange, now time.Time) (*directConn, error) {
	var by limit
	by.after(now, x.limits.connect)
	by.end(x.limits.head)
	by.end(x.limits.end)
	ctx := x.ctx
	if by.set() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, by.at)
		defer cancel()
	}
	conn, err := w.dial(ctx, "tcp", x.request.URL.Host)
	switch {
	case err == nil:
		return newDirectConn(conn, w.idle, x.request.URL.Host), nil
	case x.ctx.Err() != nil:
		return nil, x.ctx.Err()
	case ctx.Err() != nil:
		err = by.over
	}
	return nil, &failure{stage: model.WhenConnect, result: connectResult(err), err: err}
}

// checkRequest refuses what the standard library's writer would make another request of, or would send though it is none.
func checkRequest(req *http.Request) error {
	err := checkFields(req.Header)
	if err == nil && len(req.Trailer) > 0 {
		err = checkFields(req.Trailer)
	}
	if err == nil && !httpguts.ValidHeaderFieldName(req.Method) && req.Method != "" { // a method is a token, too
		err = fmt.Errorf("the method %.20q is none", req.Method)
	}
	if err != nil {
		return badRequest(err)
	}
	return nil
}

func badRequest(err error) error {
	return &agent.Refusal{Reason: agent.ReasonBadRequest, Detail: err.Error()}
}

func checkFields(header http.Header) error {
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("the header name %.40q is none", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("header %.40s: its value has a control character", name)
			}
		}
	}
	return nil
}

var (
	errUnsolicited = errors.New("the instance spoke before it was asked")
	errLongHead    = fmt.Errorf("the response's head is longer than %d bytes", maxResponseHead)
	errSwitch      = errors.New("the instance switches protocols, though nobody asked for it")
	errChatter     = fmt.Errorf("more than %d informational responses", maxInformational)
)

// maxInformational limits the 1xx responses before a response. Nobody needs more than a handful; each is work.
const maxInformational = 100

var _ wire = (*direct)(nil)
