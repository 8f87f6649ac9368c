package fuse

import (
	"testing"
	"time"
)

// A callee that answers everything, but in 0.6 s instead of 50 ms, within the avalanche's timeout of 1 s, is let go.
func TestSlowerWithinTheTimeout(t *testing.T) {
	w := newWorld(t, 4, 31, policy())
	w.serve = w.steady
	w.ask(50, time.Minute, w.anyOf(usually))
	w.serve = hangs
	w.ask(50, 10*time.Second, w.anyOf(usually))
	if !w.fuse.Avalanche() {
		t.Fatal("no avalanche")
	}
	w.serve = func(int) (time.Duration, bool) { return 600 * time.Millisecond, true }
	w.ask(50, 30*time.Minute, w.anyOf(usually))
	if share := w.shareOf(50, time.Minute, w.anyOf(usually)); share < 0.9 {
		t.Errorf("half an hour after the callee answers all in 0.6 s: a share of %v is admitted; %+v", share, w.fuse.Info())
	}
}

// So is a sound callee some of whose requests are slower than the avalanche's timeout.
func TestSomeAreSlow(t *testing.T) {
	for _, slow := range []float64{0.25, 0.4, 0.7} {
		w := newWorld(t, 4, 32, policy())
		w.serve = w.steady
		w.ask(50, time.Minute, w.anyOf(usually))
		w.serve = func(slot int) (time.Duration, bool) {
			if w.random.Float64() < slow {
				return 1500 * time.Millisecond, true
			}
			return w.steady(slot)
		}
		w.ask(50, 30*time.Minute, w.anyOf(usually))
		if share := w.shareOf(50, time.Minute, w.anyOf(usually)); share < 0.9 {
			t.Errorf("half an hour after a share of %v takes 1.5 s (normal timeout 5 s, no failure): a share of %v is admitted; %d decisions, first %+v; %+v", slow, share, len(w.decided), w.entered(), w.fuse.Info())
		}
	}
}

// Failures that are usual, by which no avalanche is entered, keep none from ending.
func TestUsualFailures(t *testing.T) {
	for _, c := range []struct{ below, usual float64 }{{0.8, 0.1}, {0.8, 0.15}, {0.95, 0.08}, {0.95, 0.15}, {1, 0.02}} {
		p := policy()
		p.SuccessBelow = c.below
		w := newWorld(t, 4, 33, p)
		w.serve = func(slot int) (time.Duration, bool) {
			l, _ := w.steady(slot)
			return l, w.random.Float64() >= c.usual
		}
		before := w.serve
		w.ask(50, 2*time.Minute, w.anyOf(usually))
		if w.fuse.Avalanche() {
			t.Logf("%+v: entered by itself", c)
		}
		w.serve = hangs
		w.ask(50, 10*time.Second, w.anyOf(usually))
		if !w.fuse.Avalanche() {
			t.Fatal("no avalanche")
		}
		w.serve = before
		took := w.back(50, 10*time.Minute)
		t.Logf("%+v: back after %v", c, took)
		if took > time.Minute {
			t.Errorf("success_below %v, %v of the requests fail in normal times: back %v after 10 s of an outage (10m0s: not at all); %+v", c.below, c.usual, took, w.fuse.Info())
		}
	}
}

// What is ignored while nothing else comes doesn't add up to a rate.
func TestIgnoredInSilence(t *testing.T) {
	f := New(policy(), nowhere)
	now := time.Hour
	f.Tick(now)
	for range 240 { // a minute in which all are given up at once by their clients, 100 a second
		f.takeSome(25, Outcome{Begun: now, Latency: time.Millisecond, Result: Ignored})
		now += Interval
		f.Tick(now)
	}
	for range 8 { // then 40 a second are answered
		f.takeSome(10, Outcome{Begun: now, Latency: 10 * time.Millisecond, Result: Delivered})
		now += Interval
		f.Tick(now)
	}
	if most := f.rates.most(0); most > 200 {
		t.Errorf("never more than 100 a second were over, 40 of them answered; the highest rate of delivery is %v", most)
	}
}

// What fails by its timeout after an avalanche, but began in it, counts.
func TestAttemptsOfAnAvalancheThatEndAfterIt(t *testing.T) {
	f := burning(time.Hour, 100, 50*time.Millisecond)
	now := time.Hour
	f.ticked = now
	begun := now + time.Second
	for range 30 {
		f.Began(0, begun)
	}
	now = begun + 2*span
	f.flight.turn(now)
	f.leave(now, Decision{})
	for ; now < begun+avalancheTime+Interval; now += Interval {
		f.Tick(now)
	}
	f.takeSome(30, Outcome{Begun: begun, Latency: avalancheTime + 50*time.Millisecond, Result: Failed, Tracked: true, Counted: true})
	if f.window.bad != 30 {
		t.Errorf("30 that began in the avalanche time out after it: %v of them count", f.window.bad)
	}
}

// Of the losing half of a hedge nothing is held against the callee. All requests are answered within 150 ms, 35 % of them by a hedge
// beside an attempt that would have taken long, and is canceled then.
func TestLosersOfHedges(t *testing.T) {
	w := newWorld(t, 4, 36, policy())
	f := w.fuse
	attempt := func(latency time.Duration, result Result) {
		o := Outcome{Slot: int32(w.random.IntN(4)), Begun: w.now, Latency: latency, Result: result, Tracked: true, Counted: true}
		f.Began(0, w.now)
		w.after(o.Latency, func() { f.takeSome(1, o) })
	}
	ask := func(d time.Duration, slow float64) {
		for end := w.now + d; w.now < end; w.run(w.interval(50)) {
			if !f.Admit(w.now, usually).Admitted {
				continue
			}
			if w.random.Float64() >= slow {
				attempt(30*time.Millisecond, Delivered)
				continue
			}
			attempt(120*time.Millisecond, Ignored) // canceled when the hedge is answered
			w.after(90*time.Millisecond, func() { attempt(30*time.Millisecond, Delivered) })
		}
	}
	ask(2*time.Minute, 0)
	ask(time.Minute, 0.35)
	if d := w.entered(); d != nil {
		t.Errorf("all is answered in 120 ms, and an avalanche begins: %+v", *d)
	}
}

// One of 16 is sampled, whatever the grain of the clock.
func TestCoarseClock(t *testing.T) {
	for _, grain := range []time.Duration{1, 100, time.Microsecond, time.Millisecond} {
		f := New(policy(), nowhere)
		now := time.Hour
		f.Tick(now)
		const rate = 10_000
		for range 40 {
			for n := range rate / 4 {
				at := (now + time.Duration(n)*99991).Truncate(grain)
				if f.Sampled(at) {
					f.Arrived(0, usually)
				}
			}
			now += Interval
			f.Tick(now)
		}
		if got := f.cut.lately; got > 1.5*rate || got < rate/1.5 {
			t.Errorf("a clock of %v: %v arrive a second, not %v", grain, rate, got)
		}
	}
}

// Whatever the policy and the callee, nothing becomes infinite, not a number, or negative.
func TestFinite(t *testing.T) {
	for seed := range uint64(60) {
		p := policy()
		r := newWorld(t, 1, seed, p).random
		p.SuccessBelow = []float64{0.01, 0.5, 0.8, 0.95, 1}[r.IntN(5)]
		p.Floor = []float64{0.0001, 0.01, 0.5, 1}[r.IntN(4)]
		p.Normal = []time.Duration{time.Millisecond, 100 * time.Millisecond, 5 * time.Second, time.Minute, 24 * time.Hour}[r.IntN(5)]
		p.Avalanche = []time.Duration{time.Millisecond, time.Second, time.Minute, 48 * time.Hour}[r.IntN(4)]
		w := newWorld(t, 1+r.IntN(5), seed, p)
		var all []int
		for range 1 + r.IntN(20) {
			all = append(all, r.IntN(MaxWeight+1))
		}
		for range 20 {
			mode := r.IntN(5)
			w.serve = func(slot int) (time.Duration, bool) {
				switch mode {
				case 0:
					return w.steady(slot)
				case 1:
					return time.Hour, false
				case 2:
					return time.Microsecond, false
				case 3:
					return time.Duration(r.Int64N(int64(10 * time.Second))), r.IntN(3) > 0
				}
				return 0, true
			}
			w.ask([]float64{0.1, 1, 20, 300}[r.IntN(4)], 10*time.Second, w.anyOf(all...))
			if r.IntN(3) == 0 {
				w.run(time.Duration(r.IntN(120)) * time.Second)
			}
			f := w.fuse
			for name, v := range map[string]float64{"rate": f.rate, "fair": f.fair, "limit": f.limit(), "floor": f.floor(), "lately": f.cut.lately, "dead": f.cut.dead, "entry": f.entry, "arrivals": f.cut.arrivals.total, "recent": f.cut.recent.total, "highest": f.rates.most(0)} {
				if v != v || v < -1e-6 || v > 1e9 {
					t.Fatalf("seed %d: %s is %v; policy %+v; avalanche %v", seed, name, v, *p, f.Avalanche())
				}
			}
			if least, times := f.LeastTimeout(); least < 0 || times < 1 || f.cut.tokens != f.cut.tokens || f.cut.weight < 0 || f.cut.weight > MaxWeight {
				t.Fatalf("seed %d: %v %v %+v", seed, least, times, f.cut.weight)
			}
		}
	}
}
