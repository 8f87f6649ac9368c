package agent

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/health"
)

// Attempt is one instance chosen for a call.
type Attempt struct {
	HostPort string // address of the instance
	IDC      string // physical IDC of the instance
	Number   int    // 0 for the call's first
	Panic    bool   // chosen although everybody is banned
	Hedge    bool   // made beside another one that was late

	phase      uint32 // atomic: as the fuse sees it
	call       *Call
	plan       *plan
	before     *Attempt // the call's attempt before this one
	instance   *instance
	stratum    *health.Stratum // the attempts that it is compared with; nil: none
	generation uint32          // of the instance's health when the attempt began
	trial      bool            // of an instance that is half open
	patient    bool            // its caller may wait longer than others
	partial    bool            // reported by who doesn't report all
	tracked    bool            // counted as in flight, until Done
	key        uint64          // of the call, as it was chosen by
	memory     *balance.Memory // where it is counted for the whole list; nil: nowhere
	from       *candidates     // that the instance was one of; nil: the program chose it
	begun      time.Duration   // by the agent's clock
	asked      time.Duration   // when the request was sent; begun, or later if it had to come first
	settled    atomic.Uint64   // 0: not done; else its result, status and latency, packed
}

// The parts of settled: bit 63 is set, bits 58–62 are the result, bits 48–57 the status, bits 0–47 the latency in nanoseconds,
// which is at most 78 hours.
const (
	settledDone   = 1 << 63
	settledResult = 58 // shift
	settledCode   = 48 // shift
	maxCode       = 1<<(settledResult-settledCode) - 1
	maxLatency    = 1<<settledCode - 1
)

func settle(outcome Outcome) uint64 {
	return settledDone | uint64(outcome.Result)<<settledResult | uint64(outcome.Code)<<settledCode | uint64(outcome.Latency)
}

func (c *Call) attempt(chosen *instance) *Attempt {
	attempt := &c.first
	if c.attempts > 0 {
		attempt = &Attempt{}
	}
	attempt.HostPort, attempt.IDC = chosen.hostPort, chosen.idc
	attempt.Number, attempt.before = c.attempts, c.last
	attempt.call, attempt.plan, attempt.begun, attempt.key = c, c.plan, c.request.Now, c.key
	attempt.instance, attempt.generation = chosen, chosen.pulse.Generation()
	c.attempts++
	c.last = attempt
	c.request.Tried = append(c.request.Tried, &chosen.target)
	return attempt
}

// Outcome is what became of an attempt.
type Outcome struct {
	Result  health.Result
	Code    int           // HTTP status, 0 if there is none
	Latency time.Duration // to the response's head, or to the failure
	GivenUp bool          // canceled, since who asked waited no longer
}

// Done says what became of the attempt. It counts once: a second call changes nothing, and returns false.
func (t *Attempt) Done(outcome Outcome) bool {
	outcome.Code, outcome.Latency = min(max(outcome.Code, 0), maxCode), min(max(outcome.Latency, 0), maxLatency)
	if !t.settled.CompareAndSwap(0, settle(outcome)) {
		return false
	}
	now := t.begun + outcome.Latency
	t.record(outcome)
	t.teach(now, outcome)
	if t.plan.service.Hedge != nil {
		t.call.service.hedging.observe(now, outcome.Result, outcome.Latency)
	}
	for _, bad := range t.plan.badCodes {
		if bad.code == outcome.Code {
			t.instance.target.Penalize(now, bad.factor)
		}
	}
	return true
}

// record tells package health the outcome.
func (t *Attempt) record(outcome Outcome) {
	o := health.Observation{
		Instance: t.instance.health, Slot: t.instance.pulse.Slot(), Stratum: t.stratum, Generation: t.generation, Trial: t.trial,
		Result: outcome.Result, Code: uint16(outcome.Code), Latency: outcome.Latency, Begun: t.begun,
		GivenUp: outcome.GivenUp, Urgent: t.call.service.fuse.Avalanche(),
		// In an avalanche the patient have less time than they may need.
		Partial: t.partial || t.patient && outcome.Result == health.ReadTimeout,
		Key:     t.key, // a random number if there is none, so that each request counts as another user's
	}
	t.leave(&o)
	if t.trial {
		t.instance.pulse.Tried(t.begun)
	}
	t.call.service.health.Record(t.call.stripe, &o)
}

// teach tells the policy the outcome.
func (t *Attempt) teach(now time.Duration, outcome Outcome) {
	latency, failed := outcome.Latency, outcome.Result.Failure()
	if outcome.Result == health.Canceled || !t.plan.learns {
		latency, failed = 0, false // canceled: how long it would have taken isn't known
	}
	switch {
	case t.tracked:
		if t.memory != nil {
			t.memory.Ended(t.call.stripe)
		}
		t.instance.target.Ended(now, latency, failed)
	case t.plan.tracks: // handed out, and so not counted in flight when it began
		t.instance.target.Began()
		t.instance.target.Ended(now, latency, failed)
	}
}

// Report is Done and End in one, for an attempt that a program made by itself. It counts once.
func (t *Attempt) Report(outcome Outcome) {
	if t.settled.Load() != 0 {
		return
	}
	t.date(&outcome)
	t.noteReport(outcome.Result)
	t.call.service.keepTicking()
	if t.Done(outcome) {
		t.call.line.count(t.call.stripe, t.call.agent.now(), requestKey{t.IDC, outcome.Code}, outcome.Latency)
	}
}

// date says when a reported attempt began, and bounds its latency: what a program tells must not end in the future.
func (t *Attempt) date(outcome *Outcome) {
	latency := max(outcome.Latency, 0)
	if t.from != nil {
		outcome.Latency = min(latency, t.call.agent.now()-t.begun)
		return
	}
	// The program chose the instance by itself, and when isn't known but by this.
	outcome.Latency = min(latency, t.begun)
	t.begun -= outcome.Latency
	t.generation = t.instance.health.GenerationBefore(latency)
	if t.generation == t.instance.pulse.Generation() {
		t.trial = t.instance.pulse.EndTrial() // it is the trial's outcome: others aren't sent to an instance that is half open
	}
}

// Address returns the address of the instance.
func (t *Attempt) Address() netip.AddrPort { return t.instance.Address }

// Weight returns the weight of the instance.
func (t *Attempt) Weight() int { return t.instance.Weight }

// Share returns the part of the instance's weight that is in force, 0–1: slow start, bad codes and slowness lower it.
func (t *Attempt) Share() float64 { return t.instance.target.Factor(t.begun) }

// Beside tells whether two attempts of a call are on instances of one list: of the same IDC, where the table tells IDCs apart, and of
// the same split.
func (t *Attempt) Beside(other *Attempt) bool { return t.from == other.from }

// Callee returns the name of the service that the attempt is on.
func (t *Attempt) Callee() string { return t.call.Callee }

// Before returns the call's attempt before this one; nil if it was the first.
func (t *Attempt) Before() *Attempt { return t.before }

// After returns how long the call had gone on when the attempt began.
func (t *Attempt) After() time.Duration { return t.begun - t.call.begun }

// Settled returns what became of the attempt. One that isn't done yet is told as canceled now.
func (t *Attempt) Settled() Outcome {
	settled := t.settled.Load()
	if settled == 0 {
		return Outcome{Result: health.Canceled, Latency: t.call.agent.now() - t.begun}
	}
	return Outcome{
		Result: health.Result(settled &^ settledDone >> settledResult), Code: int(settled >> settledCode & maxCode),
		Latency: time.Duration(settled & maxLatency),
	}
}

// result returns the result of the attempt: Canceled if it isn't done yet.
func (t *Attempt) result() health.Result { return t.Settled().Result }
