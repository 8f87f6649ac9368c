package agent

import (
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// DefaultClass is the importance, within its caller, of a request that doesn't say.
const DefaultClass = 4

// MaxClass is the highest importance.
const MaxClass = 7

// Attributes are the parts of a request that routes and hash keys look at. Begin fills in the caller and its IDC. In bypass mode
// the rest is empty.
type Attributes = route.Request

// Call is one request of a caller to a callee. The face fills the exported fields, then Begins it. A Call belongs to one
// goroutine, but its attempts may be Done by others. It must not be copied once begun.
type Call struct {
	Callee string
	Caller string     // empty: unknown
	IDC    string     // physical IDC of the caller. Empty: the agent's own
	Key    string     // what a hashing policy hashes. Empty: what the Service says, of Attributes
	Client netip.Addr // what a hashing policy hashes of a hand-out without a Key. Invalid: unknown
	Class  int        // importance, 0–MaxClass; DefaultClass if the request doesn't say
	// Timeout is what is left of the whole chain's time. 0: not limited; negative: it is over.
	Timeout    time.Duration
	Attributes Attributes
	// Family is the only IP version that the caller can use. Default AnyFamily.
	Family Family
	// HandOut says that instances are handed out to a program that calls them itself, instead of tried in turn: Pick may be called
	// for as many as there are, and Attempt.Report counts each attempt, instead of End the call.
	HandOut bool
	// Repeated says that the program repeats a request, so that it weighs less.
	Repeated bool
	// Uploading says that the next attempt's request has yet to come from the client, who may take its time: Attempt.Sent tells when
	// the instance has it.
	Uploading bool
	// Unfused says that the fuse, and what the document drops, don't matter: the call tells of one that was made already, or is
	// answered all the same. It isn't counted among those that arrive.
	Unfused bool
	// Degrade, 1 to 3, asks the callee and the caller to leave out optional work, the more the higher, since the callee is
	// overloaded; 0: nothing. Begin and Pick set it.
	Degrade int

	agent   *Agent
	service *service
	line    *line
	begun   time.Duration // by the agent's clock
	stripe  uint32
	ended   bool
	hedge   *Attempt // the second attempt beside a late first one; nil: none

	// Where the call goes, as of Begin.
	plan        *plan
	view, route int    // indexes of the plan's view, and of the view's path
	path        *path  // the path itself
	split       int    // index of the path's subset
	key         uint64 // hash of the key, or a random number if the call isn't keyed
	keyed       bool   // there is a key, and the policy goes by it

	avalanche *model.TimeoutSet // the time limits in an avalanche; nil: there is none

	attempts int
	retries  int
	last     *Attempt           // picked last
	answer   *Attempt           // whose response the caller gets
	first    Attempt            // the first attempt, here to spare an allocation
	request  balance.Request    // here since a local one, passed to a policy's method, would be allocated
	triedBuf [4]*balance.Target // room for request.Tried
}

// Service returns the policy of the callee for this caller. The call must have begun.
func (c *Call) Service() *model.Service { return c.plan.views[c.view].service }

// Timeouts returns the time limits in force. The call must have begun.
func (c *Call) Timeouts() *model.TimeoutSet {
	if c.avalanche != nil {
		return c.avalanche
	}
	return &c.Service().Timeouts.Normal
}

// Retries returns the retry limits in force. The call must have begun.
func (c *Call) Retries() *model.RetrySet {
	if c.service.fuse.Avalanche() {
		return &c.Service().Retries.Avalanche
	}
	return &c.Service().Retries.Normal
}

// Level returns the importance of the caller, 1 (the most) to 5: what the callee says of it, else what its own Service says,
// else the default. The call must have begun.
func (c *Call) Level() int {
	if c.plan.only == nil {
		if level := c.plan.views[c.view].level; level != 0 {
			return level
		}
	}
	if known := c.line.known.Load(); known != nil {
		return known.view.Load().Service.Level
	}
	return defaultLevel
}

var defaultLevel = model.DefaultService("").Level

// Route returns the index of the callee's route that the request takes, for this caller; −1 if none matches.
func (c *Call) Route() int {
	if c.path == nil || c.path.route == nil {
		return -1
	}
	return c.route
}

// Hashed tells whether the policy goes by a key. A call that was refused before its callee was found goes by none.
func (c *Call) Hashed() bool { return c.plan != nil && c.plan.hashes }

// Begun returns when the call began. The call must have begun.
func (c *Call) Begun() time.Time { return c.agent.epoch.Add(c.begun) }

// Attempts returns how many instances were picked so far.
func (c *Call) Attempts() int { return c.attempts }

// Newest returns the attempt on the instance picked last; nil before the first Pick. Those before it follow by
// Attempt.Before.
func (c *Call) Newest() *Attempt { return c.last }

// Final returns the attempt that decided the call: whose response the caller got, else the newest; nil before the first
// Pick.
func (c *Call) Final() *Attempt {
	if c.answer != nil {
		return c.answer
	}
	return c.last
}

// Begin admits a call. Its error is a *Refusal.
func (a *Agent) Begin(call *Call) error {
	call.agent, call.begun, call.stripe = a, a.now(), takeStripe()
	if call.Callee == "" {
		return a.Refuse(call, ReasonNoCallee, "the request names no callee: set the header x-ufc-service-name")
	}
	s := a.service(call.Callee)
	if s == nil { // slow path: it may be that it isn't followed yet
		if refusal := a.Find(call.Callee, call.patience()); refusal != nil {
			return a.Refuse(call, refusal.Reason, refusal.Detail)
		}
		if s = a.service(call.Callee); s == nil { // it went at this moment
			return a.Refuse(call, ReasonUnknownService, noDocument)
		}
		call.postpone()
	}
	call.service, call.line, call.plan = s, s.line(call.Caller), s.current(call.begun)
	if call.IDC == "" {
		call.IDC = call.plan.place.idc
	}
	call.Attributes.Caller, call.Attributes.CallerIDC = call.Caller, call.IDC
	call.direct()
	if call.plan.checks {
		s.health.Asked()
	}
	call.request.Tried, call.request.Stripe, call.request.Now = call.triedBuf[:0], call.stripe, call.begun
	if call.Timeout < 0 {
		return a.Refuse(call, ReasonDeadline, "the time that the caller had left was over before an instance was asked")
	}
	if call.plan.lacks[call.Family] { // resolvers ask for both IP versions: a question that nothing answers is no call
		return &Refusal{Reason: ReasonNoInstance, Service: call.Callee, Detail: call.noneLeft()}
	}
	if !call.Unfused {
		if refusal := call.enter(); refusal != nil {
			return refusal
		}
	}
	if !call.HandOut {
		s.budget.earn(call.Service().Retries.Budget)
	}
	return nil
}

// enter asks the document and the fuse whether the call may go on. nil: it may.
func (c *Call) enter() *Refusal {
	if c.dropped() {
		return c.agent.Refuse(c, ReasonDropped, "the callee's document drops this caller's requests, or a share of them")
	}
	switch s := c.service; {
	case !s.fuse.Avalanche():
		if s.fuse.Sampled(c.begun) {
			s.fuse.Arrived(c.stripe, c.weight(c.kind()))
		}
	case !c.unheard() && !c.admit(c.kind()):
		return c.agent.Refuse(c, ReasonFused, "the callee is overloaded, and requests of this weight aren't admitted")
	}
	return nil
}

// direct decides by which view, route and split of the plan the call goes.
func (c *Call) direct() {
	switch {
	case !c.plan.hashes:
	case c.Key != "":
		c.key, c.keyed = route.HashOf(c.Key), true
	case c.Client.IsValid():
		c.key, c.keyed = route.HashOf(c.Client.String()), true
	default:
		c.key, c.keyed = c.plan.key.Hash(&c.Attributes)
	}
	if c.keyed {
		c.request.Hash, c.request.Seed = c.key, 0
	} else {
		c.draw()
	}
	if c.path = c.plan.only; c.path != nil {
		c.view, c.route, c.split = 0, 0, 0
		return
	}
	c.view = c.plan.viewOf(c.Caller)
	v := &c.plan.views[c.view]
	c.route, c.split = len(v.paths)-1, 0
	if c.route > 0 {
		if matched := v.routes.Match(&c.Attributes, c.key); matched >= 0 {
			c.route = matched
			c.split = max(0, v.paths[matched].route.Split(c.key))
		}
	}
	c.path = &v.paths[c.route]
}

// draw takes a random number for the key.
func (c *Call) draw() {
	c.key = c.agent.random()
	c.request.Hash, c.request.Seed = c.key, c.key
}

// refresh sets the call's clock and plan to those of now: instances may have been banned, or have gone, after the call began.
func (c *Call) refresh() {
	c.request.Now = c.agent.now()
	c.follow(c.service.current(c.request.Now))
}

// follow makes the call go by another plan from now on.
func (c *Call) follow(now *plan) {
	other := now.service != c.plan.service
	if c.plan = now; other {
		c.direct() // the document is another one, and its routes may be
		return
	}
	c.path = &now.views[c.view].paths[c.route]
	if !c.keyed {
		c.draw()
	}
}

// Answered notes that the caller gets the response of this attempt, which need not be the newest.
func (c *Call) Answered(attempt *Attempt) {
	c.answer = attempt
	attempt.headed()
}

// End counts a call that began, with the HTTP status that the caller got: once, however often it is called.
func (c *Call) End(code int) {
	if c.ended || c.line == nil {
		return
	}
	c.ended = true
	idc := ""
	if final := c.Final(); final != nil {
		idc = final.IDC
	}
	if c.hedge != nil {
		c.service.hedging.settle(c.hedge, c.hedge == c.answer)
	}
	now := c.agent.now()
	c.line.count(c.stripe, now, requestKey{idc, code}, now-c.begun)
}

// Refuse counts and returns a refusal. Faces use it for what they find wrong by themselves, before Begin too.
func (a *Agent) Refuse(call *Call, reason, detail string) *Refusal {
	to := call.line
	if to == nil {
		to = a.strangers
	}
	to.refused.add(reason)
	return &Refusal{Reason: reason, Service: call.Callee, Detail: detail}
}
