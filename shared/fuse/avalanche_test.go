package fuse

import (
	"math"
	"testing"
	"time"
)

const usualLatency = 50 * time.Millisecond

// batch tells a fuse what came of attempts begun at a moment.
func (f *Fuse) batch(begun time.Duration, good, bad int) {
	f.takeSome(good, Outcome{Begun: begun, Latency: usualLatency, Result: Delivered})
	f.takeSome(bad, Outcome{Begun: begun, Latency: usualLatency, Result: Failed})
}

// near tells whether two rates are the same but for rounding.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(a, b) }

// Shrink to half when success is too low, but no further than what is delivered needs.
func TestShrink(t *testing.T) {
	start := time.Hour
	f := func(good, bad int, want func(bw, goodput float64) float64) {
		t.Helper()
		fuse := burning(start, 1000, usualLatency)
		now := start + fuse.lateAfter() + Interval
		fuse.batch(start, good, bad)
		bw, goodput := fuse.rate, 0.0
		if good >= enoughOutcomes {
			goodput = float64(good) / (now - start).Seconds()
		}
		decided, _ := fuse.Tick(now)
		if want := want(bw, goodput); !near(fuse.rate, want) {
			t.Errorf("%d good, %d bad: bw went from %v to %v, want %v; %+v", good, bad, bw, fuse.rate, want, decided)
		}
	}
	half := func(bw, _ float64) float64 { return bw / 2 }
	f(1, 50, half)
	f(300, 300, half)
	f(900, 900, func(_, goodput float64) float64 { return goodput / headroom }) // delivered more than half
	quarter := func(bw, _ float64) float64 { return bw / 4 }
	f(0, 50, quarter) // all of it is dead work
}

// Where a judgement rests on few outcomes, the change is small.
func TestFewShrinkLittle(t *testing.T) {
	start := time.Hour
	fuse := burning(start, 1, usualLatency)
	fuse.batch(start, 0, 1)
	fuse.Tick(start + fewTime)
	if fuse.rate >= 1 || fuse.rate <= 0.5 {
		t.Errorf("one bad outcome makes bw %v of 1", fuse.rate)
	}
}

// Shrink at most once per T, and judge only attempts begun since the last shrink.
func TestShrinkOncePerT(t *testing.T) {
	now := time.Hour
	f := burning(now, 1000, usualLatency)
	patience := f.lateAfter()
	begun := now
	now += patience
	f.batch(begun, 5, 100)
	f.Tick(now)
	once := f.rate
	if once >= 1000 {
		t.Fatalf("bw is %v after so many failures", once)
	}
	shrunk := now
	for now < shrunk+4*patience { // those begun before say nothing
		now += Interval
		f.batch(begun, 0, 100)
		f.Tick(now)
		if f.rate != once {
			t.Fatalf("bw is %v, not %v, by attempts that began before the last shrink", f.rate, once)
		}
	}
	shrunk = now
	f.shrunk = now
	for now+Interval < shrunk+patience {
		now += Interval
		f.batch(now, 5, 100)
		if f.Tick(now); f.rate != once {
			t.Fatalf("bw shrank again %v after the last time", now-shrunk)
		}
	}
	now += Interval
	f.batch(now, 5, 100)
	if f.Tick(now); f.rate >= once {
		t.Error("bw doesn't shrink any more")
	}
}

// Grow by doubling, at most, up to growTo of the entry value; beyond it only while at least needed of the arrivals is refused.
func TestGrow(t *testing.T) {
	now := time.Hour
	f := burning(now, 1000, usualLatency)
	f.rate, f.fair = 1000.0/16, 1000.0/16
	before := f.rate
	for range 40 {
		now += enoughTime
		f.batch(now, 200, 0)
		if f.Tick(now); !f.Avalanche() {
			break
		}
		if f.rate > growTo*f.entry*(1+1e-9) && !near(f.rate, before) {
			t.Fatalf("bw grew to %v, over %v of %v, while nobody is refused", f.rate, growTo, f.entry)
		}
		if f.rate < before || f.rate > 2*before*(1+1e-9) {
			t.Fatalf("bw went from %v to %v by good outcomes alone", before, f.rate)
		}
		before = f.rate
	}
	if !near(before, 0.9*1000) {
		t.Errorf("bw grew to %v only", before)
	}
}

// Beyond that bw is drawn half-way to the highest goodput of the last growMemory.
func TestGrowByGoodput(t *testing.T) {
	now := time.Hour
	f := burning(now, 1000, usualLatency)
	before := f.rate
	for range 20 {
		now += enoughTime
		f.cut.arrivedLately, f.cut.admittedLately = 1000, 500 // half is refused
		f.batch(now, 1000, 0)                                 // twice bw
		if f.Tick(now); !f.Avalanche() {
			break
		}
		if f.rate < before || f.rate > 2000*(1+1e-9) {
			t.Fatalf("bw went from %v to %v, at a goodput of 2000", before, f.rate)
		}
		before = f.rate
	}
	if before < 1900 {
		t.Errorf("bw is %v at a goodput of 2000", before)
	}
}

// Leave after leaveAfter with arrivals under leaveUnder × headroom × bw and s ≥ success_below.
func TestLeave(t *testing.T) {
	f := func(share float64, leaves bool) {
		t.Helper()
		start := time.Hour
		w := newWorld(t, 4, 6, policy())
		w.serve = w.steady
		w.now, w.events[0].at = start, start
		w.fuse = burning(start, 100, usualLatency)
		arrivals := share * leaveUnder * headroom * 100
		for w.now < start+4*leaveAfter && w.fuse.Avalanche() {
			if w.fuse.rate = 100; w.now == start { // whatever is delivered
				w.fuse.entry = 100
			}
			w.ask(arrivals, Interval, w.anyOf(usually))
			if !w.fuse.Avalanche() && w.now-start < leaveAfter {
				t.Errorf("%v of what fits: left after %v", share, w.now-start)
			}
		}
		if w.fuse.Avalanche() == leaves {
			t.Errorf("%v of what fits: left is %v after %v", share, !leaves, w.now-start)
		}
	}
	f(0.1, true)
	f(0.6, true)
	f(2, false)
}

// It isn't left while what is admitted fails.
func TestNoLeaveWhileItFails(t *testing.T) {
	now := time.Hour
	f := burning(now, 100, usualLatency)
	for range 200 {
		now += Interval
		for range 3 {
			if f.Admit(now, usually).Admitted {
				f.batch(now, 1, 1)
			}
		}
		if f.Tick(now); !f.Avalanche() {
			t.Fatalf("left with half of what is admitted failing, after %v", now-time.Hour)
		}
	}
}

// Floor fuse.floor of arrivals or leastFloor requests a second, the larger, but not over mostFloor of the arrivals: so much passes,
// and not much more, while the callee is dead.
func TestFloorWhileTheCalleeIsDead(t *testing.T) {
	for _, rate := range []float64{0.5, 1, 10, 200, 2000} {
		w := newWorld(t, 4, 7, policy())
		w.serve = w.steady
		w.ask(rate, 30*time.Second, w.anyOf(usually))
		w.serve = func(int) (time.Duration, bool) { return time.Hour, false }
		w.ask(rate, 3*time.Minute, w.anyOf(usually))
		if !w.fuse.Avalanche() {
			t.Errorf("%v/s: a dead callee isn't in an avalanche", rate)
			continue
		}
		passed, seconds := 0, max(60, 60/rate)
		w.seen = func(_ int, v Verdict) {
			if v.Admitted {
				passed++
			}
		}
		w.ask(rate, time.Duration(seconds*float64(time.Second)), w.anyOf(usually))
		floor := max(w.fuse.policy.Load().Floor*rate, min(leastFloor, mostFloor*rate))
		if got := float64(passed) / seconds; got < floor/2 || got > 3*floor {
			t.Errorf("%v/s: %v/s pass, at a floor of %v", rate, got, floor)
		}
	}
}

// Where nobody asks any more, an avalanche ends, and the fuse says that its callee is idle.
func TestLeaveInSilence(t *testing.T) {
	w := newWorld(t, 4, 7, policy())
	w.serve = w.steady
	w.ask(20, 30*time.Second, w.anyOf(usually))
	w.serve = func(int) (time.Duration, bool) { return time.Hour, false }
	w.ask(20, 30*time.Second, w.anyOf(usually))
	if !w.fuse.Avalanche() {
		t.Fatal("no avalanche")
	}
	w.run(time.Minute)
	if _, idle := w.fuse.Tick(w.now); w.fuse.Avalanche() || !idle {
		t.Errorf("after a minute without a request: avalanche %v, idle %v", w.fuse.Avalanche(), idle)
	}
}

// Answers in time, but after half of it, lower the rate, by a quarter of a halving at most.
func TestHold(t *testing.T) {
	now := time.Hour
	f := burning(now, 1000, usualLatency)
	f.entry = 2000 // else it follows what is delivered
	for range 5 {
		now += enoughTime
		before := f.rate
		f.takeSome(100, Outcome{Begun: now, Latency: f.lateAfter() * 3 / 4, Result: Delivered})
		f.Tick(now)
		if f.rate >= before || f.rate < before*0.84-1e-9 {
			t.Errorf("the rate went from %v to %v", before, f.rate)
		}
	}
}

// When a dead callee comes back, so does what is admitted.
func TestRecovery(t *testing.T) {
	for _, rate := range []float64{20, 200} {
		w := newWorld(t, 4, 8, policy())
		w.serve = w.steady
		w.ask(rate, 30*time.Second, w.anyOf(usually))
		w.serve = func(int) (time.Duration, bool) { return 10 * time.Millisecond, false }
		w.ask(rate, time.Minute, w.anyOf(usually))
		w.serve = w.steady
		w.ask(rate, 40*time.Second, w.anyOf(usually))
		if w.fuse.Avalanche() {
			t.Errorf("%v/s: still an avalanche: %+v", rate, w.fuse.Info())
		}
	}
}

// Limit in-flight to what is delivered in max(T/4, min(p95, 0.6 × normal timeout)) at most, and at least clamp(bw, 1, 3).
func TestInFlightLimit(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 50 * time.Millisecond, time.Second, 4 * time.Second} {
		for _, bw := range []float64{0.01, 0.5, 2, 10, 1000} {
			f := burning(time.Hour, 1000, latency)
			f.rate, f.fair = bw, bw
			within := max(f.lateAfter()/4, min(f.p95, normalTime*6/10)).Seconds()
			if got, want := f.limit(), max(bw*within, min(max(bw, 1), 3)); !near(got, want) {
				t.Errorf("p95 %v, bw %v: a limit of %v, not %v", latency, bw, got, want)
			}
		}
	}
}

// The last mostDecisions decisions are remembered, the oldest first, and tell what they went by.
func TestDecisions(t *testing.T) {
	now := time.Hour
	f := burning(now, 1000, usualLatency)
	for n := range 3 * mostDecisions {
		now += 2 * avalancheTime
		if n%2 == 0 {
			f.batch(now-Interval, 5, 100)
		} else {
			f.batch(now-Interval, 200, 0)
		}
		f.Tick(now)
	}
	all := f.Decisions()
	if len(all) != mostDecisions {
		t.Fatalf("%d are remembered", len(all))
	}
	for n, d := range all {
		if n > 0 && d.At < all[n-1].At || d.Rule == "" || d.Inputs["in_flight_limit"] == 0 {
			t.Errorf("%+v", d)
		}
	}
}
