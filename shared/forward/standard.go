package forward

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// maxResponseHead limits the head of a response, in bytes. An instance that sends more is broken.
const maxResponseHead = 1 << 20

// silence is how long an HTTP/2 connection may owe an answer before an attempt that ends without one gives it up.
//
// HTTP/1.1 needs no such rule: there, an attempt that ends without an answer takes its connection with it. One of HTTP/2 is
// everybody's, and if its instance hangs, or the network has forgotten it, all requests would go on into it. Frequent PINGs
// would tell, but gRPC servers close a connection on which a quiet stream is pinged more often than every 5 minutes.
const silence = time.Second

// pings are for connections whose streams have nothing to say for long: just above those 5 minutes.
const (
	pingAfter   = 5*time.Minute + 30*time.Second
	pingTimeout = 15 * time.Second
	// writeByteTimeout is how long the kernel may take nothing for an HTTP/2 connection before it is closed. Then not only
	// its streams' requests stand still, which is limits.write, but all that has to be said about any of them.
	writeByteTimeout = 10 * time.Second
)

// standard is the wire over the standard library's transport: HTTP/1.1, HTTP/2 without TLS by prior knowledge, or TLS with
// either of them as the instance likes.
//
// The transport sends a request a second time, to the same instance, by itself: if the connection had been idle, was found
// closed before a byte of the response, and the request has no body and a method that may be repeated. That is left on: it
// is how a connection that the instance has closed while idle costs nobody an error. It counts as one attempt. With HTTP/2
// the transport does so only if the instance says that it hasn't looked at the request (RFC 9113 §8.7); trip.again is for
// an instance that has just closed the connection.
type standard struct {
	transport http.Transport
	upgrades  *http.Transport // for requests that ask for another protocol, if the others may get HTTP/2. Else nil
	secure    *secure         // nil: no TLS
	only2     bool            // HTTP/2 by prior knowledge
	network   dialer          // net.Dialer's, but in tests without a network

	// quit tells that CloseIdle was called, until the next request. The library forgets it for HTTP/2.
	quit atomic.Bool
	// given counts, for an instance's address, how often its HTTP/2 connections were given up: address → *atomic.Uint64.
	given sync.Map
}

// newStandard returns a wire for HTTP/1.1 that keeps connections as the policy says.
func newStandard(policy model.Connections) *standard {
	w := &standard{}
	w.configure(&w.transport, policy)
	w.transport.Protocols.SetHTTP1(true)
	return w
}

// newH2C returns a wire for HTTP/2 without TLS, spoken at once (RFC 9113 §3.3).
func newH2C(policy model.Connections) *standard {
	w := &standard{only2: true}
	w.configure(&w.transport, policy)
	w.transport.Protocols.SetUnencryptedHTTP2(true)
	return w
}

// newTLS returns a wire for HTTP over TLS, where the instance chooses between HTTP/2 and HTTP/1.1. Instances prove that they
// are the host (with or without a port), or if it is empty that they are who is at their address. The error names the file
// that can't be read or parsed; the logger is told of files that change.
func newTLS(policy model.Connections, settings model.TLS, host string, logger *slog.Logger) (*standard, error) {
	w := &standard{upgrades: &http.Transport{}}
	var err error
	if w.secure, err = newSecure(settings, host, []string{"h2", "http/1.1"}, logger); err != nil {
		return nil, err
	}
	w.configure(&w.transport, policy)
	w.transport.Protocols.SetHTTP1(true)
	w.transport.Protocols.SetHTTP2(true)
	w.configure(w.upgrades, policy)
	w.upgrades.Protocols.SetHTTP1(true)
	return w, nil
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (w *standard) configure(transport *http.Transport, policy model.Connections) {
	w.network = new(net.Dialer).DialContext
	*transport = http.Transport{
		Proxy:              nil, // instances are reached directly, whatever the environment says
		DialContext:        w.dial,
		DialTLSContext:     w.dial,
		DisableCompression: true,
		// No idle connections is no keep-alive. The library, told the former only, would go on sharing those of HTTP/2.
		DisableKeepAlives:      !policy.KeepAlive || policy.MaxIdlePerInstance == 0,
		MaxIdleConnsPerHost:    policy.MaxIdlePerInstance,
		IdleConnTimeout:        policy.IdleTimeout.Std(),
		MaxResponseHeaderBytes: maxResponseHead,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: writeByteTimeout,
		},
	}
}

// dialError is any error of making a connection, so that it can be told from what comes after it.
type dialError struct{ error }

// Unwrap returns the error of the dialer or of the handshake.
func (e *dialError) Unwrap() error { return e.error }

type exchangeKey struct{}

// dial makes a connection, TLS included, within the time limit of the attempt that asked for it. The transport may give
// the connection to another request to the same instance, and goes on with the dial when the client has left.
func (w *standard) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	x := ctx.Value(exchangeKey{}).(*exchange)
	if x.limits.connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, x.limits.connect)
		defer cancel()
	}
	conn, err := w.connect(ctx, network, x)
	if err != nil {
		if ctx.Err() != nil || health.TimedOut(err) {
			err = fmt.Errorf("%w: %w", errSlow, err)
		}
		return nil, &dialError{err}
	}
	return conn, nil
}

func (w *standard) connect(ctx context.Context, network string, x *exchange) (net.Conn, error) {
	address := x.request.URL.Host
	plain, err := w.network(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &monitored{Conn: plain, multiplexed: w.only2, gone: make(chan struct{}), ended: make(chan struct{})}
	if w.secure == nil {
		return conn, nil
	}
	config := w.secure.client(address)
	if w.upgrading(x) {
		config.NextProtos = []string{"http/1.1"}
	}
	over := tls.Client(conn, config)
	if err := over.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", address, err)
	}
	conn.over, conn.multiplexed = over, over.ConnectionState().NegotiatedProtocol == "h2"
	return over, nil
}

// upgrading tells whether a request asks for another protocol, which HTTP/2 can't give it.
func (w *standard) upgrading(x *exchange) bool {
	return w.upgrades != nil && upgradeType(x.request.Header) != ""
}

// RoundTrip implements wire.
func (w *standard) RoundTrip(x *exchange) (*http.Response, error) {
	w.quit.Store(false)
	t := &trip{wire: w, x: x}
	transport := &w.transport
	if w.upgrading(x) {
		transport = w.upgrades
	}
	req := t.begin()
	resp, err := transport.RoundTrip(req)
	if err != nil && t.again() {
		resp, err = transport.RoundTrip(req)
	}
	if err == nil && t.ctx.Err() != nil {
		// Told to hang up, over TLS, an instance may answer still. That is no answer to the request.
		resp.Body.Close()
		err = context.Cause(t.ctx)
	}
	if err != nil {
		return nil, t.fail(err)
	}
	t.answer(resp)
	return resp, nil
}

// CloseIdle implements wire.
func (w *standard) CloseIdle() {
	w.quit.Store(true)
	w.closeIdle()
}

func (w *standard) closeIdle() {
	w.transport.CloseIdleConnections()
	if w.upgrades != nil {
		w.upgrades.CloseIdleConnections()
	}
}

// generation tells how often the connections to the address were given up.
func (w *standard) generation(address string) uint64 {
	if count, ok := w.given.Load(address); ok {
		return count.(*atomic.Uint64).Load()
	}
	return 0
}

// giveUp makes new requests to the address not use the connections of the generation. Their streams go on; then they are
// idle, and are closed as idle ones are.
//
// The library has no such thing, but keeps connections by the text of the URL's host, which nobody else looks at.
func (w *standard) giveUp(address string, generation uint64) {
	count, _ := w.given.LoadOrStore(address, new(atomic.Uint64))
	count.(*atomic.Uint64).CompareAndSwap(generation, generation+1) // only once for all the attempts that were on one
}

// pooled is the host under which the library is to keep connections of a generation.
func pooled(address string, generation uint64) string {
	host, port, err := net.SplitHostPort(address)
	if generation == 0 || err != nil {
		return address
	}
	return net.JoinHostPort(fmt.Sprintf("%s.%d", host, generation), port)
}

// inline implements wire.
func (*standard) inline() bool { return false }

var _ wire = (*standard)(nil)
