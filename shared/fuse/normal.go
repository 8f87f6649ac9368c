package fuse

import (
	"fmt"
	"math"
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// When a judgement is made.
const (
	enoughOutcomes, enoughTime = 10, 500 * time.Millisecond
	fewOutcomes, fewTime       = 3, 5 * time.Second
)

// When an avalanche begins.
const (
	leastBad     = 5    // outcomes
	alpha        = 1e-6 // probability of as many with the usual share of failures
	leastFlight  = 16   // in flight, under which their number is no reason
	flightShare  = 0.5  // of the normal timeout's deliveries: more in flight are not answered in time
	flightMemory = time.Minute
	carryTime    = 30 * time.Second // in which outcomes of too little success add up, where they are few
)

// enough tells whether there are enough outcomes for a judgement: as many as are wanted, or few in a long time.
func enough(n, wanted float64, age time.Duration) bool {
	return n >= wanted && age >= enoughTime || n >= fewOutcomes && age >= fewTime
}

func (f *Fuse) tickNormal(now time.Duration) []Decision {
	f.cut.turn(now)
	if late := f.flight.late(now, f.lateAfter()); late > 0 {
		f.window.addLate(late, f.underWay)
	}
	p, w := f.policy.Load(), &f.window
	if d, crowded := f.crowded(now); crowded && !p.off() {
		return f.enter(now, d)
	}
	age := now - w.begun
	if w.good+w.bad == 0 && f.pace.delivered == 0 {
		w.begun, f.pace = now, pace{begun: now, flight: f.flight.total} // silence is no low rate
	}
	if rate, known := f.pace.take(now, f.flight.total); known {
		f.rates.add(now, rate)
	}
	judged := enough(w.good+w.bad, float64(p.MinOutcomes), age)
	if !judged && w.bad < leastBad { // so much that is bad may be enough by itself
		return nil
	}
	good, bad := w.sum()
	n := good + bad
	if n > 0 {
		f.success = good / n
	}
	if good < p.SuccessBelow*n && bad >= leastBad {
		usual := f.usual.share()
		if tail := statistics.BinomialTail(math.Floor(bad), n, usual); tail < alpha {
			return f.enter(now, Decision{
				Rule: byFailures, Value: tail, Threshold: alpha,
				Needed: fmt.Sprintf("success >= %v, or fewer than %d bad ones of %.0f", p.SuccessBelow, mostBad(n, usual)+1, n),
				Inputs: map[string]float64{"success": good / n, "success_below": p.SuccessBelow, "bad": bad, "n": n, "usual": usual},
			})
		}
	}
	if !judged || n > 0 && good/n < p.SuccessBelow && age < carryTime {
		return nil
	}
	f.usual.add(now, w.good, w.bad) // of all instances: it is what is usual
	f.median, f.p95 = f.normal.usual(now)
	w.reset(now)
	return nil
}

// crowded tells whether more attempts are under way than can be answered in time, at the highest rate of the last minute or of just now.
func (f *Fuse) crowded(now time.Duration) (Decision, bool) {
	highest := f.rates.most(now - flightMemory)
	if age := now - f.pace.begun; highest > 0 && age >= Interval/2 { // a surge that is answered is none to be stopped
		highest = max(highest, float64(f.pace.delivered)/age.Seconds())
	}
	n, bound := float64(f.flight.total), max(leastFlight, flightShare*f.policy.Load().Normal.Seconds()*highest)
	if float64(f.answers) >= n/4 { // they are being answered: a quarter of them since the last tick
		return Decision{}, false
	}
	// Where few are usual, many may have begun just now: a quarter must have taken longer than usual, or there must be twice as many.
	if bound == leastFlight && n <= 2*leastFlight && (f.p95 == 0 || float64(f.flight.older(now-f.p95)) < n/4) {
		return Decision{}, false
	}
	return Decision{
		Rule: byFlight, Value: n, Threshold: bound, Needed: fmt.Sprintf("at most %.0f in flight", bound),
		Inputs: map[string]float64{"normal_timeout": f.policy.Load().Normal.Seconds(), "highest_rate": highest},
	}, n > bound && highest > 0
}

// mostBad is how many bad ones of n can be chance, at a usual share of them.
func mostBad(n, usual float64) int {
	bad := leastBad
	for float64(bad) < n && statistics.BinomialTail(float64(bad), n, usual) >= alpha {
		bad++
	}
	return bad - 1
}

const (
	byFlight   = "in flight > max(16, 0.5 * normal timeout * highest rate of the last minute), and not just begun or being answered"
	byFailures = "success < success_below, bad >= 5, and P(bad or more in n, at the usual share of failures) < 1e-6"
)

// takeNormal takes an outcome in normal times, when an attempt is late after so long.
func (f *Fuse) takeNormal(o *Outcome, late time.Duration) {
	answered := o.Tracked && !o.Counted
	if !answered || o.Result == Failed {
		f.pace.count(o.Result)
	}
	if o.Result == Ignored {
		return
	}
	if o.Result == Delivered && !o.Aside {
		f.normal.sample(o.Latency)
	}
	switch {
	case answered && o.Result == Delivered: // takeAnswers has counted it, not knowing whose it is
		f.window.at(o.Slot).good++
	case !o.Tracked || answered || o.Latency < late || !f.flight.counted(o.Begun):
		if o.Result == Delivered {
			f.answers++
		}
		f.window.add(o.Slot, o.Result == Delivered)
	}
}

// takeAnswers takes answers that have begun: they may go on for hours.
func (f *Fuse) takeAnswers(n int) {
	f.answers += n
	f.pace.delivered += n
	f.window.good += float64(n)
}
