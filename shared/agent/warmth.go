package agent

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
)

// warmth is the slow start of a group as a whole. When an IDC comes back, all of its instances are in slow start at once. That
// doesn't change how the group's requests are spread over them, so that the group has to get fewer requests. Its share of
// them is the mean of its instances' slow-start factors, doubled, since half of the instances are enough (health.Under).
type warmth struct {
	until time.Duration // when the last slow start ends; never changes
	of    int           // instances of the family that serve, banned or not
	at    atomic.Int64  // when share was computed, by the agent's clock; 0: never
	share atomic.Uint64 // bits of a float64
}

// warmthFresh is how long a computed share holds.
const warmthFresh = 100 * time.Millisecond

func newWarmth(instances []*instance, of int) *warmth {
	w := &warmth{of: of}
	for _, i := range instances {
		w.until = max(w.until, i.target.SlowUntil())
	}
	return w
}

// takes tells, by lot, whether the group takes a request that is the group's by the table, or leaves it to other groups.
func (from *candidates) takes(r *balance.Request) bool {
	w, now := from.warmth, r.Now
	if now >= w.until {
		return true // fast path
	}
	if at := w.at.Load(); at == 0 || int64(now)-at > int64(warmthFresh) {
		sum := 0.0
		for _, i := range from.instances {
			sum += i.target.Factor(now)
		}
		w.share.Store(math.Float64bits(2 * sum / float64(w.of)))
		w.at.Store(int64(now))
	}
	return r.Fraction() < math.Float64frombits(w.share.Load())
}
