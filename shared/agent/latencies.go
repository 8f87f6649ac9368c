package agent

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// latencies is the live distribution of a callee's latency: over the last 10 to 20 seconds, or longer if there were too few
// attempts.
//
// The buckets are those of HdrHistogram: 30 octaves from 8 µs to 2.4 hours, each in 8 equal parts. A quantile is told as the upper
// end of its bucket, and is so at most 12.5 % too high.
type latencies struct {
	windows [2]atomic.Pointer[window] // the one in use, and the one before
	mu      sync.Mutex                // held to begin a window and to compute a quantile
	cached  atomic.Int64              // the quantile computed last, in nanoseconds; 0: too little was known
	fresh   atomic.Int64              // until when cached holds, by the agent's clock
}

type window struct {
	begun  time.Duration // by the agent's clock
	count  atomic.Uint32
	counts [latencyBuckets]atomic.Uint32
}

const (
	latencyWindow  = 10 * time.Second
	latencyFresh   = 250 * time.Millisecond
	latencyNeeds   = 20 // samples for a quantile
	latencyBuckets = 8 * 30
)

func latencyBucket(latency time.Duration) int {
	micros := uint64(max(latency.Microseconds(), 8)) // below 8 µs, buckets would be narrower than a microsecond
	octave := bits.Len64(micros) - 1
	return min((octave-3)*8+int(micros>>(octave-3)&7), latencyBuckets-1)
}

// latencyOf returns the upper end of a bucket.
func latencyOf(bucket int) time.Duration {
	return time.Duration(8+bucket%8+1) << (bucket / 8) * time.Microsecond
}

// observe adds a latency.
func (l *latencies) observe(now, latency time.Duration) {
	w := l.windows[0].Load()
	if w == nil || now-w.begun >= latencyWindow {
		w = l.turn(now)
	}
	w.counts[latencyBucket(latency)].Add(1)
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
	var counts [latencyBuckets]uint64
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
	wanted, seen := p*float64(total), uint64(0)
	for bucket, count := range counts {
		if seen += count; float64(seen) >= wanted {
			return latencyOf(bucket)
		}
	}
	return latencyOf(latencyBuckets - 1)
}
