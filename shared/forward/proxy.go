package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// StatusClientGone is the status of a call whose client went away before it had an answer. It is nobody's standard, but
// nginx's and Caddy's custom.
const StatusClientGone = 499

// Proxy is through mode's HTTP handler: it finds out the callee, forwards the request to an instance of it, and copies the
// response back. In all that isn't UFC's own it does as Caddy's reverse_proxy does. It is used by many goroutines at once.
//
// Of the x-ufc-* headers, a callee gets x-ufc-service-name (its own name), x-ufc-self-service-name (the caller's),
// x-ufc-attempt, x-ufc-class, x-ufc-timeout-ms, x-ufc-trace-* and what UFC doesn't know; not those that speak to the agent
// alone: x-ufc-idc, x-ufc-connect-timeout-ms, x-ufc-read-timeout-ms and x-ufc-write-timeout-ms. x-ufc-degrade is the agent's
// own, to the callee and to the client.
type Proxy struct {
	// Forwarder sends the requests.
	Forwarder *Forwarder
	// Service is the callee of all requests. All x-ufc-* headers of the clients are removed then, since they are strangers:
	// Caddy is a gateway. Empty: each request names its callee in x-ufc-service-name.
	Service string
	// From is the caller of all requests. Empty: each request names it in x-ufc-self-service-name, or it is unknown.
	From string
	// Debug shows clients, in x-ufc-backend, which instance answered. Not for clients who shouldn't know addresses.
	Debug bool
	// Trusted tells whether the client is a proxy whose X-Forwarded-* headers are true. Nil: none is.
	Trusted func(*http.Request) bool
	// Via is the name in the header Via. Default ufc.
	Via string
	// Ended is told of each request when it is answered, for the access log: the call, which must not be kept, and why the
	// agent itself answered (nil: it didn't). Nil: nobody is.
	Ended func(r *http.Request, call *agent.Call, refusal *agent.Refusal)

	vias [5]atomic.Pointer[[]string] // by version
}

// relay is one request on its way through a Proxy.
type relay struct {
	*Proxy
	delivery
	w        http.ResponseWriter
	r        *http.Request
	call     agent.Call
	out      http.Request   // for the instances
	header   http.Header    // of out
	headers  int            // how many it has had
	status   int            // what the client got
	refusal  *agent.Refusal // the agent's own answer; nil: none
	sent     clientBody
	unread   bool               // the client may be sending still, and its connection is closed after the response
	complete bool               // the response was sent
	values   [valueCount]string // of headers that have one; spares an allocation each

	mu       sync.Mutex // 1xx responses may come on a goroutine of the wire
	answered bool       // the response's head has come: w is not the wire's any more
}

// mostHeaders is how many headers a request has whose map is used again.
const mostHeaders = 64

// relays are for the next requests: all that a request without a body needs is in one piece of memory.
var relays = sync.Pool{New: func() any { return &relay{header: make(http.Header, 8)} }}

// ServeHTTP answers a request, with the response of an instance or with a problem of the agent's own (x-ufc-error).
//
// It returns nil if it has answered, which includes that the client has gone away (status 499). It panics with
// http.ErrAbortHandler if the response broke off after its head, so that the client sees that something is missing. The
// only error is a *RequestBodyError, before anything was written: the client's body broke off or broke a limit.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	x := relays.Get().(*relay)
	x.Proxy, x.w, x.r, x.status = p, w, r, http.StatusInternalServerError
	defer x.end()
	if refusal := x.identify(); refusal != nil {
		return x.fail(refusal)
	}
	if err := p.Forwarder.agent.Begin(&x.call); err != nil {
		return x.fail(err)
	}
	x.prepare()
	if x.out.Body != nil && r.ProtoMajor == 1 {
		// Otherwise the server takes what is left of the body away from the instance when the response begins. A writer that
		// can't has no such habit.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	resp, attempt, err := x.delivery.run()
	x.mu.Lock()
	x.answered = true
	x.mu.Unlock()
	if err != nil {
		x.closeUnread()
		return x.fail(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.tunnel(resp)
		return nil
	}
	x.respond(resp, attempt)
	return nil
}

// prepare makes the call's delivery.
func (x *relay) prepare() {
	x.prepareRequest()
	x.delivery.forwarder, x.delivery.call, x.delivery.request, x.ctx = x.Forwarder, &x.call, &x.out, x.r.Context()
	x.limits = limitsOf(&x.call, x.overrides)
	x.delivery.informational = x.informational
}

// identify reads who calls whom out of the request.
func (x *relay) identify() *agent.Refusal {
	x.call.Callee, x.call.Caller, x.call.Class = x.Service, x.From, agent.DefaultClass
	if x.r.Method == http.MethodConnect {
		x.w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE") // RFC 9110 §15.5.6; others pass too
		return x.Forwarder.agent.Refuse(&x.call, agent.ReasonMethod,
			"CONNECT can't be forwarded, neither to open a tunnel nor as extended CONNECT")
	}
	x.call.Attributes = AttributesOf(x.r)
	if x.Service != "" {
		return nil // a gateway's clients have no say
	}
	if err := x.readHeaders(); err != nil {
		return x.Forwarder.agent.Refuse(&x.call, agent.ReasonBadRequest, err.Error())
	}
	return nil
}

// AttributesOf returns what routes and hash keys look at of a server's request.
func AttributesOf(r *http.Request) agent.Attributes {
	client, _ := clientAddress(r)
	return agent.Attributes{
		Method: r.Method, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Host: r.Host, Header: r.Header,
		Client: client,
	}
}

// clientAddress returns the address of the client's end of the connection, without port and zone; false if it has none.
func clientAddress(r *http.Request) (string, bool) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "", false
	}
	host, _, _ = strings.Cut(host, "%")
	return host, true
}

func (x *relay) readHeaders() (err error) {
	if x.call.Callee, err = single(x.r.Header, headerService, model.CheckName); err != nil {
		return err
	}
	if x.From == "" {
		if x.call.Caller, err = single(x.r.Header, headerSelf, model.CheckName); err != nil {
			return err
		}
	}
	if x.call.IDC, err = single(x.r.Header, headerIDC, nil); err != nil {
		return err
	}
	class, err := single(x.r.Header, headerClass, checkClass)
	if class != "" {
		x.call.Class = int(class[0] - '0')
	}
	if err != nil {
		return err
	}
	x.call.Repeated = claimedAttempts(x.r.Header) > 0
	return x.readTimes()
}

// readTimes reads what the client says of time.
func (x *relay) readTimes() error {
	left, given, err := readMilliseconds(x.r.Header, headerTimeout, 0)
	if err != nil {
		return err
	}
	if x.call.Timeout = left; given && left == 0 {
		x.call.Timeout = -1
	}
	for _, header := range []struct {
		name  string
		limit *time.Duration
	}{
		{headerConnect, &x.overrides.connect}, {headerWrite, &x.overrides.write}, {headerRead, &x.overrides.read},
	} {
		if *header.limit, _, err = readMilliseconds(x.r.Header, header.name, 1); err != nil {
			return err
		}
	}
	return nil
}

func checkClass(value string) error {
	if len(value) != 1 || value[0] < '0' || value[0] > '0'+agent.MaxClass {
		return fmt.Errorf("%.20q is not a class of 0-%d", value, agent.MaxClass)
	}
	return nil
}

// single returns the value of a header that may be there once; empty if it isn't. Two that differ are refused, since
// others might believe the other one.
func single(header http.Header, name string, check func(string) error) (string, error) {
	values := header[name]
	if len(values) == 0 || values[0] == "" && len(values) == 1 {
		return "", nil
	}
	for _, value := range values[1:] {
		if value != values[0] {
			return "", fmt.Errorf("header %s: is given twice, and differently", strings.ToLower(name))
		}
	}
	if check != nil {
		if err := check(values[0]); err != nil {
			return "", fmt.Errorf("header %s: %w", strings.ToLower(name), err)
		}
	}
	return values[0], nil
}

// fail answers a call that got no response.
func (x *relay) fail(err error) error {
	var refusal *agent.Refusal
	var broken *RequestBodyError
	switch {
	case errors.As(err, &refusal):
	case clientGone(err):
		x.status = StatusClientGone
		x.w.WriteHeader(x.status) // for the access log: there is no client to read it
		return nil
	case errors.As(err, &broken):
		x.status = broken.Status()
		return broken
	default: // the context's deadline: somebody above has set one
		refusal = &agent.Refusal{Reason: agent.ReasonDeadline, Service: x.call.Callee, Detail: "the request's time is over"}
	}
	x.status, x.refusal = refusal.Status(), refusal
	refusal.ServeHTTP(x.w, x.r)
	x.complete = true
	return nil
}

// end closes the accounts, also when the response broke off.
func (x *relay) end() {
	x.call.End(x.status)
	if x.Ended != nil {
		x.Ended(x.r, &x.call, x.refusal)
	}
	if x.unread && x.complete {
		x.linger()
	}
	if !x.shared && x.status != StatusClientGone { // nobody else can know any of it
		header := x.header
		if clear(header); x.headers > mostHeaders {
			header = make(http.Header, 8) // a map never shrinks, and takes the longer to clear the larger it is
		}
		*x = relay{header: header}
		relays.Put(x)
	}
}

// clientGone tells whether an error means that there is no client any more. It shows by the context, unless it went in the
// middle of its body.
func clientGone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// informational forwards a 1xx response. 100 isn't forwarded: the server sends it by itself when the body is first read.
func (x *relay) informational(code int, header textproto.MIMEHeader) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.answered || code == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
		return nil
	}
	own := x.w.Header()
	before := own.Clone()
	copyResponseHeader(own, http.Header(header), true)
	x.w.WriteHeader(code)
	clear(own) // the server leaves the headers of a 1xx in place for the response proper
	for name, values := range before {
		own[name] = values
	}
	return nil
}
