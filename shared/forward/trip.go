package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// trip is one exchange on its way through the standard library, which tells it of its progress by an httptrace.
type trip struct {
	wire       *standard
	x          *exchange
	dog        watchdog
	ctx        context.Context // ends with x.ctx, with a limit that is broken, and with the response
	cancel     context.CancelCauseFunc
	upload     *pumped // nil: no body
	generation uint64

	conn      atomic.Pointer[monitored]
	reused    bool        // the connection had been used before
	wroteHead atomic.Bool // on whichever connection
}

// begin returns the request for the library.
func (t *trip) begin() *http.Request {
	outer := httptrace.ContextClientTrace(t.x.ctx)
	t.ctx, t.cancel = context.WithCancelCause(context.WithValue(untraced{t.x.ctx}, exchangeKey{}, t.x))
	t.dog.start(t.x.limits, t.cancel)

	in := t.x.request
	out, url := in.WithContext(httptrace.WithClientTrace(t.ctx, t.trace(outer))), *in.URL
	t.generation = t.wire.generation(url.Host)
	url.Host = pooled(in.URL.Host, t.generation)
	if t.wire.secure != nil {
		url.Scheme = "https"
	}
	out.URL = &url
	if out.Host == "" {
		out.Host = in.URL.Host
	}
	if t.wire.only2 && upgradeType(in.Header) != "" {
		// HTTP/2 knows no upgrades; whoever is asked for one may ignore that (RFC 9110 §7.8).
		out.Header = in.Header.Clone()
		delete(out.Header, "Connection")
		delete(out.Header, "Upgrade")
	}
	if in.Body != nil && in.Body != http.NoBody {
		t.upload = newPumped(t.x, &t.dog, t.gone)
		out.Body = t.upload
	}
	return out
}

// untraced is a context without its httptrace.ClientTrace. The trip's own passes everything on to that one; left in the
// context, the library would combine the two by reflection at each request.
type untraced struct{ context.Context }

// Value implements context.Context.
func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

func (t *trip) trace(outer *httptrace.ClientTrace) *httptrace.ClientTrace {
	var trace httptrace.ClientTrace
	if outer != nil {
		trace = *outer
	}
	next := trace
	trace.GotConn = func(info httptrace.GotConnInfo) {
		t.reused = info.Reused
		t.gotConnection(info.Conn)
		if next.GotConn != nil {
			next.GotConn(info)
		}
	}
	trace.WroteHeaders = func() {
		t.wroteHead.Store(true)
		if next.WroteHeaders != nil {
			next.WroteHeaders()
		}
	}
	trace.WroteRequest = func(info httptrace.WroteRequestInfo) {
		t.dog.requestSent()
		if next.WroteRequest != nil {
			next.WroteRequest(info)
		}
	}
	if t.x.informational != nil {
		next.Got1xxResponse = t.x.informational
	}
	if next.Got1xxResponse != nil {
		trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
			if code == http.StatusSwitchingProtocols {
				return errors.New("the instance switches protocols in HTTP/2, which RFC 9113 §8.6 forbids")
			}
			return next.Got1xxResponse(code, header)
		}
	}
	return &trace
}

// gotConnection is told when there is a connection for the request.
func (t *trip) gotConnection(conn net.Conn) {
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	if conn, ok := conn.(*monitored); ok {
		conn.asked()
		t.conn.Store(conn)
	}
	t.dog.gotConnection()
}

func (t *trip) gone() <-chan struct{} {
	if conn := t.conn.Load(); conn != nil {
		return conn.gone
	}
	return nil
}

// again tells whether the request is to be sent a second time, as the library does it over HTTP/1.1, since the connection
// ended after it and before a byte came. It is asked once.
func (t *trip) again() bool {
	conn := t.conn.Load()
	if conn == nil || !conn.multiplexed || !t.reused || t.upload != nil || t.ctx.Err() != nil || conn.owing.Load() == 0 ||
		!conn.isOver() {
		return false
	}
	switch t.x.request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	default:
		return false
	}
}

// fail ends an attempt without response.
func (t *trip) fail(err error) *failure {
	t.doubt()
	defer t.end()
	err = t.explain(err)
	if limit := t.dog.broken(); limit != nil {
		stage, result := t.dog.blame()
		return &failure{stage: stage, result: result, err: limit}
	}
	stage, result := t.stage(err)
	return &failure{stage: stage, result: result, err: err}
}

// explain returns how the connection ended, where the library tells no more than that it did.
func (t *trip) explain(err error) error {
	conn := t.conn.Load()
	if conn == nil || !errors.Is(err, errConnectionGone) && !errors.Is(err, net.ErrClosed) &&
		err.Error() != "http2: client conn could not be established" {
		return err
	}
	select {
	case <-conn.gone:
		return conn.reason()
	case <-t.ctx.Done():
		return err
	}
}

// stage tells where an attempt failed that no limit ended. A request whose head wasn't written to its end can't have been
// understood, and one that the instance has refused to look at wasn't either: those count as not sent.
func (t *trip) stage(err error) (model.RetryWhen, health.Result) {
	var dial *dialError
	var operation *net.OpError
	switch {
	case errors.As(err, &dial) && t.wroteHead.Load(): // on a connection before, which was found closed
		return model.WhenRead, connectResult(dial.error)
	case errors.As(err, &dial):
		return model.WhenConnect, connectResult(dial.error)
	case isRejected(err):
		return model.WhenConnect, health.ConnectError
	case isUnprocessed(err), !t.wroteHead.Load() && t.conn.Load().isOver():
		return model.WhenConnect, readResult(err)
	case !t.wroteHead.Load(): // the library can't send such a request, or not to an instance that wants shorter heads
		return model.WhenRead, health.Canceled
	case errors.As(err, &operation) && slices.Contains([]string{"write", "readfrom", "splice", "sendfile"}, operation.Op):
		return model.WhenWrite, writeResult(err)
	default:
		return model.WhenRead, readResult(err)
	}
}

// isUnprocessed tells whether an instance has said, over HTTP/2, that it has not processed a request and won't (RFC 9113
// §8.7): by the error code REFUSED_STREAM, or by a GOAWAY with an earlier stream. Without a body the library has sent such a
// request again. With one, it says this, of which only the text can be had; another text would only cost the retry.
func isUnprocessed(err error) bool {
	_, cause, found := strings.Cut(err.Error(), "cannot retry err [")
	return found && (strings.Contains(cause, "REFUSED_STREAM") || strings.Contains(cause, "graceful shutdown GOAWAY"))
}

// doubt gives up an HTTP/2 connection that was silent too long for an attempt that got no whole response.
func (t *trip) doubt() {
	if conn := t.conn.Load(); conn != nil && conn.multiplexed && conn.silent() >= silence {
		t.wire.giveUp(t.x.request.URL.Host, t.generation)
	}
}

// end is told when the library is done with the exchange, or has to be.
func (t *trip) end() {
	t.dog.end()
	t.cancel(nil)
	if t.upload != nil {
		t.upload.shut()
	}
	if t.wire.quit.Load() {
		t.wire.closeIdle()
	}
}

// answer makes the limits hold, or end, that a response's body has.
func (t *trip) answer(resp *http.Response) {
	t.dog.gotHead()
	if resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		t.end() // of a tunnel, the library knows no more than that the connection isn't its own
		return
	}
	body := &limitedBody{ReadCloser: resp.Body, trip: t, stop: func() bool { return true }}
	if resp.ProtoMajor == 2 {
		// The library doesn't look at the context while it waits for the request's body, or for leave to send of it.
		body.stop = context.AfterFunc(t.ctx, func() { body.ReadCloser.Close() })
	}
	resp.Body = body
	if t.x.request.Method == http.MethodHead {
		body.Close()
		resp.Body = http.NoBody // what HTTP/2 has instead is a type of its own
	}
}

// limitedBody is a response's body, within the limits.
type limitedBody struct {
	io.ReadCloser
	trip *trip
	stop func() bool
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	b.trip.dog.reads(true)
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		b.trip.dog.reads(false)
		return n, nil
	}
	b.trip.dog.end()
	// Even an end of data: told to hang up, an instance may end its response in good order, but not whole.
	limit, gone := b.trip.dog.broken(), b.trip.x.ctx.Err()
	if !errors.Is(err, io.EOF) {
		b.trip.doubt()
	}
	switch {
	case limit != nil:
		return n, limit
	case gone != nil:
		return n, gone
	default:
		return n, err
	}
}

// Close implements io.Closer.
func (b *limitedBody) Close() error {
	b.stop()
	b.trip.dog.end()
	// The library waits for the end of its own work, which it doesn't come to on a connection that takes nothing.
	guard := time.AfterFunc(lastWords, func() { b.trip.cancel(nil) })
	defer guard.Stop()
	err := b.ReadCloser.Close()
	b.trip.end()
	return err
}
