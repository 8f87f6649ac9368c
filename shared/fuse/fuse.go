package fuse

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Policy is what a callee's documents say of its fuse.
type Policy struct {
	model.Fuse
	Normal, Avalanche time.Duration // until an answer must begin, in each of the two states
}

// off tells whether nothing is ever refused.
func (p *Policy) off() bool { return p.SuccessBelow == 0 }

// Interval is how often Tick is to be called while there is traffic, ± 10 %.
const Interval = 250 * time.Millisecond

// Fuse is the fuse of one callee for one agent. In the normal state a request takes no lock.
type Fuse struct {
	policy  atomic.Pointer[Policy]
	active  atomic.Bool  // an avalanche
	oldest  atomic.Int64 // span from which on stripes count; what began before goes to the flight itself
	sample  atomic.Int64 // of the requests of normal times those count for the histogram whose moment has none of these bits
	stripes []stripe
	// underWay yields how many attempts are under way on each instance.
	underWay func(yield func(slot int32, n int))

	_ [128]byte // what each request reads stays out of the cache lines of what the judge writes

	mu          sync.Mutex // of what follows
	flight      flight
	window      window
	rates       rates
	pace        pace
	normal      latencies
	median, p95 time.Duration // of normal, as of the last judgement
	usual       usual
	cut         cut
	ticked      time.Duration

	success   float64    // of the last judgement
	decisions []Decision // the last ones
	answers   int        // in normal times, since the last tick
	avalanche            // the one that goes on
}

// New returns a fuse. underWay yields how many attempts are under way on each instance, by its number.
func New(policy *Policy, underWay func(yield func(slot int32, n int))) *Fuse {
	f := &Fuse{stripes: newStripes(), underWay: underWay, success: 1, cut: newCut()}
	f.policy.Store(policy)
	return f
}

// SetPolicy puts a new policy in force.
func (f *Fuse) SetPolicy(policy *Policy) { f.policy.Store(policy) }

// Avalanche tells whether the callee is in an avalanche.
func (f *Fuse) Avalanche() bool { return f.active.Load() }

// Verdict is what a request is told.
type Verdict struct {
	Admitted bool
	// Degrade, 1 to 3, asks for optional work to be left out, the more the higher. 0: nothing.
	Degrade int
}

// Admit decides on a request. In the normal state all are admitted.
func (f *Fuse) Admit(now time.Duration, weight int) Verdict {
	if !f.active.Load() {
		return Verdict{Admitted: true} // fast path
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.active.Load() {
		return Verdict{Admitted: true}
	}
	verdict := f.cut.admit(now, min(max(weight, 0), MaxWeight), f.queued() < f.limit())
	if verdict.Admitted {
		f.pace.admitted++
	}
	return verdict
}

// Sampled tells whether a request of normal times is to be counted by Arrived. It is of all, or where there are many of some
// taken at random, by the moment: whatever the grain of the clock.
func (f *Fuse) Sampled(now time.Duration) bool {
	const golden = 0x9e3779b97f4a7c15 // 2⁶⁴ / the golden ratio, which spreads moments that follow each other (Knuth)
	return uint64(now)*golden>>60&uint64(f.sample.Load()) == 0
}

// Arrived counts a sampled request of normal times.
func (f *Fuse) Arrived(stripe uint32, weight int) {
	f.at(stripe).arrivals[min(max(weight, 0), MaxWeight)].Add(1)
}

// Began notes that an attempt is under way.
func (f *Fuse) Began(stripe uint32, now time.Duration) {
	if f.counts(now) {
		f.at(stripe).change[spanOf(now)%spans].Add(1)
		return // fast path
	}
	f.mu.Lock()
	f.flight.change(now, 1)
	f.mu.Unlock()
}

// Answered notes that an instance has begun to answer an attempt. o.Counted says that the attempt was under way until now. Its end
// is told by an Outcome that is Tracked, and isn't Counted.
func (f *Fuse) Answered(stripe uint32, o *Outcome) {
	if f.counts(o.Begun) {
		if f.at(stripe).answers.Add(1); o.Counted {
			f.at(stripe).change[spanOf(o.Begun)%spans].Add(-1)
		}
		return // fast path
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Counted {
		f.flight.change(o.Begun, -1)
	}
	if f.active.Load() {
		f.takeActive(o)
	} else {
		f.takeAnswers(1)
	}
}

func (f *Fuse) at(n uint32) *stripe { return &f.stripes[int(n)&(len(f.stripes)-1)] }

// counts tells whether attempts that began then are counted in the stripes.
func (f *Fuse) counts(begun time.Duration) bool {
	return !f.active.Load() && spanOf(begun) >= f.oldest.Load()
}

// Outcome is what became of an attempt.
type Outcome struct {
	Slot    int32 // number of the instance
	Begun   time.Duration
	Latency time.Duration // until the answer began, or the attempt failed
	Result  Result
	Tracked bool // Began or Answered was told of it
	Counted bool // it is under way until now: Began was told of it, and Answered wasn't
	Aside   bool // Began wasn't told of it, though the agent made it: what it took says nothing
	GivenUp bool // ignored, since who asked waited no longer
}

// Result is what an outcome says of the callee.
type Result uint8

// The results.
const (
	Ignored   Result = iota // nothing, such as that its client gave it up
	Delivered               // it answered, whatever
	Failed
)

// Take takes outcomes: fill writes the nth, each field of it.
func (f *Fuse) Take(n int, fill func(n int, o *Outcome)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var o Outcome
	active, late := f.active.Load(), f.lateAfter()
	for i := range n {
		if fill(i, &o); o.Counted {
			f.flight.change(o.Begun, -1)
		}
		if o.GivenUp && o.Counted && f.p95 > 0 && o.Latency >= usualTimes*f.p95 {
			o.Result = Failed // what was given up was late: callers may have less patience than the timeouts
		}
		switch {
		case !active:
			f.takeNormal(&o, late)
		case o.Result == Failed || !o.Tracked || o.Counted: // else Answered has told of it
			f.takeActive(&o)
		}
	}
}

// Tick judges what has come, and returns what was decided, and whether the callee is idle: nothing is in flight, in normal
// times.
func (f *Fuse) Tick(now time.Duration) (decided []Decision, idle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flight.turn(now)
	f.flight.collect(f.stripes)
	f.oldest.Store(f.flight.newest - spans/2)
	if !f.active.Load() && now-f.ticked > 4*Interval { // nobody ticked, since nobody called: what has come is of just now
		f.window.begun, f.pace.begun = now-Interval, now-Interval
		f.cut.turn(now - Interval)
	}
	f.collect()
	f.ticked = now
	if !f.active.Load() {
		decided = f.tickNormal(now)
	} else {
		decided = f.tickAvalanche(now)
	}
	f.answers = 0
	f.decisions = append(f.decisions, decided...)
	f.decisions = slices.Delete(f.decisions, 0, max(len(f.decisions)-mostDecisions, 0))
	return decided, f.flight.total == 0 && !f.active.Load()
}

// mostSampled is how many requests of a tick are counted one by one; where there are more, one of 16 is.
const mostSampled = 64

// collect takes in what normal times have counted: a sample of the requests, and the answers that have begun.
func (f *Fuse) collect() {
	each, sum := float64(f.sample.Load()+1), 0.0
	for n := range f.stripes {
		for w := range f.stripes[n].arrivals {
			if count := &f.stripes[n].arrivals[w]; count.Load() > 0 {
				come := float64(count.Swap(0)) * each
				f.cut.arrive(w, come)
				sum += come
			}
		}
		f.takeAnswers(int(f.stripes[n].answers.Swap(0)))
	}
	switch {
	case f.active.Load():
	case sum > 16*mostSampled:
		f.sample.Store(15)
	case sum < mostSampled:
		f.sample.Store(0)
	}
}
