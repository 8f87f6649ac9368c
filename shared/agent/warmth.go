package agent

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
)

// warmth is how much of its traffic a group can take after it was lost. An IDC that comes back has all of its instances in
// slow start at once: among themselves that changes nothing, so that the slow start must be the group's. Its share is what
// its instances together get of theirs, doubled, since half of them are enough (health.Under).
type warmth struct {
	until time.Duration // the last slow start ends then; never changes
	of    int           // instances of the family that serve, banned or not
	at    atomic.Int64  // when share was computed
	share atomic.Uint64 // float64
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

// takes tells whether the group takes one more request of those that are its own, from callers of the candidates' family.
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
