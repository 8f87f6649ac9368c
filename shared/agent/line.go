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
	duration prometheus.Observer // nil for unknown callees
	requests counters[requestKey]
	refused  counters[string] // by reason
	last     atomic.Int64     // when a call ended last, unix nanoseconds
}

type requestKey struct {
	idc  string // of the instance; empty: none was reached, or it has none
	code int
}

func newLine(caller string, duration prometheus.Observer) *line {
	return &line{caller: caller, duration: duration}
}

// line returns the line of a caller to the service.
func (s *service) line(caller string) *line {
	if s.agent.service(caller) == nil {
		caller = unknown
	}
	return s.lines.get(caller, func() *line {
		return newLine(caller, s.agent.duration.WithLabelValues(caller, s.name))
	})
}

func (l *line) count(idc string, code int, took time.Duration) {
	l.last.Store(time.Now().UnixNano())
	l.requests.add(requestKey{idc, code})
	if took > 0 { // a report may leave it out
		l.duration.Observe(took.Seconds())
	}
}
