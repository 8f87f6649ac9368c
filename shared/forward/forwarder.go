package forward

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Forwarder sends requests to instances, and keeps the connections. There is one for an agent; it is used by many
// goroutines at once.
type Forwarder struct {
	agent  *agent.Agent
	logger *slog.Logger

	// Trace, unless nil, begins the span of an attempt: it returns the attempt's context and what is told of its end, which
	// may be nil, and may add to the header that the instance gets. Set it before the first request.
	Trace func(ctx context.Context, call *agent.Call, attempt *agent.Attempt, header http.Header) (context.Context, func(agent.Outcome))

	// plain holds one wire for each way to keep connections that a Service of protocol http has asked for, wires those for all
	// else. The maps are immutable. Nothing is ever taken out of them: a wire without connections costs some hundred bytes.
	plain atomic.Pointer[map[model.Connections]wire]
	wires atomic.Pointer[map[wireKey]wire]

	mu      sync.Mutex // of the writers of wires, and of what follows
	closed  bool
	tunnels map[io.Closer]struct{}
	running sync.WaitGroup // tunnels, and attempts that run by themselves
}

// New returns a forwarder without connections. Close it.
func New(a *agent.Agent, logger *slog.Logger) *Forwarder {
	f := &Forwarder{agent: a, logger: logger, tunnels: map[io.Closer]struct{}{}}
	f.plain.Store(&map[model.Connections]wire{})
	f.wires.Store(&map[wireKey]wire{})
	return f
}

// Close ends the tunnels and closes idle connections. Requests under way go on, and their connections are closed after
// them.
func (f *Forwarder) Close() {
	f.mu.Lock()
	f.closed = true
	tunnels := slices.Collect(maps.Keys(f.tunnels))
	f.mu.Unlock()
	for _, tunnel := range tunnels {
		tunnel.Close()
	}
	for _, w := range *f.plain.Load() {
		w.CloseIdle()
	}
	for _, w := range *f.wires.Load() {
		w.CloseIdle()
	}
	f.running.Wait()
}

// RoundTrip sends a request to an instance of the call's callee. The call must have begun; its End is left to the caller.
// If there is a response, ended is told when nobody reads its body any more: once it is closed, or at once if there is
// none. A tunnel's (101) may be closed on any goroutine.
//
// Of the request's URL, scheme and host don't matter. Its x-ufc-* headers are replaced by the agent's own: the names of
// callee and caller, and the attempt's number. The Service's host, if it has one, goes before the request's. As with
// every http.RoundTripper, the request isn't changed, its body is closed, and 1xx responses go to the
// httptrace.ClientTrace of its context.
//
// The response is as the instance sent it, hop-by-hop headers included, but for the x-ufc-* headers that are the agent's
// alone to set. The error is an *agent.Refusal, a *RequestBodyError, or the error of the request's context.
func (f *Forwarder) RoundTrip(req *http.Request, call *agent.Call, ended func(*http.Response)) (*http.Response, error) {
	own := *req
	own.Header = make(http.Header, len(req.Header)+3)
	for name, values := range req.Header {
		if !isUFC(name) {
			own.Header[name] = values
		}
	}
	own.Header[headerService] = []string{call.Callee}
	if call.Caller != "" {
		own.Header[headerSelf] = []string{call.Caller}
	}
	d := &delivery{forwarder: f, call: call, request: &own, ctx: req.Context(), limits: limitsOf(call, overrides{})}
	resp, _, err := d.run()
	if err != nil {
		return nil, err
	}
	onClose(resp, func() { ended(resp) })
	return resp, nil
}

// checkHead refuses a response that no client could be given, and closes its body.
func checkHead(req *http.Request, resp *http.Response) error {
	var err error
	switch {
	case resp.StatusCode < 100:
		err = fmt.Errorf("the response's status is %d", resp.StatusCode)
	case resp.StatusCode == http.StatusSwitchingProtocols:
		wanted, got := upgradeType(req.Header), upgradeType(resp.Header)
		if got == "" || got != wanted {
			err = fmt.Errorf("the instance switches to the protocol %.40q, but %.40q was asked for", got, wanted)
		}
	}
	if err != nil {
		resp.Body.Close()
	}
	return err
}

// wireKey is what connections differ by, beside those of plain.
type wireKey struct {
	connections model.Connections
	protocol    model.Protocol
	tls         model.TLS
	host        string // names the TLS peer
}

// wire returns what the callee's protocol is spoken through.
func (f *Forwarder) wire(call *agent.Call, req *http.Request) (wire, error) {
	service := call.Service()
	key := wireKey{connections: service.Connections, protocol: service.Protocol}
	switch {
	case service.Protocol == model.HTTP && upgradeType(req.Header) == "":
		if w := (*f.plain.Load())[service.Connections]; w != nil {
			return w, nil // fast path
		}
		return addWire(f, &f.plain, service.Connections, func() (wire, error) { return newDirect(service.Connections), nil })
	case service.Protocol == model.TCP:
		return nil, f.agent.Refuse(call, agent.ReasonProtocol,
			"its protocol is tcp, which is for bypass mode only: ask /bypass or the DNS for an instance")
	case service.Protocol == model.HTTPS:
		key.tls, key.host = service.TLS, service.Host
	}
	if w := (*f.wires.Load())[key]; w != nil {
		return w, nil
	}
	w, err := addWire(f, &f.wires, key, func() (wire, error) { return f.newWire(key) })
	if err != nil {
		f.logger.Error("no connection can be made", "service", call.Callee, "error", err)
		return nil, f.agent.Refuse(call, agent.ReasonProtocol, "its TLS files can't be used; the agent's log says why")
	}
	return w, nil
}

func (f *Forwarder) newWire(key wireKey) (wire, error) {
	switch key.protocol {
	case model.HTTPS:
		return newTLS(key.connections, key.tls, key.host, f.logger)
	case model.H2C:
		return newH2C(key.connections), nil
	default:
		return newStandard(key.connections), nil
	}
}

// addWire returns the wire of a key, made by create if there is none yet.
func addWire[K comparable](f *Forwarder, wires *atomic.Pointer[map[K]wire], key K, create func() (wire, error)) (wire, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	present := *wires.Load()
	if w := present[key]; w != nil {
		return w, nil
	}
	w, err := create()
	if err != nil {
		return nil, err
	}
	if f.closed {
		w.CloseIdle()
	}
	next := maps.Clone(present)
	next[key] = w
	wires.Store(&next)
	return w, nil
}

// spawn runs something that Close waits for, unless it has been called already.
func (f *Forwarder) spawn(run func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		go run()
		return
	}
	f.running.Go(run)
}

// own keeps a tunnel's connection until the returned function is called, so that Close ends it. After Close, it is
// closed at once.
func (f *Forwarder) own(tunnel io.Closer) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		tunnel.Close()
		return func() {}
	}
	f.tunnels[tunnel] = struct{}{}
	f.running.Add(1)
	return func() {
		f.mu.Lock()
		delete(f.tunnels, tunnel)
		f.mu.Unlock()
		f.running.Done()
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
