package fuse

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Policy is what a callee's documents say of its fuse.
type Policy struct {
	model.Fuse
	Normal, Avalanche time.Duration // until an answer must begin, in each of the two states
}

// off tells whether nothing is ever refused.
func (p *Policy) off() bool { return p.SuccessBelow == 0 }

// Interval is how often Tick is to be called while there is traffic, ± 10 %.
const Interval = 250 * time.Millisecond

// When a judgement is made.
const (
	soon, soonTime = 10, 500 * time.Millisecond
	few, fewTime   = 3, 5 * time.Second
)

// When an avalanche begins.
const (
	leastBad     = 5    // outcomes
	alpha        = 1e-6 // probability of as many with the usual share of failures
	leastFlight  = 32   // in flight, under which their number is no reason
	flightShare  = 0.5  // of the normal timeout's deliveries: more in flight are not answered in time
	entryTime    = 15 * time.Second
	flightMemory = time.Minute
	carryTime    = 30 * time.Second // in which outcomes of too little success add up, where they are few
)

// How an avalanche goes on and ends.
const (
	total        = 3    // bad outcomes without a good one, after which the rate is quartered
	startSteps   = 1.6  // doublings by a good judgement, from the floor to a half of what was before
	growTo       = 0.9  // of the rate at its beginning; up to there it doubles
	needed       = 0.05 // share that is refused; with less, what is delivered says nothing of what could be
	growMemory   = 10 * time.Second
	leaveAfter   = 5 * time.Second
	silence      = 0.01             // arrivals per second that are none
	leaveUnder   = 0.95             // of what is admitted
	unheardTime  = 30 * time.Second // without any outcome
	leastUnheard = 10               // admitted in that time
	barrenTime   = 30 * time.Second // without a good outcome, after which dead work cannot be why all are late
	// The floor is fuse.floor of the arrivals, or leastFloor requests a second if that is more, but never more than mostFloor of
	// the arrivals: many callers with little traffic each must not be an avalanche together.
	leastFloor = 0.2
	mostFloor  = 0.1
	// The share is no more than so much of what was delivered when the avalanche began.
	floorOfEntry = 0.05
)

// givenUp times the normal 95th percentile is the age from which on an attempt that its client gives up unanswered has failed.
const givenUp = 3

// Fuse is the fuse of one callee for one agent. In the normal state a request takes no lock.
type Fuse struct {
	policy  atomic.Pointer[Policy]
	active  atomic.Bool  // an avalanche
	oldest  atomic.Int64 // span from which on stripes count; what began before goes to the flight itself
	sample  atomic.Int64 // of the requests of normal times those count for the histogram whose moment has none of these bits
	stripes []stripe
	// underWay yields how many attempts are under way on each instance.
	underWay func(yield func(slot int32, n int))

	_ [128]byte // what each request reads stays out of the cache lines of what the judge writes

	mu          sync.Mutex // of what follows
	flight      flight
	window      window
	rates       rates
	pace        pace
	normal      latencies
	median, p95 time.Duration // of normal, as of the last judgement
	usual       usual
	cut         cut
	ticked      time.Duration

	bw         float64       // requests per second that the callee delivers
	entry      float64       // bw at the beginning of the avalanche
	fair       float64       // bw as it was then, and as all agents have changed it since
	shrunk     time.Duration // last change for the worse
	fitting    time.Duration // since when the traffic fits; 0: it doesn't
	success    float64       // of the last judgement
	goodput    float64       // answers per second, as last measured
	measured   time.Duration // when that was
	busy       time.Duration // since when there is more to do than may be, all the time; 0: there isn't
	decisions  []Decision    // the last ones
	barren     float64       // bad outcomes since the last good one
	slow       float64       // half of bw as it was before those: from there on it grows carefully
	starting   bool          // at the floor nothing was delivered: bw doubles with each good judgement
	stretch    int           // doublings of the patience, since all were late at the floor
	quick      bool          // at the last judgement nothing waited: answers took no longer than usual
	wasCrowded bool          // at the last tick
	relearned  *latencies    // of the answers since then; nil: none
	heard      time.Duration // the last outcome
	delivered  time.Duration // the last good one
}

// New returns a fuse. underWay yields how many attempts are under way on each instance, by its number.
func New(policy *Policy, underWay func(yield func(slot int32, n int))) *Fuse {
	f := &Fuse{stripes: newStripes(), underWay: underWay, success: 1, cut: newCut()}
	f.policy.Store(policy)
	return f
}

// SetPolicy puts a new policy in force.
func (f *Fuse) SetPolicy(policy *Policy) { f.policy.Store(policy) }

// Avalanche tells whether the callee is in an avalanche.
func (f *Fuse) Avalanche() bool { return f.active.Load() }

// Verdict is what a request is told.
type Verdict struct {
	Admitted bool
	// Degrade, 1 to 3, asks for optional work to be left out, the more the higher. 0: nothing.
	Degrade int
}

// Admit decides on a request. In the normal state all are admitted.
func (f *Fuse) Admit(now time.Duration, weight int) Verdict {
	if !f.active.Load() {
		return Verdict{Admitted: true} // fast path
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.active.Load() {
		return Verdict{Admitted: true}
	}
	admitted, marked := f.cut.admit(now, min(max(weight, 0), MaxWeight), f.bw, f.floorRate(), f.queued() < f.limit())
	if admitted {
		f.pace.admitted++
	}
	verdict := Verdict{Admitted: admitted}
	if marked {
		switch share := f.cut.share(); {
		case share >= 2.0/3:
			verdict.Degrade = 1
		case share >= 1.0/3:
			verdict.Degrade = 2
		default:
			verdict.Degrade = 3
		}
	}
	return verdict
}

// Sampled tells whether a request of normal times is to be counted by Arrived. It is of all, or where there are many of some
// taken at random, by the nanoseconds of the moment.
func (f *Fuse) Sampled(now time.Duration) bool { return int64(now)&f.sample.Load() == 0 }

// Arrived counts a sampled request of normal times.
func (f *Fuse) Arrived(stripe uint32, weight int) {
	f.at(stripe).arrivals[min(max(weight, 0), MaxWeight)].Add(1)
}

// Began notes that an attempt is under way.
func (f *Fuse) Began(stripe uint32, now time.Duration) {
	if f.counts(now) {
		f.at(stripe).change[spanOf(now)%spans].Add(1)
		return // fast path
	}
	f.mu.Lock()
	f.flight.change(now, 1)
	f.mu.Unlock()
}

// Answered notes that an attempt that began then is answered by an instance. Outcome.Counted says that it wasn't.
func (f *Fuse) Answered(stripe uint32, slot int32, begun, now time.Duration) {
	if f.counts(begun) {
		f.at(stripe).change[spanOf(begun)%spans].Add(-1)
		return // fast path
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flight.change(begun, -1)
	if f.active.Load() {
		f.takeActive(&Outcome{Slot: slot, Begun: begun, Latency: now - begun, Result: Delivered})
	}
}

func (f *Fuse) at(n uint32) *stripe { return &f.stripes[int(n)&(len(f.stripes)-1)] }

// counts tells whether attempts that began then are counted in the stripes.
func (f *Fuse) counts(begun time.Duration) bool {
	return !f.active.Load() && spanOf(begun) >= f.oldest.Load()
}

// Outcome is what became of an attempt.
type Outcome struct {
	Slot    int32 // number of the instance
	Begun   time.Duration
	Latency time.Duration // until the answer began, or the attempt failed
	Result  Result
	Tracked bool // Began was told of it
	Counted bool // it is under way until now: Began was told of it, and Answered wasn't
}

// Result is what an outcome says of the callee.
type Result uint8

// The results.
const (
	Ignored   Result = iota // nothing, such as that its client gave it up
	Delivered               // it answered, whatever
	Failed
)

// Take takes outcomes: fill writes the nth.
func (f *Fuse) Take(n int, fill func(n int, o *Outcome)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var o Outcome
	for i := range n {
		if fill(i, &o); o.Counted {
			f.flight.change(o.Begun, -1)
		}
		f.take(&o)
	}
}

func (f *Fuse) take(o *Outcome) {
	if o.Result == Ignored && o.Counted && f.p95 > 0 && o.Latency >= givenUp*f.p95 {
		o.Result = Failed // what was given up was late: callers may have less patience than the timeouts
	}
	switch {
	case !f.active.Load():
		f.takeNormal(o)
	case o.Result == Failed || !o.Tracked || o.Counted: // else Answered has told of it
		f.takeActive(o)
	}
}

func (f *Fuse) takeNormal(o *Outcome) {
	f.pace.count(o.Result)
	if o.Result == Ignored {
		return
	}
	if o.Result == Delivered {
		f.normal.sample(o.Latency)
	}
	if !o.Tracked || o.Latency < f.patience() || !f.flight.counted(o.Begun) {
		f.window.add(o.Slot, o.Result == Delivered)
	}
}

func (f *Fuse) takeActive(o *Outcome) {
	f.pace.count(o.Result)
	if o.Result == Ignored {
		return
	}
	f.cut.unheard, f.heard = 0, f.ticked
	late := o.Result == Failed && (o.Latency >= f.base() || f.p95 > 0 && o.Latency >= givenUp*f.p95)
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
		f.delivered = f.ticked
		if o.Latency > max(f.patience()/2, f.p95) {
			f.window.waited++
		}
		if o.Latency <= f.p95 {
			f.window.quick++
		}
		if f.stretch > 0 || f.p95 == 0 {
			f.relearn(o.Latency)
		}
	}
}

// relearn learns what is usual of an answer in an avalanche: because nothing is known, or since at the floor, where no queue can be,
// all were late.
func (f *Fuse) relearn(latency time.Duration) {
	if f.relearned == nil {
		f.relearned = &latencies{}
	}
	if f.relearned.add(latency); f.relearned.total >= leastLatencies {
		f.normal, f.relearned, f.stretch = *f.relearned, nil, 0
		f.median, f.p95 = f.normal.usual(f.ticked)
	}
}

// base is how old an attempt gets before it counts as bad: T. An avalanche's timeout that is near the callee's usual latency must
// be no trap.
func (f *Fuse) base() time.Duration {
	p := f.policy.Load()
	if f.p95 == 0 {
		return p.Normal
	}
	return min(p.Normal, max(p.Avalanche, 3*f.p95))
}

// patience is base, longer where all were late.
func (f *Fuse) patience() time.Duration { return min(f.policy.Load().Normal, f.base()<<f.stretch) }

// Patience is how long an attempt may take in an avalanche at least, as far as normal times allow it: three times the normal 95th
// percentile, and the avalanche's own timeouts as many times as the second value says, a power of two, since at the floor all were
// late. 0: what is normal isn't known, and no time limit may be shorter than in normal times.
func (f *Fuse) Patience() (least time.Duration, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 3 * f.p95 << f.stretch, 1 << f.stretch
}

// limit is how many may be in flight: what is delivered in the usual time of an answer, and what may wait besides. Were that in
// proportion to bw, too, an agent that has got more than its part once would keep it, as throughput is shared by who waits. So
// it goes by the agent's fair part, and bw follows (as in TCP Vegas, where each flow keeps the same number in the queue).
func (f *Fuse) limit() float64 {
	p := f.policy.Load()
	within := max(f.patience()/4, min(f.p95, p.Normal*6/10))
	usual := min(f.median, within)
	least := min(max(f.bw, 1), 3)
	if f.quick {
		least *= 2
	}
	return max(f.bw*usual.Seconds()+f.fair*(within-usual).Seconds(), least)
}

// queued is how much the callee has to do: what is in flight, and what nobody waits for anymore.
func (f *Fuse) queued() float64 { return float64(f.flight.total) + f.cut.dead }

// floorRate is how many a second pass in any case. Where ten times of what is delivered arrives, the share of that would be dead work.
func (f *Fuse) floorRate() float64 {
	share, arrivals := f.policy.Load().Floor, f.cut.lately
	return max(min(share*arrivals, max(share, floorOfEntry)*f.entry), min(leastFloor, mostFloor*arrivals))
}

// leastRate is bw at the floor.
func (f *Fuse) leastRate() float64 { return 0.95 * f.floorRate() / headroom }

// Tick judges what has come, and returns what was decided, and whether the callee is idle: nothing is in flight, in normal
// times.
func (f *Fuse) Tick(now time.Duration) (decided []Decision, idle bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flight.turn(now)
	f.flight.collect(f.stripes)
	f.oldest.Store(f.flight.newest - spans/2)
	f.collectArrivals()
	if !f.active.Load() && now-f.ticked > 4*Interval { // nobody ticked, since nobody called: what has come is of just now
		f.window.begun, f.pace.begun = now-Interval, now-Interval
	}
	f.ticked = now
	if !f.active.Load() {
		decided = f.tickNormal(now)
	} else {
		decided = f.tickAvalanche(now)
	}
	f.decisions = append(f.decisions, decided...)
	if more := len(f.decisions) - mostDecisions; more > 0 {
		f.decisions = append([]Decision(nil), f.decisions[more:]...)
	}
	return decided, f.flight.total == 0 && !f.active.Load()
}

// mostSampled is how many requests of a tick are counted one by one; where there are more, one of 16 is.
const mostSampled = 64

// collectArrivals takes the sample of the requests of normal times into the histogram.
func (f *Fuse) collectArrivals() {
	each, sum := float64(f.sample.Load()+1), 0.0
	for n := range f.stripes {
		for w := range f.stripes[n].arrivals {
			if count := &f.stripes[n].arrivals[w]; count.Load() > 0 {
				n := float64(count.Swap(0)) * each
				f.cut.arrive(w, n)
				sum += n
			}
		}
	}
	switch {
	case f.active.Load():
	case sum > 16*mostSampled:
		f.sample.Store(15)
	case sum < mostSampled:
		f.sample.Store(0)
	}
}

// enough tells whether there are enough outcomes for a judgement: as many as are wanted, or few in a long time.
func enough(n, wanted float64, age time.Duration) bool {
	return n >= wanted && age >= soonTime || n >= few && age >= fewTime
}

func (f *Fuse) tickNormal(now time.Duration) []Decision {
	f.cut.turn(now)
	if late := f.flight.late(now, f.patience()); late > 0 {
		f.window.addLate(late, f.underWay)
	}
	p, w := f.policy.Load(), &f.window
	if d, crowded := f.crowded(now); crowded && !p.off() {
		return f.enter(now, d)
	}
	age := now - w.begun
	if w.good+w.bad == 0 && f.pace.delivered == 0 {
		w.begun, f.pace.begun = now, now // silence is no low rate
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
	if n > 0 && good/n < p.SuccessBelow && bad >= leastBad {
		usual := f.usual.share()
		if tail := binomialTail(math.Floor(bad), n, usual); tail < alpha {
			return f.enter(now, Decision{
				Rule: byFailures, Value: tail, Threshold: alpha,
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
	before := f.wasCrowded
	f.wasCrowded = n > bound
	if bound == leastFlight && !before { // where few are usual, those that have just begun may be many
		return Decision{}, false
	}
	return Decision{
		Rule: byFlight, Value: n, Threshold: bound,
		Inputs: map[string]float64{"normal_timeout": f.policy.Load().Normal.Seconds(), "highest_rate": highest},
	}, n > bound && highest > 0
}

const (
	byFlight   = "in flight > max(32, 0.5 * normal timeout * highest rate of the last minute)"
	byFailures = "success < success_below, bad >= 5, and P(bad or more in n, at the usual share of failures) < 1e-6"
)

func (f *Fuse) enter(now time.Duration, why Decision) []Decision {
	if f.p95 == 0 { // no judgement yet
		f.median, f.p95 = f.normal.usual(now)
	}
	f.bw = max(f.rates.most(now-entryTime), float64(f.pace.delivered)/max(now-f.pace.begun, fewTime).Seconds())
	if f.bw == 0 { // nobody asked, or nothing was delivered
		f.bw = max(f.rates.most(now-flightMemory), f.cut.lately)
	}
	f.bw = max(f.bw, leastFloor)
	f.entry, f.fair, f.shrunk, f.fitting, f.starting, f.barren = f.bw, f.bw, now, 0, false, 0
	f.pace = pace{begun: now, flight: f.flight.total}
	f.stretch, f.relearned, f.heard, f.delivered = 0, nil, now, now
	f.cut.begin(now, f.bw, float64(f.flight.total) > f.limit())
	f.busy, f.goodput, f.measured = 0, 0, 0
	f.window.reset(now)
	f.active.Store(true)
	why.Kind = Entered
	return []Decision{f.decision(now, why)}
}

func (f *Fuse) tickAvalanche(now time.Duration) []Decision {
	if f.policy.Load().off() {
		return []Decision{f.leave(now, byOff, 0, 0)}
	}
	queued, limit := f.queued(), f.limit()
	crowded := queued > 1.5*limit+3
	f.cut.tick(now, f.bw, f.floorRate(), crowded, queued < limit/2)
	f.bw = max(f.bw, f.leastRate()) // arrivals may be more by now
	f.measure(now, crowded)
	var decided []Decision
	if d, ok := f.judge(now); ok {
		decided = append(decided, d)
	}
	fits := f.cut.lately < leaveUnder*headroom*f.bw || now-f.cut.last >= leaveAfter
	silent := f.cut.lately < silence && f.flight.total <= 0 // nobody is there to see that it is well again
	if f.cut.unheard >= leastUnheard && now-f.heard >= max(unheardTime, 2*f.patience()) {
		return append(decided, f.leave(now, byNobody, float64(f.cut.unheard), leastUnheard))
	}
	if fits && (silent || f.success >= f.policy.Load().SuccessBelow) {
		if f.fitting == 0 {
			f.fitting = now
		}
		if now-f.fitting >= leaveAfter {
			return append(decided, f.leave(now, byFit, f.cut.lately, leaveUnder*headroom*f.bw))
		}
	} else {
		f.fitting = 0
	}
	return decided
}

// measure takes the rate of delivery. While a queue is there all the time, it is what the callee can do: bw has not to wait for
// what becomes of attempts that are begun now.
func (f *Fuse) measure(now time.Duration, crowded bool) {
	if !crowded {
		f.busy = 0
	} else if f.busy == 0 {
		f.busy = now
	}
	throughout := f.busy != 0 && f.pace.begun >= f.busy
	rate, known := f.pace.take(now, f.flight.total)
	if !known {
		return
	}
	f.rates.add(now, rate)
	f.goodput, f.measured = rate, now
	if most := headroom * rate; throughout && f.bw > most {
		factor := max(most/f.bw, 0.25)
		f.bw, f.fair = f.bw*factor, f.fair*factor
	}
}

// judge changes the rate by what the attempts begun since the last change for the worse have come to.
//
// Where a judgement rests on few outcomes, the change is small: a bad one counts for four tenths of a halving, a good one for a
// tenth of a doubling, so that they balance at a success of 0.8; for more where the agent asks more than 20 times a second.
func (f *Fuse) judge(now time.Duration) (Decision, bool) {
	w := &f.window
	n, age := w.good+w.bad, now-w.begun
	// A callee that is asked little is judged by little: by what a second may bring.
	few := min(max(min(f.bw, f.limit()/f.patience().Seconds()), 1), soon)
	if age < soonTime || n < few && !(n >= 1 && age >= fewTime) {
		return Decision{}, false
	}
	good, bad := w.sum()
	goodput := 0.0
	if f.measured > f.shrunk {
		goodput = f.goodput
	}
	success := good / max(good+bad, 1)
	f.quick = w.bad == 0 && w.quick >= 0.8*w.good
	before := f.bw
	switch {
	case success < f.policy.Load().SuccessBelow:
		f.success = success
		if now-f.shrunk < f.patience() {
			return Decision{}, false
		}
		if good > 0 {
			f.barren, f.starting = 0, false
		}
		if f.barren == 0 {
			f.slow = f.bw / 2
		}
		f.barren += bad
		steps := min(1, 0.4*f.barren)
		if good == 0 && f.barren >= total { // all of it is dead work, which has to be done before anything else is
			steps = 2
		}
		factor := math.Exp2(-steps)
		f.bw, f.fair = max(goodput, f.bw*factor), f.fair*factor
		if least := f.leastRate(); f.bw <= least {
			if f.bw, f.starting = least, true; w.late > 0 && now-f.delivered >= barrenTime && f.patience() < f.policy.Load().Normal {
				f.stretch++
			}
		}
		f.shrunk = now
	default:
		f.success, f.barren, f.cut.dead = success, 0, 0
		switch {
		case good-w.waited < f.policy.Load().SuccessBelow*(good+bad): // a queue grows, and soon all will be late
			f.bw = max(goodput, f.bw*math.Exp2(-min(0.25, 0.1*w.waited)))
		default:
			f.grow(good)
		}
	}
	d := Decision{
		Kind: Changed, Rule: byDelivery, Value: success, Threshold: f.policy.Load().SuccessBelow,
		Inputs: map[string]float64{"good": good, "bad": bad, "goodput": goodput, "bw_before": before},
	}
	w.reset(now)
	return f.decision(now, d), math.Abs(f.bw-before) > 0.01*before
}

// grow follows a good judgement: bw doubles up to 0.9 of what it was at the beginning, and then follows what is delivered. The
// fair part grows with it, and on: if it stayed, what may be in flight could be too little to keep the callee busy, and less and
// less would be delivered.
func (f *Fuse) grow(good float64) {
	steps := min(1, good*max(0.1, f.entry/200))
	if f.starting = f.starting && f.bw < f.slow; f.starting {
		steps = startSteps
	}
	switch {
	case f.bw < growTo*f.entry:
		f.bw = min(f.bw*math.Exp2(steps), growTo*f.entry)
	case f.cut.share() <= 1-needed:
		f.bw += (f.rates.most(f.ticked-growMemory) - f.bw) / 2
	}
	f.fair = min(max(f.fair*math.Exp2(steps), f.bw/2), f.entry)
}

const byDelivery = "success of those begun since the last shrink < success_below: bw = max(goodput, bw/2); else it doubles up to " +
	"0.9 of its value at the entry, and then follows the highest goodput of 10 s"

// Why an avalanche ends.
const (
	byFit    = "arrivals < 0.95 * 1.25 * bw, or nothing refused for 5 s, and success >= success_below for 5 s"
	byNobody = "no outcome of any of those admitted for 30 s, >= 10 of them"
	byOff    = "the fuse is off"
)

func (f *Fuse) leave(now time.Duration, rule string, value, threshold float64) Decision {
	d := f.decision(now, Decision{Kind: Left, Rule: rule, Value: value, Threshold: threshold})
	f.active.Store(false)
	f.flight.due = max(f.flight.due, spanOf(now))
	f.rates = rates{}
	f.rates.add(now, f.bw)
	f.pace = pace{begun: now, flight: f.flight.total}
	f.stretch, f.relearned = 0, nil
	f.window.reset(now)
	return d
}
