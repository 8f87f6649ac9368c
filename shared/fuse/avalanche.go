package fuse

import (
	"fmt"
	"math"
	"time"
)

// What the rate is when an avalanche begins, and how it follows what is delivered.
const (
	entryTime = 15 * time.Second // whose highest rate of delivery it begins with
	// headroom over the rate of delivery lets it be seen when the callee can do more: BBR's gain when it probes for bandwidth.
	headroom = 1.25
	// A bad outcome counts for four tenths of a halving, a good one for a tenth of a doubling: they balance at a success of 0.8.
	// From 20 requests a second on a good one counts for more, in proportion.
	badStep, goodStep, goodStepFrom = 0.4, 0.1, 20
	barrenSteps                     = 2    // halvings when there was no good outcome at all: all of it is dead work
	startSteps                      = 1.6  // doublings by a good judgement in slow start
	waitedSteps                     = 0.25 // halvings at most where answers come late, but in time
	crowdedSteps                    = 2    // halvings at most of a rate that a standing queue belies
	growTo                          = 0.9  // of the rate at the beginning: up to there it doubles
	leastRefused                    = 0.05 // share; where less is refused, what is delivered says nothing of what could be
	growMemory                      = 10 * time.Second
	quickShare                      = 0.8 // of the good ones that took no longer than usual, where nothing waits
)

// How an avalanche ends.
const (
	leaveAfter   = 5 * time.Second
	leaveUnder   = 0.95             // of what is admitted
	silence      = 0.01             // arrivals per second that are none
	unheardTime  = 30 * time.Second // without any outcome
	leastUnheard = 10               // admitted in that time
	barrenTime   = 30 * time.Second // without a good outcome, after which dead work can't be why all are late
)

// What passes in any case.
const (
	// The floor is fuse.floor of the arrivals, but no more than a twentieth of what was delivered at the beginning: where ten times of
	// that arrives, and clients repeat, the share would be a third of it, and dead work as long as a queue is there.
	floorOfEntry = 0.05
	// It is leastFloor requests a second if that is more, but never more than mostFloor of the arrivals: many callers with little
	// traffic each must not be an avalanche together.
	leastFloor, mostFloor = 0.2, 0.1
	// atFloor of what would pass at the floor is the least rate. With all of it a dead callee would get the floor twice: by the rate,
	// and in any case.
	atFloor = 0.95
)

// avalanche is the state of one.
type avalanche struct {
	rate  float64 // attempts per second that the callee delivers: bw of the rules
	entry float64 // the rate at the beginning
	// fair is the rate as it was then, and as all agents have changed it since: what an agent's part of the callee's queue goes by.
	fair      float64
	shrunk    time.Duration // last change for the worse
	fitting   time.Duration // since when the traffic fits; 0: it doesn't
	goodput   float64       // answers per second, as last measured
	measured  time.Duration // when that was
	queueing  time.Duration // since when there is more to do than may be, all the time; 0: there isn't
	heard     time.Duration // the last outcome
	delivered time.Duration // the last good one
	quickly   time.Duration // the last judgement by which nothing waited
	barren    float64       // bad outcomes since the last good one
	slowStart bool          // from the floor on
	threshold float64       // of slow start: half of the rate as it was before the bad outcomes
	quick     bool          // at the last judgement nothing waited
	stretch   int           // doublings of what an attempt may take, since all were late at the floor
	relearned *latencies    // of the answers since then; nil: none
	// relearning is since when.
	relearning time.Duration
}

func (f *Fuse) enter(now time.Duration, why Decision) []Decision {
	if f.p95 == 0 { // no judgement yet
		f.median, f.p95 = f.normal.usual(now)
	}
	rate := max(f.rates.most(now-entryTime), float64(f.pace.delivered)/max(now-f.pace.begun, fewTime).Seconds())
	if rate == 0 { // nobody asked, or nothing was delivered
		rate = max(f.rates.most(now-flightMemory), f.cut.lately)
	}
	rate = max(rate, leastFloor)
	f.avalanche = avalanche{rate: rate, entry: rate, fair: rate, shrunk: now, heard: now, delivered: now, quickly: now}
	f.pace = pace{begun: now, flight: f.flight.total}
	f.cut.begin(now, rate, float64(f.flight.total) > f.limit())
	f.cut.admits(rate, f.floor())
	f.window.reset(now)
	f.active.Store(true)
	f.success = 0 // of no judgement yet
	why.Kind = Entered
	return []Decision{f.decision(now, why)}
}

// takeActive takes an outcome in an avalanche.
func (f *Fuse) takeActive(o *Outcome) {
	f.pace.count(o.Result)
	if o.Result == Ignored {
		return
	}
	f.cut.unheard, f.heard = 0, f.ticked
	late := o.Result == Failed && f.tookLong(o.Latency)
	if late {
		f.cut.dead++
	}
	if o.Begun < f.shrunk {
		return
	}
	f.window.add(o.Slot, o.Result == Delivered)
	switch {
	case late:
		f.window.late++
	case o.Result == Delivered:
		if f.delivered = f.ticked; o.Aside {
			return
		}
		if o.Latency > max(f.lateAfter()/2, f.p95) {
			f.window.waited++
		}
		if o.Latency <= f.p95 {
			f.window.quick++
		}
		if f.stretch > 0 || f.p95 == 0 || f.ticked-f.quickly >= barrenTime && f.rate < f.entry/4 {
			f.relearn(o.Latency)
		}
	}
}

// limit is how many may be in flight: what is delivered in the usual time of an answer, and what may wait besides. Were that in
// proportion to the rate, too, an agent that has got more than its part once would keep it, as throughput is shared by who waits. So
// it goes by the agent's fair part, and the rate follows (as in TCP Vegas, where each flow keeps the same number in the queue).
func (f *Fuse) limit() float64 {
	p := f.policy.Load()
	within := max(f.lateAfter()/4, min(f.p95, p.Normal*6/10))
	usual := min(f.median, within)
	least := min(max(f.rate, 1), 3)
	if f.quick {
		least *= 2
	}
	return max(f.rate*usual.Seconds()+f.fair*(within-usual).Seconds(), least)
}

// queued is how much the callee has to do: what is in flight, and what nobody waits for anymore.
func (f *Fuse) queued() float64 { return float64(f.flight.total) + f.cut.dead }

// floor is how many a second pass in any case.
func (f *Fuse) floor() float64 {
	share, arrivals := f.policy.Load().Floor, f.cut.lately
	return max(min(share*arrivals, max(share, floorOfEntry)*f.entry), min(leastFloor, mostFloor*arrivals))
}

// leastRate is the rate at the floor.
func (f *Fuse) leastRate() float64 { return atFloor * f.floor() / headroom }

func (f *Fuse) tickAvalanche(now time.Duration) []Decision {
	p := f.policy.Load()
	if p.off() {
		return f.leave(now, Decision{Rule: "the fuse is off"})
	}
	queued, limit := f.queued(), f.limit()
	crowded := queued > 1.5*limit+3 // those heavier than the cut pass whatever is in flight
	f.cut.tick(now, crowded, queued < limit/2)
	f.rate = max(f.rate, f.leastRate()) // arrivals may be more by now
	f.measure(now, crowded)
	decided := f.judge(now)
	f.cut.admits(f.rate, f.floor())
	if f.cut.unheard >= leastUnheard && now-f.heard >= max(unheardTime, 2*f.lateAfter()) {
		return append(decided, f.leave(now, Decision{
			Rule:  "none of those admitted was heard of for 30 s, and they are >= 10",
			Value: float64(f.cut.unheard), Threshold: leastUnheard, Needed: "an outcome",
		})...)
	}
	most := leaveUnder * headroom * f.rate
	fits := f.cut.lately < most || now-f.cut.last >= leaveAfter
	silent := f.cut.lately < silence && f.flight.total <= 0 // nobody is there to see that it is well again
	switch {
	case !fits || !silent && f.success < p.SuccessBelow:
		f.fitting = 0
	case f.fitting == 0:
		f.fitting = now
	case now-f.fitting >= leaveAfter:
		return append(decided, f.leave(now, Decision{
			Rule: "for 5 s: arrivals < 0.95 * 1.25 * rate, or nothing refused for 5 s; and success >= success_below, or no arrivals and " +
				"nothing in flight",
			Value: f.cut.lately, Threshold: most,
			Inputs: map[string]float64{"success": f.success, "success_below": p.SuccessBelow},
			Needed: "more arrivals, or less success",
		})...)
	}
	return decided
}

// measure takes the rate of delivery. While a queue is there all the time, it is what the callee can do: the rate has not to wait for
// what becomes of attempts that are begun now.
func (f *Fuse) measure(now time.Duration, crowded bool) {
	if !crowded {
		f.queueing = 0
	} else if f.queueing == 0 {
		f.queueing = now
	}
	throughout := f.queueing != 0 && f.pace.begun >= f.queueing
	goodput, known := f.pace.take(now, f.flight.total)
	if !known {
		return
	}
	f.rates.add(now, goodput)
	f.goodput, f.measured = goodput, now
	if throughout {
		f.scale(min(1, max(headroom*goodput/f.rate, math.Exp2(-crowdedSteps))))
	}
}

// scale changes the rate as all agents do.
func (f *Fuse) scale(factor float64) { f.rate, f.fair = f.rate*factor, f.fair*factor }

// judge changes the rate by what the attempts begun since the last change for the worse have come to.
func (f *Fuse) judge(now time.Duration) []Decision {
	w, below := &f.window, f.policy.Load().SuccessBelow
	n, age := w.good+w.bad, now-w.begun
	// A callee that is asked little is judged by little: by what a second may bring.
	wanted := min(max(min(f.rate, f.limit()/f.lateAfter().Seconds()), 1), enoughOutcomes)
	if age < enoughTime || n < wanted && !(n >= 1 && age >= fewTime) {
		return nil
	}
	good, bad := w.sum()
	f.success = good / max(good+bad, 1)
	quick := w.good > 0 && w.quick >= quickShare*w.good
	if f.quick = w.bad == 0 && quick; quick {
		f.quickly = now
	}
	before, d := f.rate, Decision{
		Kind: Changed, Value: f.success, Threshold: below, Inputs: map[string]float64{"good": good, "bad": bad, "rate_before": f.rate},
	}
	switch {
	case f.success < below && now-f.shrunk < f.lateAfter():
		return nil // what was begun since then isn't over yet
	case f.success < below && quick && w.good >= fewOutcomes && w.late >= w.bad/2 && f.lateAfter() < f.policy.Load().Normal:
		f.wait(now, &d)
	case f.success < below:
		f.shrink(now, &d)
	case good-w.waited < below*(good+bad):
		f.hold(&d)
	default:
		f.grow(&d)
	}
	w.reset(now)
	if math.Abs(f.rate-before) <= 0.01*before && d.Rule != byNature {
		return nil
	}
	return []Decision{f.decision(now, d)}
}

// goodputSinceShrunk is what was delivered, as measured since the last change for the worse; 0: it wasn't.
func (f *Fuse) goodputSinceShrunk() float64 {
	if f.measured > f.shrunk {
		return f.goodput
	}
	return 0
}

// shrink follows a judgement of too many failures.
func (f *Fuse) shrink(now time.Duration, d *Decision) {
	good, bad, goodput := d.Inputs["good"], d.Inputs["bad"], f.goodputSinceShrunk()
	if good > 0 {
		f.barren, f.slowStart = 0, false
	}
	if f.barren == 0 {
		f.threshold = f.rate / 2
	}
	f.barren += bad
	most := 1.0
	if good == 0 {
		most = barrenSteps
	}
	f.scale(math.Exp2(-min(most, badStep*f.barren)))
	f.rate = max(f.rate, goodput/headroom)
	if least := f.leastRate(); f.rate <= least {
		f.rate, f.slowStart = least, true
		if f.window.late > 0 && now-f.delivered >= barrenTime && f.lateAfter() < f.policy.Load().Normal {
			f.stretch++
		}
	}
	f.shrunk = now
	d.Rule = "success of those begun since the last shrink < success_below: rate = max(goodput, rate / 2^min(1, 0.4 * barren)), or 2 for 1 " +
		"if none was good"
	d.Inputs["goodput"], d.Inputs["barren"] = goodput, f.barren
	d.Needed = fmt.Sprintf("success >= %v", d.Threshold)
}

// wait follows a judgement of too many failures of which most were late, while the good ones are as quick as ever: so no queue is there,
// and some requests take longer by nature than they are given.
func (f *Fuse) wait(now time.Duration, d *Decision) {
	f.stretch++
	f.barren, f.shrunk = 0, now
	d.Rule = byNature
	d.Inputs["late"], d.Inputs["quick"], d.Inputs["late_after"] = f.window.late, f.window.quick, f.lateAfter().Seconds()
	d.Needed = fmt.Sprintf("success >= %v, or slow good ones", d.Threshold)
}

const byNature = "success < success_below, late >= 0.5 * bad, quick >= 0.8 * good: attempts may take twice as long"

// hold follows a judgement of success that came late: a queue grows, and soon all will be too late.
func (f *Fuse) hold(d *Decision) {
	f.barren, f.cut.dead = 0, 0
	waited, goodput := f.window.waited, f.goodputSinceShrunk()
	f.rate = max(goodput/headroom, f.rate*math.Exp2(-min(waitedSteps, 0.1*waited)))
	d.Rule = "success >= success_below, but of those that didn't wait < success_below: rate = max(goodput, rate / 2^min(0.25, 0.1 * waited))"
	d.Inputs["waited"], d.Inputs["goodput"] = waited, goodput
	d.Needed = fmt.Sprintf("answers within %v", max(f.lateAfter()/2, f.p95))
}

// grow follows a good judgement: the rate doubles up to 0.9 of what it was at the beginning, and then follows what is delivered. The
// fair part grows with it, and on: if it stayed, what may be in flight could be too little to keep the callee busy, and less and
// less would be delivered.
func (f *Fuse) grow(d *Decision) {
	f.barren, f.cut.dead = 0, 0
	steps := min(1, d.Inputs["good"]*goodStep*max(1, f.entry/goodStepFrom))
	if f.slowStart = f.slowStart && f.rate < f.threshold; f.slowStart {
		steps = startSteps
	}
	highest := f.rates.most(f.ticked - growMemory)
	switch {
	case f.rate < growTo*f.entry:
		f.rate = min(f.rate*math.Exp2(steps), growTo*f.entry)
		d.Rule = "success >= success_below: rate = min(rate * 2^steps, 0.9 * entry)"
	case f.cut.share() <= 1-leastRefused:
		f.rate += (highest - f.rate) / 2
		d.Rule = "success >= success_below, admitted <= 0.95: rate = (rate + highest goodput of 10 s) / 2"
	}
	f.fair = min(max(f.fair*math.Exp2(steps), f.rate/2), f.entry)
	d.Inputs["steps"], d.Inputs["entry"], d.Inputs["highest"] = steps, f.entry, highest
	d.Needed = fmt.Sprintf("success < %v", d.Threshold)
}

func (f *Fuse) leave(now time.Duration, why Decision) []Decision {
	why.Kind = Left
	d := f.decision(now, why)
	f.active.Store(false)
	f.flight.skip(spanOf(now))
	f.rates = rates{}
	f.rates.add(now, f.rate)
	f.pace = pace{begun: now, flight: f.flight.total}
	f.avalanche = avalanche{}
	f.window.reset(now)
	return []Decision{d}
}
