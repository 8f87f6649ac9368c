package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// latencies is the live distribution of a callee's latency: over the last 10 to 20 seconds, or longer if there were too few
// attempts.
type latencies struct {
	windows [2]atomic.Pointer[window] // the one in use, and the one before
	mu      sync.Mutex                // held to begin a window and to compute a quantile
	cached  atomic.Int64              // the quantile computed last, in nanoseconds; 0: too little was known
	fresh   atomic.Int64              // until when cached holds, by the agent's clock
}

type window struct {
	begun  time.Duration // by the agent's clock
	count  atomic.Uint32
	counts [statistics.LatencyBuckets]atomic.Uint32
}

const (
	latencyWindow = 10 * time.Second
	latencyFresh  = 250 * time.Millisecond
	latencyNeeds  = 20 // samples for a quantile
)

// observe adds a latency.
func (l *latencies) observe(now, latency time.Duration) {
	w := l.windows[0].Load()
	if w == nil || now-w.begun >= latencyWindow {
		w = l.turn(now)
	}
	w.counts[statistics.LatencyBucket(latency)].Add(1)
	w.count.Add(1)
}

// turn begins a window, unless the one in use has too few samples to stand alone.
func (l *latencies) turn(now time.Duration) *window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[0].Load()
	if w == nil || now-w.begun >= latencyWindow && w.count.Load() >= latencyNeeds {
		l.windows[1].Store(w)
		w = &window{begun: now}
		l.windows[0].Store(w)
	}
	return w
}

// last returns the quantile that was computed last; 0: none.
func (l *latencies) last() time.Duration { return time.Duration(l.cached.Load()) }

// quantile returns the latency that a share p of the attempts don't exceed; false while too little is known. It is
// computed at most four times a second.
func (l *latencies) quantile(now time.Duration, p float64) (time.Duration, bool) {
	if int64(now) >= l.fresh.Load() && l.mu.TryLock() {
		l.cached.Store(int64(l.compute(p)))
		l.fresh.Store(int64(now + latencyFresh))
		l.mu.Unlock()
	}
	known := l.last()
	return known, known > 0
}

func (l *latencies) compute(p float64) time.Duration {
	var counts [statistics.LatencyBuckets]uint64
	total := uint64(0)
	for n := range l.windows {
		if w := l.windows[n].Load(); w != nil {
			for bucket := range counts {
				count := uint64(w.counts[bucket].Load())
				counts[bucket] += count
				total += count
			}
		}
	}
	if total < latencyNeeds {
		return 0
	}
	return statistics.LatencyQuantile(&counts, p)
}
