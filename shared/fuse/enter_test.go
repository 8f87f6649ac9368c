package fuse

import (
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// T = min(normal timeout, max(avalanche timeout, 3 × p95 of normal latency)); the normal one until p95 is known.
func TestPatience(t *testing.T) {
	f := func(normalTime, avalancheTime, p95, want time.Duration) {
		t.Helper()
		fuse := New(&Policy{Fuse: policy().Fuse, Normal: normalTime, Avalanche: avalancheTime}, nowhere)
		fuse.p95 = p95
		if got := fuse.lateAfter(); got != want {
			t.Errorf("T of %v, %v and a p95 of %v is %v, not %v", normalTime, avalancheTime, p95, got, want)
		}
		if got, times := fuse.LeastTimeout(); got != 3*p95 || times != 1 {
			t.Errorf("an attempt may take %v in an avalanche, not three times %v, and %d times the timeout", got, p95, times)
		}
	}
	f(5*time.Second, time.Second, 0, 5*time.Second)
	f(5*time.Second, time.Second, 50*time.Millisecond, time.Second)
	f(5*time.Second, time.Second, 800*time.Millisecond, 2400*time.Millisecond)
	f(5*time.Second, time.Second, 4*time.Second, 5*time.Second)
	f(time.Second, 5*time.Second, 50*time.Millisecond, time.Second)
}

// p95 is known by leastLatencies answers.
func TestPatienceIsLearned(t *testing.T) {
	f := New(policy(), nowhere)
	f.takeSome(leastLatencies-1, Outcome{Result: Delivered, Latency: 50 * time.Millisecond})
	f.Tick(enoughTime)
	if f.lateAfter() != normalTime {
		t.Errorf("T is %v after %d answers", f.lateAfter(), leastLatencies-1)
	}
	f.takeSome(leastLatencies, Outcome{Result: Delivered, Latency: 50 * time.Millisecond})
	f.Tick(2 * enoughTime)
	if f.lateAfter() != avalancheTime {
		t.Errorf("T is %v after %d answers", f.lateAfter(), 2*leastLatencies-1)
	}
}

// judged returns a fuse whose usual share of failures is known to be low, to which then so much happens, and what it decides.
func judged(good, bad int) []Decision {
	f := New(policy(), nowhere)
	f.usual.add(0, 1000, 0)
	f.Tick(0)
	f.takeSome(bad, Outcome{Result: Failed})
	f.takeSome(good, Outcome{Result: Delivered})
	decided, _ := f.Tick(fewTime)
	return decided
}

// Enter when s < success_below with ≥ leastBad bad and a binomial tail under alpha against the usual share of failures.
func TestEntryByFailures(t *testing.T) {
	below := policy().SuccessBelow
	for bad := range 12 {
		for good := range 40 {
			n := float64(good + bad)
			want := bad >= leastBad && float64(good)/n < below && statistics.BinomialTail(float64(bad), n, leastUsual) < alpha
			decided := judged(good, bad)
			if (len(decided) == 1) != want {
				t.Errorf("%d bad of %v: %+v", bad, n, decided)
			}
			if want && (decided[0].Kind != Entered || decided[0].Rule != byFailures) {
				t.Errorf("%d bad of %v: %+v", bad, n, decided[0])
			}
		}
	}
}

// The same failures are none to speak of where they are usual.
func TestEntryGoesByWhatIsUsual(t *testing.T) {
	f := func(usual, bad float64, want bool) {
		t.Helper()
		fuse := New(policy(), nowhere)
		fuse.usual.add(0, 1000*(1-usual), 1000*usual)
		fuse.Tick(0)
		fuse.takeSome(int(20-bad), Outcome{Result: Delivered})
		fuse.takeSome(int(bad), Outcome{Result: Failed})
		fuse.Tick(fewTime)
		if fuse.Avalanche() != want {
			t.Errorf("%v of 20 bad where %v is usual: %v", bad, usual, !want)
		}
	}
	f(0, 8, true)
	f(mostUsual, 8, false)
	f(mostUsual, 20, true)
	f(0.9, 20, true) // a callee that always fails isn't normal
}

// Enter when in-flight > max(leastFlight, flightShare × normal timeout × the highest rate of the last minute). From leastFlight to twice as
// many a quarter must have taken longer than usual.
func TestEntryByFlight(t *testing.T) {
	f := func(rate float64, flight int, p95, age time.Duration, want bool) {
		t.Helper()
		fuse := New(policy(), nowhere)
		fuse.p95 = p95
		fuse.Tick(time.Hour)
		fuse.rates.add(time.Hour, rate)
		for range flight {
			fuse.Began(0, time.Hour)
		}
		decided, _ := fuse.Tick(time.Hour + age)
		if fuse.Avalanche() != want || want && (decided[0].Kind != Entered || decided[0].Rule != byFlight) {
			t.Errorf("%d in flight for %v at %v/s, p95 %v: %+v", flight, age, rate, p95, decided)
		}
	}
	f(0, 1000, 0, Interval, false) // nothing is known
	f(1, 2*leastFlight, 0, Interval, false)
	f(1, 2*leastFlight+1, 0, Interval, true)
	const long = 2*span + Interval
	f(1, leastFlight, usualLatency, long, false)
	f(1, leastFlight+1, usualLatency, long, true)
	f(1, leastFlight+1, usualLatency, usualLatency, false) // may have just begun
	f(1, 2*leastFlight+1, usualLatency, usualLatency, true)
	most := int(flightShare * normalTime.Seconds() * 100)
	f(100, most, 0, Interval, false)
	f(100, most+1, 0, Interval, true)
}

// A callee that is asked for five hundred times as much at once, and can do it, is in no avalanche.
func TestSurge(t *testing.T) {
	w := newWorld(t, 4, 6, policy())
	w.serve = w.steady
	w.ask(2, time.Minute, w.anyOf(usually))
	w.ask(1000, 10*time.Second, w.anyOf(usually))
	if d := w.entered(); d != nil {
		t.Errorf("%+v", *d)
	}
}

// The highest rate of the last minute is forgotten after it.
func TestEntryByFlightForgetsRates(t *testing.T) {
	fuse := New(policy(), nowhere)
	now := time.Hour
	fuse.rates.add(now, 1000)
	now += flightMemory
	fuse.rates.add(now, 1)
	for range 2*leastFlight + 1 {
		fuse.Began(0, now)
	}
	if fuse.Tick(now); !fuse.Avalanche() {
		t.Error("a rate of long ago counts")
	}
}

// Bad is, in the normal state, an attempt older than T, counted at that moment instead of at its timeout: when all of them hang,
// the avalanche begins after T, and not after the normal timeout.
func TestHangingIsCountedEarly(t *testing.T) {
	for _, rate := range []float64{5, 20, 200} {
		w := newWorld(t, 4, 1, policy())
		w.serve = w.steady
		w.ask(rate, time.Minute, w.anyOf(usually))
		if w.fuse.Avalanche() {
			t.Fatal("an avalanche of nothing")
		}
		w.serve = func(int) (time.Duration, bool) { return time.Hour, false }
		began, patience := w.now, w.fuse.lateAfter()
		w.ask(rate, normalTime-time.Second, w.anyOf(usually))
		d := w.entered()
		if d == nil {
			t.Errorf("%v/s: no avalanche before the normal timeout", rate)
			continue
		}
		if least := began + patience; d.Rule == byFailures && d.At < least {
			t.Errorf("%v/s: the avalanche began %v after they hung, before T, %v", rate, d.At-began, patience)
		}
	}
}

// An attempt that was counted when it got late doesn't count once more when it ends.
func TestLateCountsOnce(t *testing.T) {
	f := func(o Outcome, bad, good float64) {
		t.Helper()
		fuse := New(policy(), func(yield func(slot int32, n int)) { yield(0, 1) })
		fuse.p95 = 10 * time.Millisecond
		begun := time.Hour
		fuse.Tick(begun)
		fuse.Began(0, begun)
		fuse.Tick(begun + avalancheTime + 2*span)
		if fuse.window.bad != 1 || fuse.window.good != 0 {
			t.Errorf("%v bad when one is late", fuse.window.bad)
		}
		o.Begun += begun
		fuse.takeSome(1, o)
		if fuse.window.bad != bad || fuse.window.good != good {
			t.Errorf("%+v: %v bad, %v good", o, fuse.window.bad, fuse.window.good)
		}
	}
	late := avalancheTime + 2*span
	f(Outcome{Latency: late, Result: Failed, Tracked: true, Counted: true}, 1, 0)
	f(Outcome{Latency: late, Result: Delivered, Tracked: true, Counted: true}, 1, 0)
	f(Outcome{Latency: late, Result: Failed}, 2, 0)                                                           // nobody knew that it was under way
	f(Outcome{Begun: late, Result: Failed, Tracked: true, Counted: true}, 2, 0)                               // another one
	f(Outcome{Latency: time.Millisecond, Result: Delivered, Tracked: true, Counted: true}, 1, 1)              // told late
	f(Outcome{Latency: late, Result: Ignored, Tracked: true, Counted: true}, 1, 0)                            // given up by its client
	f(Outcome{Begun: late, Latency: normalTime, Result: Delivered, Tracked: true, Counted: true}, 1, 1)       // from now on
	f(Outcome{Begun: -time.Minute, Latency: time.Minute, Result: Failed, Tracked: true, Counted: true}, 1, 0) // long counted
}

// Point faults are for bans: one hung instance of four is no avalanche, whether or not anybody bans it.
func oneHungOfFour(t *testing.T, rates ...float64) {
	for _, rate := range rates {
		w := newWorld(t, 4, 3, policy())
		w.serve = w.steady
		w.ask(rate, time.Minute, w.anyOf(usually))
		w.serve = func(slot int) (time.Duration, bool) {
			if slot == 2 {
				return time.Hour, false
			}
			return w.steady(slot)
		}
		w.ask(rate, 3*time.Minute, w.anyOf(usually))
		if d := w.entered(); d != nil {
			t.Errorf("%v/s: %+v", rate, *d)
		}
	}
}

func TestOneHungOfFour(t *testing.T) { oneHungOfFour(t, 3, 20) }

func TestOneHungOfFourThatIsBusy(t *testing.T) {
	oneHungOfFour(t, 100, 400)
}

// Steady failures that a callee always has are no avalanche either, for a day.
func steadyFailures(t *testing.T, share float64) {
	w := newWorld(t, 10, 4, policy())
	f, slot := w.fuse, int32(0)
	for now := time.Duration(0); now < 24*time.Hour; now += Interval {
		f.Take(5, func(_ int, o *Outcome) {
			slot = (slot + 1) % 10
			*o = Outcome{Slot: slot, Begun: now, Latency: 50 * time.Millisecond, Result: Delivered}
			if w.random.Float64() < share {
				o.Result = Failed
			}
		})
		if decided, _ := f.Tick(now); decided != nil {
			t.Fatalf("%v: %+v after %v", share, decided, now)
		}
	}
}

func TestSteadyFailures(t *testing.T) { steadyFailures(t, 0.1) }

func TestSteadyFailuresOfAFifth(t *testing.T) {
	steadyFailures(t, 0.2)
}

// Traffic that begins after a silence is no avalanche, however much it is.
func TestSurgeAfterSilence(t *testing.T) {
	w := newWorld(t, 4, 5, policy())
	w.serve = w.steady
	w.now = time.Hour // nobody ticks where nobody calls
	w.events[0].at = w.now
	w.fuse.Began(0, w.now)
	w.fuse.takeSome(1, Outcome{Begun: w.now, Result: Delivered, Tracked: true, Counted: true})
	w.run(10 * time.Second)
	w.events = nil
	w.now += time.Hour
	w.after(Interval, w.tick)
	w.ask(1000, 10*time.Second, w.anyOf(usually))
	if d := w.entered(); d != nil {
		t.Errorf("%+v", *d)
	}
}

// success_below: 0 switches the fuse off, and ends an avalanche that goes on.
func TestOff(t *testing.T) {
	off := policy()
	off.SuccessBelow = 0
	f := New(off, nowhere)
	f.takeSome(100, Outcome{Result: Delivered, Latency: time.Millisecond})
	f.Tick(time.Second)
	for range 10_000 {
		f.Began(0, time.Second)
	}
	f.takeSome(1000, Outcome{Result: Failed, Begun: time.Second})
	for now := time.Second; now < 30*time.Second; now += Interval {
		if f.Tick(now); f.Avalanche() {
			t.Fatalf("an avalanche of a fuse that is off, after %v", now)
		}
	}

	f = burning(0, 10, 50*time.Millisecond)
	f.SetPolicy(off)
	if decided, _ := f.Tick(Interval); f.Avalanche() || len(decided) != 1 || decided[0].Kind != Left {
		t.Errorf("an avalanche goes on with the fuse off; decided: %v", decided)
	}
}
