package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// reporting is how much of what a callee's programs were handed out they have reported, lately. It tells nothing of the callee: a
// hand-out that is never reported is no failure. But who hears of a part only must not take it for the whole.
type reporting struct {
	handedOut tally[atomic.Uint64] // calls, whatever number of instances they got: of several, a program uses one
	reported  tally[atomic.Uint64]
	turned    atomic.Int64 // the newest span that has begun
	// sparse says that most of the window's hand-outs are unreported.
	sparse atomic.Bool

	mu    sync.Mutex // of what follows
	marks [reportSpans]reportMark
}

// reportMark is what was counted when a span began.
type reportMark struct{ handedOut, reported uint64 }

const (
	reportSpan  = 15 * time.Second
	reportSpans = 4 // the window: the one that goes on, and those before it
	// leastHandedOut is how many hand-outs there must be in the window to say that most are unreported.
	leastHandedOut = 20
	// sparseOver is the share of unreported hand-outs over which they are most. It is well over a half: a program that resolves the name of a
	// callee with instances of both IP versions is handed out two, and reports the one that it uses.
	sparseOver = 2.0 / 3
	// knownSuccesses is how many successes a caller must have reported for its failures to tell how the callee is: one that only
	// reports failures would make every callee look dead.
	knownSuccesses = 10
)

func (r *reporting) init() {
	r.handedOut, r.reported = newTally[atomic.Uint64](), newTally[atomic.Uint64]()
}

func (r *reporting) hand(stripe uint32, now time.Duration) { r.add(r.handedOut, stripe, now) }

func (r *reporting) report(stripe uint32, now time.Duration) { r.add(r.reported, stripe, now) }

func (r *reporting) add(to tally[atomic.Uint64], stripe uint32, now time.Duration) {
	to.at(stripe).Add(1)
	if span := int64(now / reportSpan); span != r.turned.Load() {
		r.turn(span)
	}
}

// turn begins a span, and judges those before it.
func (r *reporting) turn(span int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mark := reportMark{sum(r.handedOut), sum(r.reported)}
	for turned := max(r.turned.Load(), span-reportSpans); turned < span; {
		turned++
		r.marks[turned%reportSpans] = mark // one that begins takes the place of the oldest
		r.turned.Store(turned)
	}
	handedOut, unreported := r.since(r.marks[(r.turned.Load()+1)%reportSpans], mark)
	r.sparse.Store(handedOut >= leastHandedOut && unreported > sparseOver)
}

// since returns what was handed out after a mark, and the share of it that isn't reported. There may be more reports than
// hand-outs: a program may ask once, and report all that it sends over one connection.
func (r *reporting) since(begin, end reportMark) (handedOut uint64, unreported float64) {
	handedOut = end.handedOut - begin.handedOut
	if handedOut == 0 {
		return 0, 0
	}
	return handedOut, max(0, 1-float64(end.reported-begin.reported)/float64(handedOut))
}

// ratio returns the share of the window's hand-outs that isn't reported. false: there were none.
func (r *reporting) ratio(now time.Duration) (unreported float64, known bool) {
	if span := int64(now / reportSpan); span != r.turned.Load() {
		r.turn(span)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.marks[(r.turned.Load()+1)%reportSpans]
	handedOut, unreported := r.since(oldest, reportMark{sum(r.handedOut), sum(r.reported)})
	return unreported, handedOut > 0
}

// noteReport counts a report, and notes whether it is of a part only of what happens, so that it says how an instance is beside the
// others, but not how the callee is.
func (t *Attempt) noteReport(result health.Result) {
	s, l := t.call.service, t.call.line
	s.reporting.report(t.call.stripe, t.call.agent.now())
	if result == health.OK && l.successes.Load() < knownSuccesses {
		l.successes.Add(1)
	}
	t.partial = s.reporting.sparse.Load() || l.successes.Load() < knownSuccesses
}

// unheard tells whether the call's outcome will probably not be heard of: nobody can tell then how the callee is.
func (c *Call) unheard() bool { return c.HandOut && c.service.reporting.sparse.Load() }

// policyFor is the policy that chooses. One that goes by latency, or by what is in flight, knows next to nothing of a callee whose
// hand-outs are mostly unreported, and would follow the few that are: then it is round robin.
func (c *Call) policyFor(from *candidates) balance.Policy {
	if !c.unheard() || !balance.Tracks(c.plan.service.Balance.Policy) || c.plan.hashes {
		return c.policyOf(from)
	}
	return c.instead(from, &from.blind, model.RoundRobin)
}
