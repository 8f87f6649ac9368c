package fuse

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

const (
	normalTime    = 5 * time.Second // the time limits of the tests
	avalancheTime = time.Second
)

func policy() *Policy {
	return &Policy{Fuse: model.DefaultService("").Fuse, Normal: normalTime, Avalanche: avalancheTime}
}

// nowhere is what is under way if nothing is.
func nowhere(func(slot int32, n int)) {}

// burning returns a fuse in an avalanche that began at a moment, of a callee that delivered so much per second, with a usual
// latency.
func burning(now time.Duration, bw float64, latency time.Duration) *Fuse {
	f := New(policy(), nowhere)
	f.median, f.p95 = latency, latency
	f.rates.add(now, bw)
	f.flight.turn(now)
	f.enter(now, Decision{})
	return f
}

// take tells a fuse n times the same outcome.
func (f *Fuse) takeSome(n int, o Outcome) {
	f.Take(n, func(_ int, to *Outcome) { *to = o })
}

// world is a callee of several instances, its fuse, and those who ask it, in virtual time.
type world struct {
	t        *testing.T
	fuse     *Fuse
	now      time.Duration
	random   *rand.Rand
	events   events
	underWay []int
	decided  []Decision
	// serve tells how long the answer to a request on an instance takes, and whether it is one; under way is counted by the
	// caller's limits, whatever it is.
	serve func(slot int) (latency time.Duration, delivered bool)
	good  int // answers in time
	bad   int
	seen  func(weight int, v Verdict) // told of each request; nil: nobody is
}

type event struct {
	at time.Duration
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func newWorld(t *testing.T, instances int, seed uint64, p *Policy) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 2)), underWay: make([]int, instances)}
	w.fuse = New(p, func(yield func(slot int32, n int)) {
		for slot, n := range w.underWay {
			if n > 0 {
				yield(int32(slot), n)
			}
		}
	})
	w.after(0, w.tick)
	return w
}

func (w *world) after(d time.Duration, do func()) { heap.Push(&w.events, event{w.now + d, do}) }

// tick is the timer of the fuse, ± 10 %.
func (w *world) tick() {
	decided, _ := w.fuse.Tick(w.now)
	w.decided = append(w.decided, decided...)
	w.after(time.Duration(float64(Interval)*(0.9+0.2*w.random.Float64())), w.tick)
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for len(w.events) > 0 && w.events[0].at <= end {
		next := heap.Pop(&w.events).(event)
		w.now = next.at
		next.do()
	}
	w.now = end
}

// ask sends requests at random, so many per second, for so long, on the instances in turn.
func (w *world) ask(rate float64, d time.Duration, weight func() int) {
	end, turn := w.now+d, 0
	var next func()
	next = func() {
		if w.now >= end {
			return
		}
		w.request(turn%len(w.underWay), weight())
		turn++
		w.after(w.interval(rate), next)
	}
	w.after(w.interval(rate), next)
	w.run(d)
}

func (w *world) interval(rate float64) time.Duration {
	return time.Duration(w.random.ExpFloat64() / rate * float64(time.Second))
}

func (w *world) request(slot, weight int) {
	verdict := Verdict{Admitted: true}
	switch {
	case w.fuse.Avalanche():
		verdict = w.fuse.Admit(w.now, weight)
	case w.fuse.Sampled(w.now):
		w.fuse.Arrived(uint32(slot), weight)
	}
	if w.seen != nil {
		w.seen(weight, verdict)
	}
	if !verdict.Admitted {
		return
	}
	begun, until := w.now, normalTime
	if w.fuse.Avalanche() {
		until = w.fuse.readLimit()
	}
	w.fuse.Began(uint32(slot), begun)
	w.underWay[slot]++
	latency, delivered := w.serve(slot)
	o := Outcome{Slot: int32(slot), Begun: begun, Latency: latency, Result: Failed, Tracked: true, Counted: true}
	if latency > until {
		o.Latency = until
	} else if delivered {
		o.Result = Delivered
	}
	w.after(o.Latency, func() {
		w.underWay[slot]--
		if o.Result == Delivered {
			w.good++
		} else {
			w.bad++
		}
		w.fuse.takeSome(1, o)
	})
}

// entered returns the decision that began the first avalanche; nil: there was none.
func (w *world) entered() *Decision {
	for n := range w.decided {
		if w.decided[n].Kind == Entered {
			return &w.decided[n]
		}
	}
	return nil
}

// steady is instances that answer after a time at random, 50 ms in the mean.
func (w *world) steady(int) (time.Duration, bool) {
	return time.Duration(float64(50*time.Millisecond) * (0.5 + w.random.Float64())), true
}

// queue is a callee of some workers before whom all requests stand in one queue, without bound, and of which none leaves when
// its caller has.
type queue struct {
	free []time.Duration // when each worker is
	mean time.Duration   // that a request takes, exponentially distributed
}

func newQueue(workers int, mean time.Duration) *queue {
	return &queue{make([]time.Duration, workers), mean}
}

// capacity is what it can do per second.
func (q *queue) capacity() float64 { return float64(len(q.free)) / q.mean.Seconds() }

func (w *world) through(q *queue) func(int) (time.Duration, bool) {
	return func(int) (time.Duration, bool) {
		first := 0
		for n := range q.free {
			if q.free[n] < q.free[first] {
				first = n
			}
		}
		q.free[first] = max(q.free[first], w.now) + time.Duration(w.random.ExpFloat64()*float64(q.mean))
		return q.free[first] - w.now, true
	}
}

// anyOf returns weights at random.
func (w *world) anyOf(weights ...int) func() int {
	slices.Sort(weights)
	return func() int { return weights[w.random.IntN(len(weights))] }
}

var usually = Weight(3, 4, First)

// readLimit is how long an attempt may take in an avalanche.
func (f *Fuse) readLimit() time.Duration {
	least, times := f.LeastTimeout()
	if least == 0 {
		return normalTime
	}
	return max(avalancheTime, min(normalTime, max(least, time.Duration(times)*avalancheTime)))
}
