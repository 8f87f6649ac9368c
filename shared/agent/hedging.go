package agent

import (
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// hedging is what a callee's hedges have come to. A hedge is a second attempt beside a first one that is late: the quicker
// one is the response (Dean, Barroso: The Tail at Scale, 2013).
type hedging struct {
	latencies latencies
	budget    bucket

	won, lost, failed atomic.Uint64
	// recent counts the hedges since they were last judged, and those of them that won in the high half.
	recent atomic.Uint64
	off    atomic.Int64 // until when none is made, by the agent's clock
}

const (
	// judgeHedges is how many hedges are judged at once. If under a tenth of them won, being late says nothing here, and
	// hedges only add load: none is made for hedgePause.
	judgeHedges = 20
	hedgePause  = time.Minute
)

// HedgeAfter returns how long the first attempt of a call may take until a second one is worth it; false: none is. The
// call must have begun.
func (c *Call) HedgeAfter() (time.Duration, bool) {
	policy, h := c.Service().Hedge, &c.service.hedging
	if policy == nil || c.HandOut {
		return 0, false
	}
	h.budget.earn(policy.Budget)
	if time.Duration(h.off.Load()) > c.begun {
		return 0, false
	}
	return h.latencies.quantile(c.begun, policy.Percentile)
}

// Hedge picks another instance for a second attempt beside one that is late; nil if there is none, or if the budget is
// used up.
func (c *Call) Hedge() *Attempt {
	if !c.service.hedging.budget.spend() {
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

// observe learns from an attempt. One that was given up after the time at which a hedge begins, as when the hedge was
// quicker, took at least so long: without it the late ones would be missing from the distribution, and it would shrink.
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
	case hedge.Result().Failure():
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
