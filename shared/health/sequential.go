package health

import (
	"math"
	"math/bits"
	"time"
)

// The sequential test by which requests ban where a document doesn't say "M of N": a CUSUM (Page 1954) of the likelihood
// that the instance fails half of its requests against the likelihood that it fails as the others do. A failure adds
// ln(0.5/p0), a success ln(0.5/(1−p0)), never below 0; at 20 it bans. By Wald's inequality a healthy instance gets there in
// less than one of e²⁰ = 5·10⁸ excursions; one that fails everything among sound ones, after 7 failures.
const (
	suspectShare = 0.5  // p1: the share of failures that is looked for
	leastShare   = 0.02 // p0 at the least
	// faultShare of failures among the others is a service fault: to ban would only take capacity away.
	faultShare   = 0.35
	banScore     = 20
	sequentially = "score = max(0, score + ln(0.5/p0)) at a failure, max(0, score + ln(0.5/(1-p0))) at a success; ban at 20 while p0 < 0.35"
)

// forget is how long the last failure is held against an instance. With little traffic the last outcomes may reach back for
// hours, and say nothing about now.
const forget = 10 * time.Minute

// sequential is the state of the test.
type sequential struct {
	score float64
	p0    float64       // the others' share of failures, as of the last failure
	last  time.Duration // when the score last changed
}

// success takes a success. It is one comparison for an instance that hasn't failed lately.
func (t *sequential) success(now time.Duration) {
	if t.score > 0 {
		t.score = max(0, t.score+math.Log(suspectShare/(1-min(t.p0, faultShare)))) // with p0 over a half it would grow
		t.last = now
	}
}

// failure takes a failure.
func (t *sequential) failure(p0 float64, now time.Duration) {
	if now-t.last > forget {
		t.score = 0
	}
	t.p0, t.last = p0, now
	if p0 < faultShare {
		t.score += math.Log(suspectShare / p0)
	}
}

// needed is how many more failures in a row would ban; −1: none would do, since the others fail too.
func (t *sequential) needed() float64 {
	if t.p0 >= faultShare {
		return -1
	}
	return math.Ceil((banScore - t.score) / math.Log(suspectShare/t.p0))
}

// window holds the last outcomes as bits, the youngest lowest; 1 is a failure.
type window struct {
	bits uint64
	last time.Duration // when the last failure came
}

func (w *window) shift(failed bool, now time.Duration) {
	if now-w.last > forget {
		w.bits = 0
	}
	if w.bits <<= 1; failed {
		w.bits |= 1
		w.last = now
	}
}

// among counts the failures among the last n outcomes.
func (w *window) among(n int) int { return bits.OnesCount64(w.bits << (64 - n)) }

// byRequests bans an instance whose requests fail: by the sequential test, or by M of N if the policy says so.
func (s *Service) byRequests(i *Instance, failed bool, now time.Duration) {
	if s.overload {
		return
	}
	past, rule := i.past, s.policy.Load().Requests
	if rule != nil {
		past.window.shift(failed, now)
	} else {
		past.window = window{} // the policy had a rule before
	}
	if !failed {
		past.test.success(now)
		return
	}
	p0 := s.p0(i)
	past.test.failure(p0, now)
	evidence := Decision{Reason: ByRequests, Inputs: map[string]float64{"failures": float64(i.failures()), "p0": p0}}
	switch {
	case rule != nil && past.window.among(rule.Of) >= rule.Failures:
		evidence.Rule, evidence.Needed = "failures among the last N outcomes ≥ M", "one failure fewer"
		evidence.Value, evidence.Threshold = float64(past.window.among(rule.Of)), float64(rule.Failures)
		evidence.Inputs["N"], evidence.Inputs["M"] = float64(rule.Of), float64(rule.Failures)
	case rule == nil && p0 < faultShare && past.test.score >= banScore:
		evidence.Rule, evidence.Value, evidence.Threshold = sequentially, past.test.score, banScore
		evidence.Needed = "one failure fewer, or a success between"
	default:
		return
	}
	s.suspect(i, evidence)
}
