package fuse

import (
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// rates are the last rates of delivery, in answers per second.
type rates struct {
	list [128]rate // a minute of judgements, twice a second at most
	next int
}

// pace measures the rate of delivery, over so many answers, or so much time, that it is one. It is in attempts as they are
// admitted: those that come to nothing that is heard of, such as hand-outs that nobody reports, or calls that their clients give up,
// are taken to do as well as the others.
type pace struct {
	begun                      time.Duration
	delivered, failed, ignored int // outcomes
	admitted                   int // in an avalanche
	flight                     int // how many were in flight when it began
}

func (p *pace) count(result Result) {
	switch result {
	case Delivered:
		p.delivered++
	case Failed:
		p.failed++
	default:
		p.ignored++
	}
}

// take returns the rate, and begins anew; false: not yet. flight is how many are in flight now.
func (p *pace) take(now time.Duration, flight int) (float64, bool) {
	age := now - p.begun
	if age < enoughTime || p.delivered < enoughOutcomes && age < fewTime {
		return 0, false
	}
	known := p.delivered + p.failed
	over := max(known+p.ignored, p.admitted-(flight-p.flight))
	value := float64(over) / age.Seconds() * float64(p.delivered) / float64(max(known, 1))
	*p = pace{begun: now, flight: flight}
	return value, true
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

// latencies is the distribution of the latency of good answers in normal times. When it has mostLatencies, all counts are halved.
type latencies struct {
	counts  [statistics.LatencyBuckets]uint32
	total   uint32
	skipped uint32
	best    [latencyMinutes]quantiles // of the last minutes, each
	minute  int64                     // the last one
}

// quantiles are the median and the 95th percentile, 0 if unknown.
type quantiles struct{ median, p95 time.Duration }

// latencyMinutes is for how long the best minute is remembered: an overload begins with answers that come late, which must not be
// taken for the usual ones (as BBR takes the shortest round trip of the last ten seconds for that of the path).
const latencyMinutes = 10

const (
	leastLatencies = 20
	mostLatencies  = 4096
)

// sample takes all latencies until there are some hundred, and then each eighth.
func (l *latencies) sample(latency time.Duration) {
	if l.skipped++; l.total < mostLatencies/16 || l.skipped%8 == 0 {
		l.add(latency)
	}
}

func (l *latencies) add(latency time.Duration) {
	l.counts[statistics.LatencyBucket(latency)]++
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
	return statistics.LatencyQuantile(&l.counts, share)
}

// usual is the median and the 95th percentile of the best of the last minutes; 0 while too little is known.
func (l *latencies) usual(now time.Duration) (median, p95 time.Duration) {
	minute := int64(now / time.Minute)
	for l.minute = max(l.minute, minute-latencyMinutes); l.minute < minute; {
		l.minute++
		l.best[l.minute%latencyMinutes] = quantiles{}
	}
	this := &l.best[minute%latencyMinutes]
	if p95 := l.quantile(0.95); this.p95 == 0 || p95 < this.p95 {
		*this = quantiles{l.quantile(0.5), p95}
	}
	for _, q := range l.best {
		if q.p95 > 0 && (p95 == 0 || q.p95 < p95) {
			median, p95 = q.median, q.p95
		}
	}
	return median, p95
}
