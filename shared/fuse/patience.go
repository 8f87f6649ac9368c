package fuse

import "time"

// usualTimes times the normal 95th percentile is the least that an attempt may take, and the age from which on one that its client
// gives up unanswered has failed.
const usualTimes = 3

// lateAfter is how old an attempt gets before it counts as bad: T of the rules, or longer where all were late.
func (f *Fuse) lateAfter() time.Duration {
	return min(f.policy.Load().Normal, f.usuallyLateAfter()<<f.stretch)
}

// usuallyLateAfter is T. An avalanche's timeout that is near the callee's usual latency must be no trap.
func (f *Fuse) usuallyLateAfter() time.Duration {
	p := f.policy.Load()
	if f.p95 == 0 {
		return p.Normal
	}
	return min(p.Normal, max(p.Avalanche, usualTimes*f.p95))
}

// tookLong tells whether an attempt that came to nothing took so long that the callee may still have its work to do.
func (f *Fuse) tookLong(latency time.Duration) bool {
	return latency >= f.policy.Load().Normal || f.p95 > 0 && latency >= usualTimes*f.p95
}

// LeastTimeout is how long an attempt may take in an avalanche at least, as far as normal times allow it: three times the normal 95th
// percentile, and the avalanche's own timeouts as many times as the second value says, a power of two, since at the floor all were
// late. 0: what is normal isn't known, and no time limit may be shorter than in normal times.
func (f *Fuse) LeastTimeout() (least time.Duration, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return usualTimes * f.p95 << f.stretch, 1 << f.stretch
}

// relearn learns what is usual of an answer in an avalanche: because nothing is known, or since at the floor, where no queue can be,
// all were late.
func (f *Fuse) relearn(latency time.Duration) {
	if f.relearned == nil {
		f.relearned, f.relearning = &latencies{}, f.ticked
	}
	// The slow ones of a mixture come later than the quick ones that began with them.
	if f.relearned.add(latency); f.relearned.total >= leastLatencies && f.ticked-f.relearning >= 2*f.lateAfter() {
		f.normal, f.relearned, f.stretch = *f.relearned, nil, 0
		f.median, f.p95 = f.normal.usual(f.ticked)
	}
}
