package forward

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"

	"github.com/ufc-mesh/ufc/shared/model"
)

// maxResponseHead limits the head of a response, in bytes. An instance that sends more is broken.
const maxResponseHead = 1 << 20

// standard is the wire for HTTP/1.1 over the standard library's transport.
//
// The transport sends a request a second time, to the same instance, by itself: if the connection had been idle, was found
// closed before a byte of the response, and the request has no body and a method that may be repeated. That is left on:
// it is how a connection that the instance has closed while idle costs nobody an error. It counts as one attempt.
type standard struct {
	transport http.Transport
}

// newStandard returns a wire that keeps connections as the policy says.
func newStandard(policy model.Connections) *standard {
	idle := policy.MaxIdlePerInstance
	if idle == 0 {
		idle = -1 // 0 would be the transport's own default, 2
	}
	w := &standard{transport: http.Transport{
		Proxy:                  nil, // instances are reached directly, whatever the environment says
		DisableCompression:     true,
		DisableKeepAlives:      !policy.KeepAlive,
		MaxIdleConnsPerHost:    idle,
		IdleConnTimeout:        policy.IdleTimeout.Std(),
		MaxResponseHeaderBytes: maxResponseHead,
		Protocols:              new(http.Protocols),
	}}
	w.transport.Protocols.SetHTTP1(true)
	w.transport.DialContext = w.dial
	return w
}

// dialError is any error of a dial, so that it can be told from what comes after it.
type dialError struct{ error }

// Unwrap returns the dialer's error.
func (e *dialError) Unwrap() error { return e.error }

type exchangeKey struct{}

// dial connects within the time limit of the attempt that asked for the connection. The transport may give the
// connection to another request, and goes on with the dial when the client has left.
func (w *standard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: ctx.Value(exchangeKey{}).(*exchange).limits.connect}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return conn, nil
}

// RoundTrip implements wire.
func (w *standard) RoundTrip(x *exchange) (*http.Response, error) {
	resp, err := w.transport.RoundTrip(x.request.WithContext(context.WithValue(x.ctx, exchangeKey{}, x)))
	if err == nil {
		return resp, nil
	}
	var dial *dialError
	if errors.As(err, &dial) {
		return nil, &failure{model.WhenConnect, connectResult(dial.error), dial.error}
	}
	var operation *net.OpError
	// Large bodies are written by the socket's ReadFrom, which names itself in the error.
	if errors.As(err, &operation) && slices.Contains([]string{"write", "readfrom", "splice", "sendfile"}, operation.Op) {
		return nil, &failure{model.WhenWrite, writeResult(err), err}
	}
	return nil, &failure{model.WhenRead, readResult(err), err}
}

// CloseIdle implements wire.
func (w *standard) CloseIdle() { w.transport.CloseIdleConnections() }

var _ wire = (*standard)(nil)
