package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Forwarder sends requests to instances, and keeps the connections. There is one for an agent; it is used by many
// goroutines at once.
type Forwarder struct {
	agent  *agent.Agent
	logger *slog.Logger

	// wires holds one wire for each way to keep connections that a Service has asked for. The map is immutable. Nothing is
	// ever taken out of it: a wire without connections costs some hundred bytes.
	wires atomic.Pointer[map[model.Connections]wire]

	mu      sync.Mutex // of the writers of wires, and of what follows
	closed  bool
	tunnels map[io.Closer]struct{}
	running sync.WaitGroup // tunnels
}

// New returns a forwarder without connections. Close it.
func New(a *agent.Agent, logger *slog.Logger) *Forwarder {
	f := &Forwarder{agent: a, logger: logger, tunnels: map[io.Closer]struct{}{}}
	f.wires.Store(&map[model.Connections]wire{})
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
	for _, w := range *f.wires.Load() {
		w.CloseIdle()
	}
	f.running.Wait()
}

// RoundTrip sends a request to an instance of the call's callee. The call must have begun; its End is left to the caller,
// after the response's body was read or closed.
//
// Of the request's URL, scheme and host don't matter. Its x-ufc-* headers are replaced by the agent's own: the names of
// callee and caller, and the attempt's number. The Service's host, if it has one, goes before the request's. As with
// every http.RoundTripper, the request isn't changed, its body is closed, and 1xx responses go to the
// httptrace.ClientTrace of its context.
//
// The response is as the instance sent it, hop-by-hop headers included, but for the x-ufc-* headers that are the agent's
// alone to set. The error is an *agent.Refusal, a *RequestBodyError, or the error of the request's context.
func (f *Forwarder) RoundTrip(req *http.Request, call *agent.Call) (*http.Response, error) {
	own := *req
	own.Header = make(http.Header, len(req.Header)+3)
	for name, values := range req.Header {
		if !isUFC(name) {
			own.Header[name] = values
		}
	}
	setNames(own.Header, call)
	resp, _, err := f.forward(&own, call)
	return resp, err
}

// forward is the attempt loop. The request must be nobody else's.
func (f *Forwarder) forward(req *http.Request, call *agent.Call) (*http.Response, *agent.Attempt, error) {
	below, err := f.wire(call)
	if err != nil {
		closeBody(req)
		return nil, nil, err
	}
	claimed := claimedAttempts(req.Header)
	body := hold(req)
	var last *failure
	for {
		attempt, err := f.agent.Pick(call)
		if err != nil {
			body.release()
			if last != nil {
				err = last.answer(call)
			}
			return nil, nil, err
		}
		resp, failed := f.try(below, address(req, call.Service(), attempt, claimed), attempt, body)
		if failed == nil {
			return resp, attempt, nil
		}
		if !again(call.Service(), failed, body) {
			body.release()
			return nil, nil, failed.answer(call)
		}
		last = failed
	}
}

// address makes the request of one attempt out of the call's. Nothing of it is shared with another attempt that could
// still be written to, since a wire's goroutines may outlive their attempt.
func address(req *http.Request, service *model.Service, attempt *agent.Attempt, claimed int) *exchange {
	own, to := *req, *req.URL
	to.Scheme, to.Host, to.User = "http", attempt.HostPort, nil
	own.URL = &to
	if attempt.Number > 0 {
		own.Header = maps.Clone(req.Header)
	}
	own.Header[headerAttempt] = number(claimed + attempt.Number)
	if service.Host != "" {
		own.Host = service.Host
	}
	return &exchange{ctx: req.Context(), request: &own, limits: limits{connect: service.Timeouts.Normal.Connect.Std()}}
}

// try is one attempt. It tells the agent the outcome, by the response's body if there is a response.
func (f *Forwarder) try(below wire, x *exchange, attempt *agent.Attempt, body *requestBody) (*http.Response, *failure) {
	begun := time.Now()
	resp, err := below.RoundTrip(x)
	outcome := agent.Outcome{Latency: time.Since(begun)}
	if err == nil {
		err = checkHead(x.request, resp)
	}
	if err != nil {
		failed := explain(x.ctx, body, err)
		outcome.Result = failed.result
		attempt.Done(outcome)
		f.logger.Debug("attempt failed", "service", attempt.Callee(), "instance", attempt.HostPort,
			"attempt", attempt.Number, "result", failed.result.String(), "after", outcome.Latency, "error", err)
		return nil, failed
	}
	outcome.Code = resp.StatusCode
	cleanResponse(resp.Header, attempt)
	watch(resp, responseBody{ctx: x.ctx, upload: body, attempt: attempt, outcome: outcome})
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

// explain finds out whose failure it was. When the client has gone, everything fails.
func explain(ctx context.Context, body *requestBody, err error) *failure {
	if gone := ctx.Err(); gone != nil {
		return &failure{result: health.Canceled, err: gone}
	}
	if broken := body.failure(); broken != nil {
		return &failure{result: health.Canceled, err: broken}
	}
	var failed *failure
	if errors.As(err, &failed) {
		return failed
	}
	return &failure{stage: model.WhenRead, result: readResult(err), err: err}
}

// again tells whether another attempt is safe. Whether it is allowed, the agent knows.
func again(service *model.Service, failed *failure, body *requestBody) bool {
	return failed.stage == model.WhenConnect && slices.Contains(service.Retries.Normal.When, model.WhenConnect) &&
		body.replayable()
}

// wire returns what the callee's protocol is spoken through.
func (f *Forwarder) wire(call *agent.Call) (wire, error) {
	service := call.Service()
	switch service.Protocol {
	case model.HTTP:
		if w := (*f.wires.Load())[service.Connections]; w != nil {
			return w, nil
		}
		return f.addWire(service.Connections), nil
	case model.TCP:
		return nil, f.agent.Refuse(call, agent.ReasonProtocol,
			"its protocol is tcp, which is for bypass mode only: ask /bypass or the DNS for an instance")
	default:
		return nil, f.agent.Refuse(call, agent.ReasonProtocol,
			fmt.Sprintf("its protocol, %s, can't be spoken by this version of the agent", service.Protocol))
	}
}

func (f *Forwarder) addWire(policy model.Connections) wire {
	f.mu.Lock()
	defer f.mu.Unlock()
	present := *f.wires.Load()
	if w := present[policy]; w != nil {
		return w
	}
	w := newStandard(policy)
	next := maps.Clone(present)
	next[policy] = w
	f.wires.Store(&next)
	return w
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
