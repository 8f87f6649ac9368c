package agent

import (
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// hedging is what is known of a callee's hedges. A hedge is a second attempt beside a first one that is late: the response is
// that of the quicker one (Dean, Barroso: The Tail at Scale, 2013).
type hedging struct {
	latencies latencies
	budget    bucket

	won, lost, failed atomic.Uint64
	// recent counts, in its low 32 bits, the hedges since they were last judged, and in its high 32 bits those of them that won.
	recent atomic.Uint64
	off    atomic.Int64 // until when none is made, by the agent's clock
}

const (
	// judgeHedges is how many hedges are judged together. If under a tenth of them won, a second attempt is no quicker than a late
	// first one, and hedges only add load: none is made for hedgePause.
	judgeHedges = 20
	hedgePause  = time.Minute
)

// HedgeAfter returns how long the first attempt of a call may take until a second one is worth it; false: none is. It also adds
// the call's share to the hedge budget: it is to be called once per call, after Begin.
func (c *Call) HedgeAfter() (time.Duration, bool) {
	policy, h := c.Service().Hedge, &c.service.hedging
	if policy == nil || c.HandOut || c.service.fuse.Avalanche() {
		return 0, false
	}
	h.budget.earn(policy.Budget)
	if time.Duration(h.off.Load()) > c.begun {
		return 0, false
	}
	return h.latencies.quantile(c.begun, policy.Percentile)
}

// Hedge picks another instance for a second attempt beside one that is late; nil if there is none, if the budget is used up, or if
// an avalanche has begun since.
func (c *Call) Hedge() *Attempt {
	if c.service.fuse.Avalanche() || !c.service.hedging.budget.spend() {
		return nil
	}
	c.refresh()
	attempt := c.pickOnRoute(false)
	if attempt == nil {
		c.service.hedging.budget.earn(1)
		return nil
	}
	attempt.Hedge, c.hedge = true, attempt
	return attempt
}

// observe adds an attempt's latency to the distribution. An attempt that was canceled after the time at which a hedge begins,
// as when the hedge was quicker, would have taken at least so long: without it the late ones would be missing, and the
// percentile would shrink.
func (h *hedging) observe(now time.Duration, result health.Result, latency time.Duration) {
	if result == health.OK || result == health.Canceled && latency > h.latencies.last() && h.latencies.last() > 0 {
		h.latencies.observe(now, latency)
	}
}

// settle counts the hedge of a call that has ended, and stops hedging for a while if it doesn't help.
func (h *hedging) settle(hedge *Attempt, won bool) {
	more := uint64(1)
	switch {
	case won:
		h.won.Add(1)
		more |= 1 << 32
	case hedge.result().Failure():
		h.failed.Add(1)
	default:
		h.lost.Add(1)
	}
	recent := h.recent.Add(more)
	if tried, wins := recent&(1<<32-1), recent>>32; tried >= judgeHedges && h.recent.CompareAndSwap(recent, 0) && wins*10 < tried {
		h.off.Store(int64(hedge.begun + hedgePause))
	}
}

func (h *hedging) collect(emit emitter, callee string) {
	for outcome, count := range map[string]uint64{"won": h.won.Load(), "lost": h.lost.Load(), "failed": h.failed.Load()} {
		if count > 0 {
			emit.counter(hedgesDesc, count, callee, outcome)
		}
	}
}
