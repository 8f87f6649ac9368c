package health

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Reason tells why an instance is banned.
type Reason string

// The reasons.
const (
	ByRequests  Reason = "requests"  // its requests fail: suspicion
	ByProof     Reason = "proof"     // no connection could be made, nor the probe's
	ByStatus    Reason = "status"    // it answers with errors where the others don't: suspicion
	ByLatency   Reason = "latency"   // it is slow where the others aren't: suspicion
	ByNeighbour Reason = "neighbour" // another agent of this machine has banned it
	ByHand      Reason = "hand"      // an operator has banned it: package agent keeps these bans
)

// suspicion tells whether the cap limits bans for the reason.
func (r Reason) suspicion() bool { return r == ByRequests || r.deviation() }

func (r Reason) deviation() bool { return r == ByStatus || r == ByLatency }

// BanInfo tells of a ban in force.
type BanInfo struct {
	Reason   Reason
	Since    time.Time
	Until    time.Time // when the port is probed; if it answers, trials begin
	HalfOpen bool      // the port has answered: trials are under way
	Doubtful bool      // the last probe timed out instead of being refused, or a neighbour banned it by suspicion: it may answer
	Failures int       // of the instance, among the callee's last 1,000 to 2,000 outcomes
	LastErr  string    // of the last probe that failed, or what a neighbour said
}

// ban is a ban in force, with what ends it.
type ban struct {
	reason   Reason
	since    time.Duration
	until    time.Duration // when expire is due; since and until are by the monitor's clock
	duration time.Duration
	badness  float64 // share of outcomes that spoke against the instance, 0–1
	lastErr  string  // of the last probe that failed, or what a neighbour said
	halfOpen bool
	doubtful bool // the last probe timed out, so that the network may be to blame; or a neighbour banned it by suspicion
	trials   trials
	timer    *time.Timer
}

func (b *ban) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

func (b *ban) info(i *Instance) BanInfo {
	epoch := i.service.monitor.epoch
	return BanInfo{
		Reason: b.reason, Since: epoch.Add(b.since), Until: epoch.Add(b.until), HalfOpen: b.halfOpen, Doubtful: b.doubtful,
		Failures: i.failures(), LastErr: b.lastErr,
	}
}

// record is an instance's history of bans. Each ban soon after the last one is twice as long. The doublings are forgotten one by
// one: one of them when the instance has been up for twice as long as its next ban would take, and for healTime at least, and
// has had healSuccesses successes meanwhile. Time alone isn't enough, since an instance without traffic proves nothing.
type record struct {
	bans      uint64
	level     int           // doublings of the next ban
	spent     time.Duration // time banned, in all, since the level was last 0
	up        time.Duration // when it came back, or when the last doubling was forgotten
	successes int           // since up
	capped    time.Duration // when it was last told that the cap protects it; 0: never
}

const (
	healSuccesses = 20
	healTime      = time.Minute
)

// next returns how long the next ban is to be, without jitter.
func (r *record) next(policy *Policy) time.Duration {
	d := policy.Duration.Std()
	for range r.level {
		d = min(2*d, policy.MaxDuration.Std())
	}
	return d
}

// heal takes an outcome of an instance that is up.
func (r *record) heal(policy *Policy, failed bool, now time.Duration) {
	if r.level == 0 || failed {
		return
	}
	r.successes++
	if r.successes >= healSuccesses && now-r.up >= max(healTime, 2*r.next(policy)) {
		r.level, r.up, r.successes = r.level-1, now, 0
		if r.level == 0 {
			r.spent = 0
		}
	}
}

// prove probes an instance to which no connection could be made, and bans it if the probe fails too: two failures on different
// connections, one of them the agent's own, aren't an accident of one request. why begins the decision's rule. A connect that
// timed out counts like one that was refused: when a whole IDC is cut off nothing refuses, and by suspicion it couldn't be
// banned, since all of its instances fail alike. The lock is held.
func (s *Service) prove(i *Instance, why string) {
	if i.past.probing {
		return
	}
	i.past.probing = true
	generation := i.Generation()
	s.monitor.run(func() {
		err := s.probe(i)
		s.mu.Lock()
		i.past.probing = false
		if err != nil && !OwnFault(err) && s.monitor.ctx.Err() == nil && i.Generation() == generation && i.ban == nil && !i.gone {
			s.begin(i, Banned, 1, Decision{
				Reason: ByProof, Rule: why + ", and the probe of the port failed too",
				Inputs: map[string]float64{"failures": float64(i.failures())}, Value: 1, Threshold: 1, Detail: err.Error(),
				Needed: "a probe that succeeds",
			})
			i.ban.doubtful = TimedOut(err)
		}
		s.mu.Unlock()
		s.deliver()
	})
}

func (s *Service) probe(i *Instance) error {
	return s.monitor.probe(s.monitor.ctx, i.Address, s.policy.Load().Probe.Timeout.Std())
}

// suspect bans an instance by suspicion, as far as the cap allows. The lock is held.
func (s *Service) suspect(i *Instance, evidence Decision) {
	badness := s.badness(i, evidence.Inputs)
	if g := s.groups[i.idc]; g != nil && i.serving && g.suspects >= s.allowed(g) {
		least := s.leastBad(g)
		if least == nil || badness < least.ban.badness+muchWorse {
			s.capped(i, g, evidence)
			return
		}
		s.end(least, Lifted, fmt.Sprintf("%s is worse, and no more may be banned by suspicion", i.Address))
	}
	s.begin(i, Banned, badness, evidence)
}

// badness is the share of outcomes that speak against the instance, 0–1: by the inputs of a deviation of status ("share") or
// of latency ("ratio"), else by its recent failures.
func (s *Service) badness(i *Instance, inputs map[string]float64) float64 {
	if share, ok := inputs["share"]; ok {
		return share
	}
	if ratio, ok := inputs["ratio"]; ok {
		return 1 - 1/ratio
	}
	lately := i.known().recent.pool(s.peers.epoch())
	return lately.failed / max(lately.n, 1)
}

// allowed is how many of a group's instances may be banned by suspicion: the policy's max_ratio of them, and of two or three
// one. Bans for other reasons count against it when under half of the group are left and no other IDC has any: then every
// instance that answers at all is needed.
func (s *Service) allowed(g *group) int {
	ratio := s.policy.Load().MaxRatio
	most := int(math.Floor(ratio*float64(g.serving) + 1e-9))
	if ratio > 0 && (g.serving == 2 || g.serving == 3) {
		most = max(most, 1)
	}
	if Under(g.left(), g.serving) && !s.elsewhere(g) {
		most -= g.banned - g.suspects
	}
	return most
}

// elsewhere tells whether another IDC has instances left.
func (s *Service) elsewhere(than *group) bool {
	for _, g := range s.groups {
		if g != than && g.left() > 0 {
			return true
		}
	}
	return false
}

// muchWorse is how much the badness of an instance must be over that of the least bad suspect for it to be banned in its place
// at the cap. Without it two that are alike would take turns.
const muchWorse = 0.2

// leastBad returns the suspect of a group with the least badness; nil if there is none. It is remembered until the suspects
// change, since at the cap each failure asks for it.
func (s *Service) leastBad(g *group) *Instance {
	if g.least != nil {
		return g.least
	}
	var least *Instance
	for _, i := range s.instances {
		if i.ban != nil && i.ban.reason.suspicion() && i.idc == g.idc && i.serving && !i.gone && (least == nil || i.ban.badness < least.ban.badness) {
			least = i
		}
	}
	g.least = least
	return least
}

// repeatAfter is the least time between two decisions that say the same: that the cap protects an instance, or that the
// service is at fault.
const repeatAfter = time.Minute

// capped tells that the cap protects an instance, at most once in repeatAfter. The lock is held.
func (s *Service) capped(i *Instance, g *group, evidence Decision) {
	now, r := s.monitor.now(), &i.known().record
	if r.capped > 0 && now-r.capped < repeatAfter {
		return
	}
	r.capped = max(now, 1)
	evidence.Kind = Capped
	evidence.Inputs["suspects"], evidence.Inputs["cap"] = float64(g.suspects), float64(s.allowed(g))
	evidence.Inputs["serving"], evidence.Inputs["left"] = float64(g.serving), float64(g.left())
	evidence.Needed = "fewer suspects than the cap: a return, or a larger max_ratio"
	s.decide(i, evidence)
}

// begin bans an instance by what this agent has found, and makes its next ban longer. The lock is held.
func (s *Service) begin(i *Instance, kind Kind, badness float64, evidence Decision) {
	now, policy, r := s.monitor.now(), s.policy.Load(), &i.known().record
	d := s.monitor.jittered(r.next(policy))
	if i.ban != nil {
		r.spent += now - i.ban.since
	}
	r.bans++
	if r.next(policy) < policy.MaxDuration.Std() { // a higher level would only take longer to forget
		r.level++
	}
	evidence.Kind, evidence.BannedFor = kind, r.spent
	s.impose(i, &ban{since: now, until: now + d, duration: d, badness: badness}, evidence)
}

// impose puts a ban in force for the decision's reason, in place of the one that the instance may have. The lock is held.
func (s *Service) impose(i *Instance, b *ban, d Decision) {
	if i.ban != nil {
		i.ban.stop()
		s.count(i, i.ban.reason, -1)
	}
	b.reason, b.lastErr = d.Reason, d.Detail
	i.ban = b
	s.count(i, b.reason, 1)
	s.clean(i) // attempts that began before the ban must not count after it
	i.set(Out)
	d.Duration = b.duration
	s.decide(i, d)
	s.panic(s.groups[i.idc])
	b.timer = s.monitor.after(b.duration, func() { s.expire(i, b) })
}

// count adds more, which is 1 or −1, to the numbers of banned instances and of suspects in the instance's group. The lock is
// held.
func (s *Service) count(i *Instance, reason Reason, more int) {
	g := s.groups[i.idc]
	if g == nil || i.gone || !i.serving {
		return
	}
	g.banned += more
	if reason.suspicion() {
		g.suspects += more
		g.least = nil
	}
}

// panic tells when under half of a group are left, and when half or more are again. The lock is held.
func (s *Service) panic(g *group) {
	if g == nil || Under(g.left(), g.serving) == g.panicked {
		return
	}
	g.panicked = !g.panicked
	d := Decision{
		Kind: PanicOver, IDC: g.idc, Rule: "under half of the serving instances are left", Value: float64(g.left()), Threshold: float64(g.serving) / 2,
		Inputs: map[string]float64{"left": float64(g.left()), "serving": float64(g.serving), "suspects": float64(g.suspects)},
	}
	if g.panicked {
		d.Kind, d.Needed = Panic, "a return"
	}
	s.decide(nil, d)
}

// end ends a ban: the instance is up again. The lock is held.
func (s *Service) end(i *Instance, kind Kind, detail string) {
	b, now, r := i.ban, s.monitor.now(), &i.known().record
	b.stop()
	r.spent += now - b.since
	r.up, r.successes = now, 0
	s.count(i, b.reason, -1)
	i.ban = nil
	i.past.test, i.past.window = sequential{}, window{}
	s.clean(i) // outcomes of before must not count against it
	i.set(Up)
	s.dirty[i.slot] = r.level > 0
	s.decide(i, Decision{
		Kind: kind, Reason: b.reason, BannedFor: r.spent, Detail: detail, Rule: b.reason.ending(), Inputs: b.trials.inputs(),
	})
	if r.level == 0 { // it was a neighbour's ban, whose time isn't to be added to a later ban of this agent's
		r.spent = 0
	}
	s.panic(s.groups[i.idc])
	if i.gone { // it was remembered for its ban alone
		s.instances.remove(i)
		s.forget(i)
	}
}

// lately is how long before an overload was found a ban by suspicion may have been for it.
const lately = 5 * time.Second

// Overload says whether the callee as a whole is overloaded. Then nobody is banned by suspicion, as that would take away
// capacity where it is short, and who was banned so just before comes back.
func (s *Service) Overload(on bool) {
	s.mu.Lock()
	s.overload = on
	if on {
		now := s.monitor.now()
		for _, i := range slices.Clone(s.instances) { // an end may take one out
			if b := i.ban; b != nil && b.reason.suspicion() && now-b.since < lately {
				s.end(i, Lifted, "the callee as a whole is overloaded")
			}
		}
	}
	s.mu.Unlock()
	s.deliver()
}
