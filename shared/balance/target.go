package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// Unusual shares.
const (
	// SlowStartTime is how long an instance that came back gets less than its share. 30 s: caches, pools and compilers warm
	// up in some ten seconds.
	SlowStartTime = 30 * time.Second

	// PenaltyRecovery is the time in which a penalty halves.
	PenaltyRecovery = 10 * time.Second

	// leastFactor is the least that slow start leaves of a share, and the least that penalties leave: without any traffic
	// nobody would learn that an instance is well again. 1/32 is five halvings.
	leastFactor = 1.0 / 32
	longest     = 5 * PenaltyRecovery
)

// Latency, after Finagle's peak EWMA.
const (
	// decay is the time in which what was seen loses all but 1/e of its say. 10 s is Finagle's: long against one slow answer,
	// short against a bad minute.
	decay = 10 * time.Second

	// A failure counts as twice the estimate at least, since a dead instance answers fastest of all; as leastFailure at
	// least, which is slow within a data centre, where nothing is known yet; but by itself not as more than mostFailure,
	// from which an estimate takes about a minute to fade to 20 ms.
	leastFailure = 10 * time.Millisecond
	mostFailure  = 10 * time.Second

	// faded is the estimate that says no more than none.
	faded = time.Microsecond

	// tickBits makes a tick of the estimate's clock, 2²⁴ ns ≈ 17 ms. That is fine enough for a decay of 10 s, and lets
	// most answers pass without a write: within one tick only a peak changes the estimate. 32 bits of ticks wrap
	// after 2.3 years. An instance about which nothing was heard for exactly so long has an estimate that looks fresh
	// again; it fades a second time.
	tickBits = 24

	// behind is how many ticks (17 s) an estimate may come from the future: goroutines read the clock before they get here.
	behind = 1 << 10
)

// Target is what policies see and remember of one instance. It lives as long as the instance, across lists. Its zero
// value is ready; its pointer is the instance's identity.
//
// Slow start and penalties are kept as the moments at which they are over, since those say all: a penalty halves with
// time, so that what is left of it is a matter of how long it still lasts. One word each, no lock, and no clock that wraps.
type Target struct {
	latency      atomic.Uint64 // peak EWMA: tick of its last change in the upper half, ns as float32 in the lower. 0: unknown
	slowUntil    atomic.Int64  // end of slow start, ns
	penaltyUntil atomic.Int64  // when the penalty will have faded, ns
	inFlight     atomic.Int64
}

// Began notes one more request in flight.
func (t *Target) Began() { t.inFlight.Add(1) }

// Ended notes that a request that Began is over. A latency ≤ 0 says nothing about the instance's latency, as that of a
// canceled request. A failure counts without a latency, too.
func (t *Target) Ended(now, latency time.Duration, failed bool) {
	t.inFlight.Add(-1)
	if failed {
		latency = max(latency, leastFailure, min(2*t.Latency(now), mostFailure))
	}
	if latency > 0 {
		t.observe(now, float32(latency))
	}
}

// InFlight returns the number of requests in flight.
func (t *Target) InFlight() int { return int(t.inFlight.Load()) }

// Latency returns the peak EWMA of the latency as of now, 0 if unknown. It fades while nothing is observed, so that
// an instance that was slow once is tried again.
func (t *Target) Latency(now time.Duration) time.Duration {
	word := t.latency.Load()
	if word == 0 {
		return 0
	}
	estimate, age := unpack(word, now)
	if age > 0 {
		estimate *= left(age)
	}
	if estimate < float32(faded) {
		return 0
	}
	return time.Duration(estimate)
}

// observe takes a latency, in ns, into the estimate: one above raises it at once, one below draws it down with time.
func (t *Target) observe(now time.Duration, latency float32) {
	for {
		word := t.latency.Load()
		estimate, age := unpack(word, now)
		if latency <= estimate && age == 0 {
			return
		}
		mean := latency
		if latency < estimate {
			mean += (estimate - latency) * left(age)
		}
		if t.latency.CompareAndSwap(word, uint64(tick(now))<<32|uint64(math.Float32bits(mean))) {
			return
		}
	}
}

// left is what is left of an estimate after so many ticks, e^(−time/decay), from two tables: math.Exp takes 20 ns, and
// ewma needs it twice. After some 17 times the decay it is nothing.
func left(ticks uint32) float32 {
	if ticks>>6 >= uint32(len(leftCoarse)) {
		return 0
	}
	return leftCoarse[ticks>>6] * leftFine[ticks&63]
}

// leftFine is what is left after 0, 1, 2… ticks, leftCoarse after 0, 64, 128…
var leftFine, leftCoarse = decays(64, 1), decays(160, 64)

func decays(n, ticks int) []float32 {
	list := make([]float32, n)
	for i := range list {
		list[i] = float32(math.Exp(-float64(i*ticks) * (1 << tickBits) / float64(decay)))
	}
	return list
}

func tick(now time.Duration) uint32 { return uint32(now >> tickBits) }

// unpack returns the estimate of a word of Target.latency and its age in ticks.
func unpack(word uint64, now time.Duration) (estimate float32, age uint32) {
	age = tick(now) - uint32(word>>32)
	if age > math.MaxUint32-behind {
		age = 0
	}
	return math.Float32frombits(uint32(word)), age
}

// SlowStart begins the slow start of an instance that came back.
func (t *Target) SlowStart(now time.Duration) { t.slowUntil.Store(int64(now + SlowStartTime)) }

// SlowUntil returns when the slow start is, or was, over.
func (t *Target) SlowUntil() time.Duration { return time.Duration(t.slowUntil.Load()) }

// Penalize multiplies the instance's share by factor, 0 to 1. The share recovers by itself, doubling every
// PenaltyRecovery, until it is whole again. Penalties add up, but never to under 1/32.
func (t *Target) Penalize(now time.Duration, factor float64) {
	if !(factor < 1) {
		return
	}
	lasts := fading(factor)
	for {
		old := t.penaltyUntil.Load()
		until := min(max(old, int64(now))+int64(lasts), int64(now+longest))
		if t.penaltyUntil.CompareAndSwap(old, until) {
			return
		}
	}
}

// Factor returns what of its share an instance gets now, over 0 to 1: slow start times penalty.
func (t *Target) Factor(now time.Duration) float64 {
	if t.usual(now) {
		return 1
	}
	return t.slow(now) * t.penalty(now)
}

// usual tells whether the factor is 1. Nearly always it is.
func (t *Target) usual(now time.Duration) bool {
	return t.slowUntil.Load() <= int64(now) && t.penaltyUntil.Load() <= int64(now)
}

// slow is slow start's factor: it grows with time, linearly.
func (t *Target) slow(now time.Duration) float64 {
	missing := float64(t.slowUntil.Load()-int64(now)) / float64(SlowStartTime)
	return min(max(1-missing, leastFactor), 1)
}

func (t *Target) penalty(now time.Duration) float64 {
	lasts := float64(t.penaltyUntil.Load()-int64(now)) / float64(PenaltyRecovery)
	return min(max(math.Exp2(-lasts), leastFactor), 1)
}

// Cut makes the instance's share this factor, 0 to 1, of what it was, unless it is less already. It recovers as a penalty
// does, so that a cut is renewed as long as its reason stands.
func (t *Target) Cut(now time.Duration, factor float64) {
	if !(factor < 1) {
		return
	}
	until := int64(now) + int64(fading(factor))
	for {
		old := t.penaltyUntil.Load()
		if old >= until || t.penaltyUntil.CompareAndSwap(old, until) {
			return
		}
	}
}

// fading is how long a penalty takes to fade.
func fading(factor float64) time.Duration {
	if factor <= leastFactor {
		return longest
	}
	return time.Duration(-math.Log2(factor) * float64(PenaltyRecovery))
}
