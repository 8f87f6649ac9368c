package health

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Instance is the health of one address of one callee. It outlives every change of the callee's documents in which the
// address stays.
type Instance struct {
	Address netip.AddrPort
	service *Service
	*Pulse
	changed atomic.Int64 // when the state last did, by the monitor's clock; 0: it never has

	// What follows is under the service's lock.
	idc     string
	serving bool
	gone    bool  // no longer in the callee's list
	ban     *ban  // while banned or half open
	past    *past // nil until the first outcome: an agent knows 200,000 instances, and talks to a few
}

// past is what is remembered of an instance's outcomes.
type past struct {
	outcomes [results]uint64 // by result, since the agent knows the instance
	test     sequential
	window   window // of the rule M of N
	recent   recent
	record   record
	probing  bool // a probe for proof is under way: there is one at a time
}

// failures counts the recent failures.
func (i *Instance) failures() int {
	return int(i.known().recent.pool(i.service.peers.epoch()).failed)
}

// known returns the instance's past, an empty one if there is none.
func (i *Instance) known() *past {
	if i.past == nil {
		i.past = &past{}
	}
	return i.past
}

// Pulse is the part of an Instance's health that each attempt reads. It is apart from the rest so that its owner can put it
// into one cache line with what else an attempt reads. The zero value is ready.
type Pulse struct {
	// generation grows with every change of the state, so that outcomes of attempts that began before it change nothing.
	generation atomic.Uint32
	state      atomic.Uint32
	trial      atomic.Int64 // when the trial under way began, by the clock of Try's caller; 0: none is
	slot       int32
}

// Slot is the instance's index in the callee's tables, for an Observation.
func (p *Pulse) Slot() int32 { return p.slot }

// State tells whether an instance may be chosen.
type State uint32

// The states.
const (
	Up     State = iota
	Out          // banned
	Trying       // half open: the port answered a probe after the ban. One request at a time is a trial
	Rarely       // half open after a ban by deviation. An open port proves nothing then: a small share of the requests are trials
)

// State returns the state.
func (p *Pulse) State() State { return State(p.state.Load()) }

// Banned tells whether the instance is banned.
func (p *Pulse) Banned() bool { return p.State() == Out }

// Generation is to be read when an attempt begins, for its Observation.
func (p *Pulse) Generation() uint32 { return p.generation.Load() }

// Try begins a trial of a half-open instance, at now, and tells whether it did: there is one trial at a time. One whose end
// hasn't been told by Tried within patience counts as ended.
func (p *Pulse) Try(now, patience time.Duration) bool {
	began := p.trial.Load()
	if began != 0 && now-time.Duration(began) < patience {
		return false
	}
	return p.trial.CompareAndSwap(began, max(int64(now), 1))
}

// Tried ends the trial that Try began at that time. If it had counted as ended and another one has begun since, it does nothing.
func (p *Pulse) Tried(began time.Duration) { p.trial.CompareAndSwap(max(int64(began), 1), 0) }

// EndTrial ends the trial under way, if there is one, and tells whether the instance is half open: for an outcome of which it isn't
// known when its trial began.
func (p *Pulse) EndTrial() bool {
	if state := p.State(); state != Trying && state != Rarely {
		return false
	}
	p.trial.CompareAndSwap(p.trial.Load(), 0)
	return true
}

// set changes the state, and the generation with it.
func (p *Pulse) set(state State) {
	p.generation.Add(1)
	p.trial.Store(0)
	p.state.Store(uint32(state))
}

// set changes the state, and notes when.
func (i *Instance) set(state State) {
	i.changed.Store(max(int64(i.service.monitor.now()), 1)) // first: who reads the new generation must not find the old time
	i.Pulse.set(state)
}

// GenerationBefore is the generation for an attempt that is only told of at its end, and began so long ago: an older one than the
// present, if the state has changed since.
func (i *Instance) GenerationBefore(ago time.Duration) uint32 {
	generation := i.Generation()
	if changed := i.changed.Load(); changed != 0 && i.service.monitor.now()-ago < time.Duration(changed) {
		generation--
	}
	return generation
}

// Ban returns the ban in force, also while half open.
func (i *Instance) Ban() (BanInfo, bool) {
	s := i.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.ban == nil {
		return BanInfo{}, false
	}
	return i.ban.info(i), true
}

// Counts are totals of an instance.
type Counts struct {
	Outcomes [Results]uint64 // by result, since the agent knows the instance
	Failures int             // of the instance, among the callee's last 1,000 to 2,000 outcomes
	Score    float64         // of the sequential test
	Bans     uint64
}

// Counts returns the instance's totals.
func (i *Instance) Counts() Counts {
	s := i.service
	s.CatchUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.past == nil {
		return Counts{}
	}
	s.settleOf(i)
	p := i.past
	return Counts{Outcomes: p.outcomes, Failures: i.failures(), Score: p.test.score, Bans: p.record.bans}
}

// Success is the share of successes among the instance's recent outcomes, with one success and one failure added, so that it
// is never 0 or 1 (Laplace's rule of succession).
func (i *Instance) Success() float64 {
	s := i.service
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleOf(i)
	lately := i.known().recent.pool(s.peers.epoch())
	return (lately.n - lately.failed + 1) / (lately.n + 2)
}

// Suspect tells whether the instance is banned, or anything is held against it by the sequential test.
func (i *Instance) Suspect() bool {
	i.service.mu.Lock()
	defer i.service.mu.Unlock()
	return i.ban != nil || i.past != nil && i.past.test.score > 0
}
