package agent

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// unknown stands for callers and callees that no document names, so that a stranger can't grow the metrics.
const unknown = "unknown"

// line is what is counted of one caller's calls to one callee.
type line struct {
	caller   string
	known    atomic.Pointer[service] // the caller's own service; nil: no document names it
	duration prometheus.Observer     // nil for unknown callees
	strata   strata
	requests copyMap[requestKey, tally[atomic.Uint64]]
	usual    atomic.Pointer[usual]
	refused  counters[string] // by reason
	// successes that programs of the caller have reported, counted up to knownSuccesses.
	successes atomic.Uint32
	last      tally[atomic.Int64] // when a call ended last, by the agent's clock
}

type requestKey struct {
	idc  string // of the instance; empty: none was reached, or it has none
	code int
}

// usual is the first entry of requests. Nearly all calls have the same key, and are counted here without a look-up in the map.
type usual struct {
	key   requestKey
	count tally[atomic.Uint64]
}

func newLine(caller string, known *service, duration prometheus.Observer) *line {
	l := &line{caller: caller, duration: duration, last: newTally[atomic.Int64]()}
	l.known.Store(known)
	return l
}

// line returns the line of a caller to the service.
func (s *service) line(caller string) *line {
	if caller == "" {
		caller = unknown
	}
	l := s.firstLine.Load()
	if l == nil || l.caller != caller {
		l = s.lines.all()[caller]
	}
	if l != nil {
		if known := l.known.Load(); known == nil || !known.gone.Load() {
			return l // fast path
		}
	}
	known := s.agent.service(caller)
	if known == nil {
		if caller != unknown {
			_ = s.agent.fetch(caller, 0) // for the next calls: the caller's own document says how important it is
		}
		caller = unknown
	}
	l = s.lines.get(caller, func() *line {
		return newLine(caller, known, s.agent.duration.WithLabelValues(caller, s.name))
	})
	s.firstLine.CompareAndSwap(nil, l)
	if known != nil { // the caller may have gone and come back as another one
		l.known.Store(known)
	}
	return l
}

func (l *line) count(stripe uint32, now time.Duration, key requestKey, took time.Duration) {
	l.last.at(stripe).Store(int64(now))
	l.counter(key).at(stripe).Add(1)
	if took > 0 { // a report may leave it out
		l.duration.Observe(took.Seconds())
	}
}

func (l *line) counter(key requestKey) tally[atomic.Uint64] {
	if first := l.usual.Load(); first != nil && first.key == key {
		return first.count
	}
	count := l.requests.get(key, newTally[atomic.Uint64])
	if l.usual.Load() == nil {
		l.usual.CompareAndSwap(nil, &usual{key, count})
	}
	return count
}

// ended returns when a call ended last, by the agent's clock; 0: none did.
func (l *line) ended() (last time.Duration) {
	for n := range l.last {
		last = max(last, time.Duration(l.last[n].value.Load()))
	}
	return last
}
