package fuse

import (
	"testing"
	"time"
)

// A sound callee is never kept from its callers for longer than it takes to see that it is sound.

// shareOf asks so many per second for a while and tells what share is admitted.
func (w *world) shareOf(rate float64, d time.Duration, weight func() int) float64 {
	passed, asked := 0, 0
	w.seen = func(_ int, v Verdict) {
		if asked++; v.Admitted {
			passed++
		}
	}
	w.ask(rate, d, weight)
	w.seen = nil
	return float64(passed) / float64(max(asked, 1))
}

// back tells how long it takes until three quarters of a second's requests are admitted.
func (w *world) back(rate float64, most time.Duration) time.Duration {
	for begun := w.now; w.now < begun+most; {
		if w.shareOf(rate, 5*time.Second, w.anyOf(usually)) > 0.75 {
			return w.now - begun
		}
	}
	return most
}

func hangs(int) (time.Duration, bool) { return time.Hour, false }

// An avalanche that begins before anything was delivered ends soon after the callee is well.
func TestColdStart(t *testing.T) {
	for _, rate := range []float64{20, 200} {
		w := newWorld(t, 4, 11, policy())
		w.serve = hangs
		w.ask(rate, 20*time.Second, w.anyOf(usually))
		if !w.fuse.Avalanche() {
			t.Errorf("%v/s: no avalanche", rate)
			continue
		}
		debt := w.fuse.cut.dead
		w.serve = w.steady // it is well again
		if took := w.back(rate, 10*time.Minute); took > 20*time.Second {
			t.Errorf("%v/s: 20 s hung from the start, then well: back after %v (10m0s: not at all); debt was %v at bw %v; now %+v", rate, took, debt, w.fuse.rate, w.fuse.Info())
		}
	}
}

// The same for a callee whose latency is well known, that nobody asked for a minute (a batch each few minutes), and that hangs then.
func TestAfterAnIdleMinute(t *testing.T) {
	w := newWorld(t, 4, 12, policy())
	w.serve = w.steady
	w.ask(100, time.Minute, w.anyOf(usually))
	w.run(time.Minute) // nobody asks
	w.serve = hangs
	w.ask(100, 10*time.Second, w.anyOf(usually))
	if !w.fuse.Avalanche() {
		t.Fatal("no avalanche")
	}
	w.serve = w.steady
	if took := w.back(100, 10*time.Minute); took > 20*time.Second {
		t.Errorf("10 s hung after an idle minute, then well: back after %v (10m0s: not at all); %+v", took, w.fuse.Info())
	}
}

// Rule 11: the floor passes in any case. Also while there is room in flight, but no token.
func TestFloorWhileThereIsRoom(t *testing.T) {
	w := newWorld(t, 4, 13, policy())
	w.serve = hangs
	w.ask(100, 10*time.Second, w.anyOf(usually))
	w.run(10 * time.Second) // nothing is in flight any more
	share := w.shareOf(100, time.Minute, w.anyOf(usually))
	if share < 0.005 {
		t.Errorf("a share of %v is admitted; the floor is 0.01", share)
	}
}

// A callee that answers in 1.5 s from now on, within the normal timeout of 5 s and without any queue, but later than the avalanche's
// timeout of 1 s, is learned anew.
func TestSlowerForGood(t *testing.T) {
	w := newWorld(t, 4, 14, policy())
	w.serve = w.steady
	w.ask(50, time.Minute, w.anyOf(usually))
	w.serve = func(int) (time.Duration, bool) { return 1500 * time.Millisecond, true }
	w.ask(50, 30*time.Minute, w.anyOf(usually))
	share := w.shareOf(50, time.Minute, w.anyOf(usually))
	if share < 0.9 {
		t.Errorf("half an hour after its latency went from 50 ms to a steady 1.5 s (no failure, normal timeout 5 s): a share of %v is admitted; %+v", share, w.fuse.Info())
	}
}

// Rule 4: the normal timeout holds until p95 is known, in an avalanche, too.
func TestUnknownLatency(t *testing.T) {
	w := newWorld(t, 4, 15, policy())
	w.serve = func(int) (time.Duration, bool) { return time.Millisecond, false } // refused: the agent starts while the callee is down
	w.ask(50, 10*time.Second, w.anyOf(usually))
	if !w.fuse.Avalanche() {
		t.Fatal("no avalanche")
	}
	w.serve = func(int) (time.Duration, bool) { return 1500 * time.Millisecond, true } // that is what it takes
	w.ask(50, 10*time.Minute, w.anyOf(usually))
	share := w.shareOf(50, time.Minute, w.anyOf(usually))
	if share < 0.9 {
		t.Errorf("ten minutes after the callee (1.5 s a request, normal timeout 5 s) is well: a share of %v is admitted; %+v", share, w.fuse.Info())
	}
}

// An avalanche ends, however many of the requests come to nothing that counts: given up by their clients, handed out and never reported,
// or asked for the family that the callee has no address of.
func ignoredOutcomes(t *testing.T, share float64) (admitted float64, f *Fuse) {
	w := newWorld(t, 4, 16, policy())
	request := func() {
		if !w.fuse.Admit(w.now, usually).Admitted {
			return
		}
		begun, o := w.now, Outcome{Slot: int32(w.random.IntN(4)), Begun: w.now, Result: Delivered, Tracked: true, Counted: true}
		var delivered bool
		if o.Latency, delivered = w.serve(0); !delivered {
			o.Latency, o.Result = min(o.Latency, avalancheTime), Failed
		}
		if w.random.Float64() < share {
			o.Result, o.GivenUp, o.Latency = Ignored, true, min(o.Latency, 30*time.Millisecond)
		}
		w.fuse.Began(0, begun)
		w.after(o.Latency, func() { w.fuse.takeSome(1, o) })
	}
	passed, asked := 0, 0
	ask := func(rate float64, d time.Duration) {
		for end := w.now + d; w.now < end; {
			request()
			w.run(w.interval(rate))
		}
	}
	w.serve = w.steady
	ask(100, time.Minute)
	w.serve = hangs
	ask(100, 10*time.Second)
	if !w.fuse.Avalanche() {
		t.Fatal("no avalanche")
	}
	w.serve = w.steady
	ask(100, 10*time.Minute)
	for end := w.now + time.Minute; w.now < end; {
		asked++
		before := w.fuse.cut.admittedLately
		active := w.fuse.Avalanche()
		request()
		if !active || w.fuse.cut.admittedLately > before {
			passed++
		}
		w.run(w.interval(100))
	}
	return float64(passed) / float64(asked), w.fuse
}

func TestIgnoredOutcomes(t *testing.T) {
	for _, ignored := range []float64{0, 0.1, 0.3, 0.5, 0.7} {
		if share, f := ignoredOutcomes(t, ignored); share < 0.9 {
			t.Errorf("%v of the requests are given up by their clients after 30 ms: ten minutes after the callee is well a share of %v is admitted; %+v", ignored, share, f.Info())
		}
	}
}

// The fuse isn't blind to what callers give up before T (x-ufc-timeout-ms, or simply close).
func TestImpatientCallers(t *testing.T) {
	const deadline = 800 * time.Millisecond
	w := newWorld(t, 4, 17, policy())
	good := 0
	request := func() {
		if !w.fuse.Admit(w.now, usually).Admitted {
			return
		}
		o := Outcome{Slot: int32(w.random.IntN(4)), Begun: w.now, Result: Delivered, Tracked: true, Counted: true}
		if o.Latency, _ = w.serve(0); o.Latency > deadline {
			o.Latency, o.Result, o.GivenUp = deadline, Ignored, true // as forward has it
		}
		w.fuse.Began(0, w.now)
		w.after(o.Latency, func() {
			if o.Result == Delivered {
				good++
			}
			w.fuse.takeSome(1, o)
		})
	}
	ask := func(rate float64, d time.Duration) {
		for end := w.now + d; w.now < end; {
			request()
			w.run(w.interval(rate))
		}
	}
	q := newQueue(10, 50*time.Millisecond) // 200/s
	w.serve = w.through(q)
	ask(140, 30*time.Second)
	good = 0
	ask(600, time.Minute)
	if share := float64(good) / 60 / q.capacity(); share < 0.9 {
		t.Errorf("three times capacity, unbounded queue, callers with a deadline of %v: goodput is %v of capacity; %+v", deadline, share, w.fuse.Info())
	}
}

// A normal timeout may be longer than the 68 s of the ring.
func TestLongTimeouts(t *testing.T) {
	p := policy()
	p.Normal = 100 * time.Second
	w := newWorld(t, 1, 18, p)
	f := w.fuse
	f.usual.add(0, 1000, 0)
	for n := range 200 {
		begun := time.Duration(n) * time.Second
		w.after(begun, func() {
			f.Began(0, begun)
			w.after(p.Normal, func() {
				f.takeSome(1, Outcome{Begun: begun, Latency: p.Normal, Result: Failed, Tracked: true, Counted: true})
			})
		})
	}
	for range 300 {
		w.run(time.Second)
		if f.Avalanche() {
			return
		}
	}
	t.Errorf("200 of 200 attempts timed out after %v, and none counts: %v bad in the window, usual %+v", p.Normal, f.window.bad, f.usual)
}

// When heavy requests go away, the cut comes down to those that arrive.
func TestCutComesDown(t *testing.T) {
	w := newWorld(t, 4, 20, policy())
	q := newQueue(5, 50*time.Millisecond) // 100/s
	w.serve = w.through(q)
	var all, light []int
	for level := 1; level <= 5; level++ {
		for class := range 8 {
			weight := Weight(level, class, First)
			if all = append(all, weight); level >= 4 {
				light = append(light, weight)
			}
		}
	}
	w.ask(70, 30*time.Second, w.anyOf(light...))
	w.ask(1000, 30*time.Second, w.anyOf(all...))
	cut := w.fuse.cut.weight
	begun, worst := w.now, time.Duration(0)
	for w.now < begun+2*time.Minute {
		if share := w.shareOf(150, time.Second, w.anyOf(light...)); share > 0.005 {
			break
		}
		worst = w.now - begun
	}
	if worst > 5*time.Second {
		t.Errorf("the heavy requests have gone (cut %d, heaviest now %d; at first 40 weights, 8 to a level), 1.5 times capacity is asked, and nothing at all is admitted for %v", cut, Weight(4, 7, First), worst)
	}
}

// In the first second of an avalanche, too, no heavier request is refused while lighter ones pass.
func TestOrderInTheFirstSecond(t *testing.T) {
	now := time.Hour
	light, heavyRefused, lightAdmitted := Weight(5, 0, First), 0, 0
	f := New(policy(), nowhere)
	f.Tick(now - time.Second)
	for n := range 300 { // who comes is known from normal times
		f.Arrived(uint32(n), MaxWeight)
		f.Arrived(uint32(n), light)
	}
	f.Tick(now)
	f.median, f.p95 = usualLatency, usualLatency
	f.rates.add(now, 100)
	f.enter(now, Decision{})
	for n := range 900 {
		at := now + time.Duration(n)*time.Millisecond
		if n%2 == 0 && !f.Admit(at, MaxWeight).Admitted {
			heavyRefused++
		}
		if n%2 == 1 && f.Admit(at, light).Admitted {
			lightAdmitted++
		}
	}
	if heavyRefused > 0 && lightAdmitted > 0 {
		t.Errorf("in one second %d of the heaviest were refused and %d of level 5, class 0 admitted", heavyRefused, lightAdmitted)
	}
}

// An agent whose traffic is little while the callee is dead is back soon when both are.
func TestFloorOfLittleTraffic(t *testing.T) {
	w := newWorld(t, 4, 21, policy())
	w.serve = w.steady
	w.ask(100, time.Minute, w.anyOf(usually))
	w.serve = hangs
	w.ask(100, 20*time.Second, w.anyOf(usually))
	for range 360 { // half an hour of one request in 5 s
		w.request(0, usually)
		w.run(5 * time.Second)
	}
	bw := w.fuse.rate
	w.serve = w.steady
	if took := w.back(100, 10*time.Minute); took > 20*time.Second {
		t.Errorf("the callee is well, and 100/s come again: back after %v (10m0s: not at all); bw was %v; %+v", took, bw, w.fuse.Info())
	}
}

// The same of a dead callee, which gets at most 1 % of what is asked for, give or take.
func TestImpatientCallersOfTheDead(t *testing.T) {
	f := func(deadline time.Duration) {
		t.Helper()
		w := newWorld(t, 4, 23, policy())
		asked, passed := 0, 0
		request := func() {
			asked++
			if !w.fuse.Admit(w.now, usually).Admitted {
				return
			}
			passed++
			o := Outcome{Slot: int32(w.random.IntN(4)), Begun: w.now, Result: Delivered, Tracked: true, Counted: true}
			var until = normalTime
			if w.fuse.Avalanche() {
				until = w.fuse.readLimit()
			}
			if o.Latency, _ = w.serve(0); o.Latency > min(deadline, until) {
				o.Latency, o.Result = min(deadline, until), Failed
				if deadline < until {
					o.Result, o.GivenUp = Ignored, true // as forward has it
				}
			}
			w.fuse.Began(0, w.now)
			w.after(o.Latency, func() { w.fuse.takeSome(1, o) })
		}
		ask := func(rate float64, d time.Duration) {
			for end := w.now + d; w.now < end; {
				request()
				w.run(w.interval(rate))
			}
		}
		w.serve = w.steady
		ask(200, 30*time.Second)
		w.serve = hangs
		asked, passed = 0, 0
		ask(200, 5*time.Minute)
		if share := float64(passed) / float64(asked); share > 0.02 {
			t.Errorf("callers with a deadline of %v: a share of %v reaches a callee that has been dead for 5 minutes; %+v", deadline, share, w.fuse.Info())
		}
		w.serve = w.steady // it is well again
		asked, passed = 0, 0
		begun := w.now
		for w.now < begun+10*time.Minute && passed*4 <= asked*3 {
			asked, passed = 0, 0
			ask(200, 5*time.Second)
		}
		if took := w.now - begun; took > 20*time.Second {
			t.Errorf("callers with a deadline of %v: back %v after the callee is (10m0s: not at all); debt %v, %+v", deadline, took, w.fuse.cut.dead, w.fuse.Info())
		}
	}
	f(10 * time.Second)
	f(1200 * time.Millisecond)
	f(900 * time.Millisecond)
	f(300 * time.Millisecond)
}

// Info, which each collection of metrics calls, moves nothing of what is under way.
func TestInfoOnlyLooks(t *testing.T) {
	f := func(scraped bool) {
		t.Helper()
		fuse := New(policy(), nowhere)
		fuse.p95 = 10 * time.Millisecond
		begun := time.Hour
		fuse.Tick(begun)
		begun += span
		for range 20 {
			fuse.Began(0, begun)
		}
		if scraped {
			fuse.Info() // as each collection of metrics does
		}
		for now := begun; now < begun+avalancheTime+3*span; now += Interval {
			if fuse.Tick(now); fuse.Avalanche() {
				return
			}
		}
		if fuse.window.bad != 20 {
			t.Errorf("Info called %v: %v of 20 attempts that hang were counted as late", scraped, fuse.window.bad)
		}
	}
	f(false)
	f(true)
}

// What is under way is counted right by many at once, into an avalanche and out of it.
func TestNothingLeaks(t *testing.T) {
	f := New(policy(), nowhere)
	epoch := time.Now()
	now := func() time.Duration { return time.Hour + 20*time.Since(epoch) } // many spans pass
	done := make(chan struct{})
	for n := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for round := range 20_000 {
				begun := now()
				if !f.Admit(begun, round%MaxWeight).Admitted {
					continue
				}
				f.Began(uint32(n), begun)
				if round%3 == 0 {
					f.Answered(uint32(n+1), &Outcome{Begun: begun, Result: Delivered, Counted: true})
				}
				result := Delivered
				if round/5000%2 == 1 {
					result = Failed
				}
				f.takeSome(1, Outcome{Slot: int32(n), Begun: begun, Latency: time.Millisecond, Result: result, Tracked: true, Counted: round%3 != 0})
			}
		}()
	}
	for ended := 0; ended < 4; {
		select {
		case <-done:
			ended++
		default:
			f.Tick(now())
			f.Info()
		}
	}
	f.Tick(now())
	f.Tick(now())
	if f.flight.total != 0 {
		t.Errorf("%d in flight when all has ended", f.flight.total)
	}
}

// Where little is known and asked, outcomes add up until they are evidence: a callee that is dead from the agent's start is fused.
func TestDeadFromTheStart(t *testing.T) {
	for _, rate := range []float64{1, 5, 10, 20} {
		w := newWorld(t, 4, 24, policy())
		w.serve = func(int) (time.Duration, bool) { return time.Millisecond, false }
		w.ask(rate, 30*time.Second, w.anyOf(usually))
		if share := w.shareOf(rate, 5*time.Minute, w.anyOf(usually)); share > 0.05 && share*rate > 0.25 {
			t.Errorf("%v/s: a share of %v reaches a callee that fails each of its requests for 5 minutes; %d decisions, %+v", rate, share, len(w.decided), w.fuse.Info())
		}
	}
}
