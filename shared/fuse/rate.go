package fuse

import (
	"math"
	"math/bits"
	"time"
)

// rates are the last rates of delivery, in answers per second.
type rates struct {
	list [128]rate // a minute of judgements, twice a second at most
	next int
}

type rate struct {
	at    time.Duration // end of its time
	value float64
}

func (r *rates) add(at time.Duration, value float64) {
	r.list[r.next%len(r.list)] = rate{at, value}
	r.next++
}

// most is the highest rate of the time since then.
func (r *rates) most(since time.Duration) (most float64) {
	for n := range min(r.next, len(r.list)) {
		if one := &r.list[n]; one.at > since {
			most = max(most, one.value)
		}
	}
	return most
}

// latencies is the distribution of the latency of good answers in normal times: 8 logarithmic buckets to an octave, from
// microseconds on, so that a quantile is at most 9 % too high. When it has mostLatencies, all counts are halved.
type latencies struct {
	counts [8 * 30]uint32
	total  uint32
}

const (
	leastLatencies = 20
	mostLatencies  = 4096
)

func (l *latencies) add(latency time.Duration) {
	micros := uint64(max(latency.Microseconds(), 8)) // below it, buckets would be under a microsecond wide
	octave := bits.Len64(micros) - 1
	l.counts[min((octave-3)*8+int(micros>>(octave-3)&7), len(l.counts)-1)]++
	if l.total++; l.total >= mostLatencies {
		l.total = 0
		for n := range l.counts {
			l.counts[n] /= 2
			l.total += l.counts[n]
		}
	}
}

// quantile is the latency that a share of the answers don't exceed; 0 while too little is known.
func (l *latencies) quantile(share float64) time.Duration {
	if l.total < leastLatencies {
		return 0
	}
	seen, wanted := uint32(0), uint32(math.Ceil(share*float64(l.total)))
	for n, count := range l.counts {
		if seen += count; seen >= wanted {
			return time.Duration(8+n%8+1) << (n / 8) * time.Microsecond
		}
	}
	return 0
}
