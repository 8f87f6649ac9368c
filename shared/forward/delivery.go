package forward

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// delivery is one call on its way to an instance: the attempt loop.
type delivery struct {
	forwarder *Forwarder
	call      *agent.Call
	// request is the call's. Its header is the first attempt's own.
	request *http.Request
	ctx     context.Context
	// overrides are the time limits that the client asks for, limits those in force.
	overrides overrides
	limits    limits
	// informational is told of 1xx responses. Nil: the ClientTrace of ctx is.
	informational func(code int, header textproto.MIMEHeader) error

	wire    wire
	upload  *replay
	claimed int  // how often the program says that it has sent the request before
	again   bool // the request may be sent again after some of it was sent
	first   parcel
	shared  bool // something that may outlive the call knows parts of it
}

// parcel is what the first attempt is made of, so that it takes no allocation.
type parcel struct {
	exchange exchange
	request  http.Request
	url      url.URL
}

// reply is what came of the attempts: a response, with the attempt that it comes from, or why there is none.
type reply struct {
	resp    *http.Response
	attempt *agent.Attempt
	failed  *failure
}

// run makes attempts until one has a response, or there is no use in more.
func (d *delivery) run() (*http.Response, *agent.Attempt, error) {
	service := d.call.Service()
	below, err := d.forwarder.wire(d.call, d.request)
	if err != nil {
		closeBody(d.request)
		return nil, nil, err
	}
	d.wire, d.claimed, d.again = below, claimedAttempts(d.request.Header), repeatable(d.request, service)
	d.upload = newReplay(d.request, d.again)
	d.shared = d.upload != nil || !below.inline()
	var last *failure
	for {
		d.call.Uploading = !d.upload.whole()
		attempt, err := d.forwarder.agent.Pick(d.call)
		if err != nil {
			d.upload.release()
			if last != nil {
				err = last.answer(d.call)
			}
			return nil, nil, err
		}
		if attempt.Number > 0 { // an avalanche may have begun, or be over
			d.limits = limitsOf(d.call, d.overrides)
		}
		got := d.attempt(attempt)
		if got.failed == nil {
			d.call.Answered(got.attempt)
			return got.resp, got.attempt, nil
		}
		if last = got.failed; !d.mayRepeat(last) || !d.call.MayRetry() || !d.pause(last) {
			d.upload.release()
			return nil, nil, d.refusal(last)
		}
	}
}

// refusal is the error for the caller, after the call's last attempt failed.
func (d *delivery) refusal(last *failure) error {
	if errors.Is(last.err, errOver) || d.limits.clientsOwn() && d.over() {
		return d.forwarder.agent.Refuse(d.call, agent.ReasonDeadline, "the call's time was over before an instance answered")
	}
	return last.answer(d.call)
}

// repeatable tells whether a request may reach instances twice: by its method, or because its client says so by a key, or
// the callee does.
func repeatable(req *http.Request, service *model.Service) bool {
	return idempotent(req.Method) || service.Retries.Unsafe ||
		req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil
}

// idempotent tells whether a request with the method may be repeated (RFC 9110 §9.2.2).
func idempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// mayRepeat tells whether another attempt is safe, and may help. Whether it is allowed, the agent knows.
func (d *delivery) mayRepeat(failed *failure) bool {
	switch {
	case failed.stage == "" || !slices.Contains(d.call.Retries().When, failed.stage) || !d.upload.replayable():
		return false
	case errors.Is(failed.err, errOver) || d.over():
		return false
	default:
		return failed.stage == model.WhenConnect || d.again
	}
}

// over tells whether the time in which a response must begin has passed.
func (d *delivery) over() bool {
	until := d.limits.until()
	return !until.IsZero() && !time.Now().Before(until)
}

const (
	pauseBase = 25 * time.Millisecond // Envoy's, too
	pauseMost = 250 * time.Millisecond
)

// pause waits before the next attempt, at random up to 25 ms, twice as long each time, so that those whom one fault hit
// don't come back as one ("full jitter"). An instance that refuses its connection has cost nobody anything: no wait. It
// tells whether there is time for the attempt.
func (d *delivery) pause(failed *failure) bool {
	if failed.result == health.ConnectError {
		return true
	}
	wait := rand.N(min(pauseBase<<min(d.call.Attempts()-1, 10), pauseMost))
	if until := d.limits.until(); !until.IsZero() && time.Until(until) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.ctx.Done():
		failed.stage, failed.err = "", d.ctx.Err() // nobody waits for an answer
		return false
	}
}

// attempt makes one attempt and, if that is late, maybe another one beside it.
func (d *delivery) attempt(attempt *agent.Attempt) reply {
	if after, ok := d.hedgeAfter(); ok {
		return d.race(attempt, after)
	}
	return d.try(d.address(attempt))
}

// address makes the exchange of one attempt. Nothing of it is shared with another attempt that could still be written to,
// since a wire's goroutines may outlive their attempt.
func (d *delivery) address(attempt *agent.Attempt) *exchange {
	to := &d.first
	if attempt.Number > 0 || d.shared {
		to = new(parcel)
	}
	to.url, to.request = *d.request.URL, *d.request
	to.url.Scheme, to.url.Host, to.url.User = "http", attempt.HostPort, nil
	to.request.URL = &to.url
	if attempt.Number > 0 {
		to.request.Header = maps.Clone(d.request.Header)
	}
	service := d.call.Service()
	if service.Host != "" {
		to.request.Host = service.Host
	}
	header := to.request.Header
	header[headerAttempt] = number(d.claimed + attempt.Number)
	if d.call.Degrade > 0 {
		header[headerDegrade] = number(d.call.Degrade)
	} else if attempt.Number > 0 { // a copy of the first one's header
		delete(header, headerDegrade)
	}
	if !d.limits.end.IsZero() {
		header[headerTimeout] = milliseconds(time.Until(d.limits.end))
	}
	to.exchange = exchange{
		ctx: d.ctx, request: &to.request, limits: d.limits, buffered: d.upload.whole(), informational: d.informational,
		attempt: attempt, degrade: d.call.Degrade,
	}
	if d.upload != nil {
		to.exchange.body = d.upload.reader(attempt.Sent)
		to.request.Body = to.exchange.body
	}
	if d.forwarder.Trace != nil {
		to.exchange.ctx, to.exchange.traced = d.forwarder.Trace(d.ctx, d.call, attempt, header)
	}
	return &to.exchange
}

// try is one attempt. It tells the agent the outcome, by the response's body if there is a response.
func (d *delivery) try(x *exchange) reply {
	attempt, begun := x.attempt, time.Now()
	resp, err := d.wire.RoundTrip(x)
	outcome := agent.Outcome{Latency: time.Since(begun)}
	if err == nil {
		err = checkHead(x.request, resp)
	}
	if err != nil {
		failed := d.explain(x, err)
		outcome.Result, outcome.GivenUp = failed.result, failed.givenUp
		x.done(outcome)
		x.release()
		d.forwarder.logger.Debug("attempt failed", "service", attempt.Callee(), "instance", attempt.HostPort,
			"attempt", attempt.Number, "result", failed.result.String(), "after", outcome.Latency, "error", err)
		return reply{failed: failed, attempt: attempt}
	}
	d.upload.settle(x.body)
	outcome.Code = resp.StatusCode
	cleanResponse(resp.Header, x)
	watch(resp, responseBody{x: x, upload: d.upload, outcome: outcome})
	return reply{resp: resp, attempt: attempt}
}

// explain finds out whose failure it was. When the client has gone, everything fails; and the library's server takes one
// whose body is too slow for gone.
func (d *delivery) explain(x *exchange, err error) *failure {
	if broken := d.upload.failure(); broken != nil && health.TimedOut(broken) {
		return &failure{result: health.Canceled, err: broken}
	}
	if gone := x.ctx.Err(); gone != nil {
		return &failure{result: health.Canceled, givenUp: !errors.Is(context.Cause(x.ctx), errLost), err: gone}
	}
	if broken := d.upload.failure(); broken != nil {
		return &failure{result: health.Canceled, err: broken}
	}
	var failed *failure
	if !errors.As(err, &failed) {
		failed = &failure{stage: model.WhenRead, result: readResult(err), err: err}
	}
	// An instance that had all of the time that the policy gives, and didn't answer, has failed. One that had what others
	// left over, or what little the client had, has not.
	if errors.Is(failed.err, errOver) && (x.attempt.Number > 0 || x.limits.clientsOwn()) {
		failed.result, failed.givenUp = health.Canceled, x.limits.clientsOwn()
	}
	if errors.Is(failed.err, errSlow) && x.limits.hurried(failed.stage) {
		failed.result, failed.givenUp = health.Canceled, true
	}
	return failed
}
