package agent

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/fuse"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// fusePolicy is what package fuse goes by.
func fusePolicy(document *model.Service) *fuse.Policy {
	return &fuse.Policy{
		Fuse: document.Fuse, Normal: untilAnswer(&document.Timeouts.Normal), Avalanche: untilAnswer(&document.Timeouts.Avalanche),
	}
}

// untilAnswer is how long an answer may take to begin.
func untilAnswer(set *model.TimeoutSet) time.Duration { return min(set.Read, set.Total).Std() }

// heard tells the fuse of outcomes.
func (s *service) heard(batch []health.Observation) {
	s.fuse.Take(len(batch), func(n int, to *fuse.Outcome) {
		o := &batch[n]
		to.Slot, to.Begun, to.Latency = o.Slot, o.Begun, o.Latency
		to.Tracked, to.Counted, to.Aside, to.GivenUp = o.Tracked, o.Counted, o.Aside, o.GivenUp
		switch {
		case o.Partial: // as good as the others, for all that is known
			to.Result = fuse.Ignored
		case o.Result == health.OK:
			to.Result = fuse.Delivered
		case o.Result.Failure():
			to.Result = fuse.Failed
		case o.Code != 0: // canceled, but the answer had begun
			to.Result = fuse.Delivered
		default:
			to.Result = fuse.Ignored
		}
	})
}

// underWay yields how many attempts the fuse counts as under way on each instance.
func (s *service) underWay(yield func(slot int32, n int)) {
	for _, i := range s.awake().instances {
		if n := i.target.InFlight() - int(i.aside.Load()); n > 0 {
			yield(i.pulse.Slot(), n)
		}
	}
}

// The phases of an attempt that the agent makes, as the fuse sees it.
const (
	aside    = iota // not counted as under way: its request is being sent, or its caller may wait longer than others
	underWay        // counted, until it is answered or over
	answered        // after it was counted
	answeredAside
	over
)

// began tells the fuse of an attempt.
func (s *service) began(t *Attempt) {
	t.asked, t.patient = t.begun, t.call.plan.views[t.call.view].patient
	if t.call.Uploading || t.patient {
		t.instance.aside.Add(1)
	} else {
		t.phase = underWay // nobody else knows the attempt yet
		s.fuse.Began(t.call.stripe, t.begun)
	}
	s.keepTicking()
}

// Sent notes that the request of an attempt whose call is Uploading is wholly sent: from now on the instance has it.
func (t *Attempt) Sent() {
	if t.patient || atomic.LoadUint32(&t.phase) != aside {
		return
	}
	t.asked = t.call.agent.now()
	if atomic.CompareAndSwapUint32(&t.phase, aside, underWay) {
		t.instance.aside.Add(-1)
		t.call.service.fuse.Began(t.call.stripe, t.asked)
		t.call.service.keepTicking()
	}
}

// headed tells the fuse that the answer to an attempt has begun: it may go on for hours.
func (t *Attempt) headed() {
	s, counted := t.call.service, atomic.CompareAndSwapUint32(&t.phase, underWay, answered)
	if counted {
		t.instance.aside.Add(1)
	} else if !atomic.CompareAndSwapUint32(&t.phase, aside, answeredAside) {
		return // it is over
	}
	now := t.asked
	if s.fuse.Avalanche() { // else it doesn't matter
		now = t.call.agent.now()
	}
	s.fuse.Answered(t.call.stripe, &fuse.Outcome{
		Slot: t.instance.pulse.Slot(), Begun: t.asked, Latency: now - t.asked, Result: fuse.Delivered, Counted: counted, Aside: !counted,
	})
}

// leave ends what the fuse sees of an attempt, and says in its outcome what that was. The time in which the request was sent is not the
// instance's.
func (t *Attempt) leave(o *health.Observation) {
	phase := atomic.SwapUint32(&t.phase, over)
	o.Counted = phase == underWay
	o.Tracked = o.Counted || phase == answered || phase == answeredAside
	if !t.tracked {
		return
	}
	if phase != underWay {
		t.instance.aside.Add(-1)
	}
	if o.Aside = phase == aside || phase == answeredAside; !o.Aside {
		sending := t.asked - t.begun
		o.Begun, o.Latency = t.begun+sending, max(o.Latency-sending, 0)
	}
}

// ticking is the timer of a callee's fuse, which runs while there is traffic.
type ticking struct {
	on    atomic.Bool
	mu    sync.Mutex // of what follows
	timer *time.Timer
	quiet int // ticks in a row without anything in flight, in normal times
	ended bool
}

// quietTicks end the ticking.
const quietTicks = 40

// keepTicking makes the fuse judge what becomes of an attempt, be it one that a program makes by itself and reports.
func (s *service) keepTicking() {
	if !s.ticking.on.Load() {
		s.startTicking()
	}
}

func (s *service) startTicking() {
	s.ticking.mu.Lock()
	defer s.ticking.mu.Unlock()
	if !s.ticking.ended && s.ticking.on.CompareAndSwap(false, true) {
		s.ticking.quiet = 0
		s.nextTick()
	}
}

// nextTick sets the timer, ± 10 %. The lock is held.
func (s *service) nextTick() {
	fraction := float64(s.agent.random()>>11) / (1 << 53)
	s.ticking.timer = time.AfterFunc(fuse.Interval+time.Duration((fraction*0.2-0.1)*float64(fuse.Interval)), s.tick)
}

func (s *service) endTicking() {
	s.ticking.mu.Lock()
	defer s.ticking.mu.Unlock()
	s.ticking.ended = true
	if s.ticking.timer != nil {
		s.ticking.timer.Stop()
	}
}

// endAvalanche says that an avalanche of a callee that nobody has any more is over.
func (s *service) endAvalanche() {
	if s.sleeps() {
		return
	}
	s.fuse.SetPolicy(&fuse.Policy{})
	s.judge()
}

// judge makes the fuse judge, and tells whether the callee is idle.
func (s *service) judge() bool {
	decided, idle := s.fuse.Tick(s.agent.now())
	for n := range decided {
		s.changed(&decided[n])
	}
	return idle
}

func (s *service) tick() {
	s.health.CatchUp()
	idle := s.judge()
	s.ticking.mu.Lock()
	defer s.ticking.mu.Unlock()
	if s.ticking.quiet++; !idle {
		s.ticking.quiet = 0
	}
	switch {
	case s.ticking.ended:
	case s.ticking.quiet >= quietTicks:
		s.ticking.on.Store(false)
	default:
		s.nextTick()
	}
}

// changed passes a decision of the fuse on.
func (s *service) changed(d *fuse.Decision) {
	switch d.Kind {
	case fuse.Entered:
		s.health.Overload(true)
	case fuse.Left:
		s.health.Overload(false)
	}
	s.agent.tell(s.decision(d))
}

// decision puts a decision of the fuse into the form of all others.
func (s *service) decision(d *fuse.Decision) health.Decision {
	return health.Decision{
		Time: s.agent.epoch.Add(d.At), Kind: health.Kind(d.Kind), Service: s.name, Rule: d.Rule, Inputs: d.Inputs, Value: d.Value,
		Threshold: d.Threshold, Needed: d.Needed,
	}
}

// kind tells the fuse whether the program says that it repeats a request.
func (c *Call) kind() fuse.Kind {
	if c.Repeated {
		return fuse.Retry
	}
	return fuse.First
}

func (c *Call) weight(kind fuse.Kind) int { return fuse.Weight(c.Level(), c.Class, kind) }

// admit asks the fuse. A call that is admitted goes by an avalanche's limits.
func (c *Call) admit(kind fuse.Kind) bool {
	verdict := c.service.fuse.Admit(c.agent.now(), c.weight(kind))
	if verdict.Admitted {
		c.Degrade = verdict.Degrade
		c.limit()
	}
	return verdict.Admitted
}

// limit puts an avalanche's time limits in force, if there is one: never under what the fuse has patience for, as far as normal times
// allow so much.
func (c *Call) limit() {
	if !c.service.fuse.Avalanche() {
		c.avalanche, c.Degrade = nil, 0
		return
	}
	set, normal := c.Service().Timeouts.Avalanche, &c.Service().Timeouts.Normal
	least, times := c.service.fuse.LeastTimeout()
	longer := func(limit, normal model.Duration) model.Duration {
		if least == 0 { // what is normal isn't known
			return max(limit, normal)
		}
		return max(limit, min(normal, max(model.Duration(least), limit*model.Duration(times))))
	}
	set.Read, set.Total = longer(set.Read, normal.Read), longer(set.Total, normal.Total)
	c.avalanche = &set
}

// Avalanche tells whether the call goes by an avalanche's time limits, which a client may only shorten.
func (c *Call) Avalanche() bool { return c.avalanche != nil }

// policyOf is the policy that chooses: in an avalanche least request, since the others would go on to send its share to an
// instance whose queue is full. Consistent hash stays, whose bound does the same without moving all users.
func (c *Call) policyOf(from *candidates) balance.Policy {
	if !c.service.fuse.Avalanche() || c.plan.hashes || c.plan.service.Balance.Policy == model.LeastRequest {
		return from.policy
	}
	return c.instead(from, &from.calm, model.LeastRequest)
}

// instead is another policy over the candidates than the document's, made when it is first needed.
func (c *Call) instead(from *candidates, at *atomic.Pointer[balance.Policy], policy model.BalancePolicy) balance.Policy {
	known := at.Load()
	if known == nil {
		list := from.scaled
		if list == nil {
			list = members(from.instances)
		}
		made := balance.New(policy, list, c.plan.size, from.memory)
		known = &made
		at.Store(known)
	}
	return *known
}

// drop is a share of some callers' requests that isn't sent.
type drop struct {
	callers route.Globs
	all     bool
	below   uint64 // of 2⁶⁴, if not all
}

func compileDrops(rules []model.Drop) (drops []drop) {
	for _, rule := range rules {
		one := drop{callers: route.CompileGlobs(rule.Callers), all: rule.Percent >= 100}
		if !one.all {
			one.below = uint64(math.Ldexp(rule.Percent/100, 64))
		}
		drops = append(drops, one)
	}
	return drops
}

// saltDrop makes it a matter of its own who is dropped; where the policy hashes, always the same users.
const saltDrop = 0xd409

// dropped tells whether the callee's document drops the call. The first rule for its caller counts.
func (c *Call) dropped() bool {
	for n := range c.plan.drops {
		if d := &c.plan.drops[n]; d.callers.Match(c.Caller) {
			return d.all || route.Uniform(c.key, saltDrop) < d.below
		}
	}
	return false
}

// FuseInfo is one callee in the answer to fuse_info[^SERVICE]: without a service, of those in an avalanche.
type FuseInfo struct {
	fuse.Info
	Decisions []health.Decision `json:"decisions"` // the last 100, the oldest first
}

func (s *service) fuseInfo() FuseInfo {
	decided := s.fuse.Decisions()
	info := FuseInfo{s.fuse.Info(), make([]health.Decision, len(decided))}
	for n := range decided {
		info.Decisions[n] = s.decision(&decided[n])
	}
	return info
}

func (a *Agent) fuseInfo(args []string) (any, error) {
	if len(args) > 0 {
		s, err := a.known("fuse_info", args)
		if err != nil {
			return nil, err
		}
		s.awake()
		return map[string]FuseInfo{s.name: s.fuseInfo()}, nil
	}
	infos := map[string]FuseInfo{}
	for name, s := range *a.services.Load() {
		if !s.sleeps() && s.fuse.Avalanche() {
			infos[name] = s.fuseInfo()
		}
	}
	return infos, nil
}

func (s *service) collectFuse(emit emitter) {
	info, avalanche := s.fuse.Info(), 0.0
	if info.Avalanche {
		avalanche = 1
	}
	emit.gauge(admittedDesc, info.AdmittedRatio, s.name)
	emit.gauge(avalancheDesc, avalanche, s.name)
}
