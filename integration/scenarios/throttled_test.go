package scenarios

import (
	"math"
	"testing"
	"time"
)

// Google's SRE book, "Handling Overload": max(0, (requests − K · accepts) / (requests + 1)), K = 2.
func TestRejectAdaptively(t *testing.T) {
	f := func(requests, accepts int, want float64) {
		t.Helper()
		if got := rejectAdaptively(pair{requests, accepts}); math.Abs(got-want) > 1e-12 {
			t.Errorf("%d of %d accepted: rejected with %g, want %g", accepts, requests, got, want)
		}
	}
	f(0, 0, 0)
	f(100, 100, 0)
	f(100, 50, 0)
	f(100, 40, 20.0/101)
	f(100, 0, 100.0/101)
	f(1, 0, 0.5)
}

// Envoy's documentation of admission_control: ((n_total − n_success / threshold) / (n_total + 1)) ^ (1 / aggression).
func TestRejectBySuccess(t *testing.T) {
	f := func(total, success int, want float64) {
		t.Helper()
		if got := rejectBySuccess(pair{total, success}); math.Abs(got-want) > 1e-12 {
			t.Errorf("%d of %d succeeded: rejected with %g, want %g", success, total, got, want)
		}
	}
	f(0, 0, 0)
	f(100, 100, 0)
	f(100, 95, 0)
	f(100, 76, 20.0/101)
	f(100, 38, 60.0/101)
	f(100, 0, 0.8) // never more
}

// What was refused counts as a request in the one, and not at all in the other. What is older than the window doesn't.
func TestThrottleWindows(t *testing.T) {
	f := func(rule throttle, counts *window, length time.Duration, afterRefusal pair) {
		t.Helper()
		expect := func(when string, want pair) {
			t.Helper()
			if counts.sum != want {
				t.Errorf("%T %s: %+v, want %+v", rule, when, counts.sum, want)
			}
		}
		for n := range 10 {
			ticket, ok := rule.admit(time.Second, 0.99)
			if !ok {
				t.Fatalf("%T refuses with a random number of 0.99", rule)
			}
			rule.learn(time.Second, ticket, n == 0)
		}
		expect("after 10 outcomes", pair{10, 1})
		if _, ok := rule.admit(2*time.Second, 0.001); ok {
			t.Errorf("%T admits with a random number of 0.001", rule)
		}
		expect("after a refusal", afterRefusal)
		rule.admit(length, 0)
		rule.admit(length+time.Second, 0)
		if counts.sum.accepts != 0 || counts.sum.requests > 3 {
			t.Errorf("%T knows %+v when the window is over", rule, counts.sum)
		}
	}
	google := &adaptive{}
	f(google, &google.window, adaptiveWindow, pair{11, 1})
	envoy := &admission{}
	f(envoy, &envoy.window, admissionWindow, pair{10, 1})
}

func TestBreaker(t *testing.T) {
	b := &breaker{}
	give := func(now time.Duration, n int, success bool) {
		t.Helper()
		for range n {
			ticket, ok := b.admit(now, 0)
			if !ok {
				t.Fatalf("at %s refused", now)
			}
			b.learn(now, ticket, success)
		}
	}
	admits := func(now time.Duration, want bool) uint32 {
		t.Helper()
		ticket, ok := b.admit(now, 0)
		if ok != want {
			t.Fatalf("at %s admitted %v, want %v", now, ok, want)
		}
		return ticket
	}
	give(0, 9, false)
	give(0, 11, true) // 9 of 20
	early := admits(0, true)
	give(0, 2, true)  // the window moves on: 7 of 20
	give(0, 9, false) // the other 7 go, 9 come
	give(0, 1, false) // 10 of 20
	admits(0, false)
	admits(breakerOpen-1, false)
	trial := admits(breakerOpen, true)
	admits(breakerOpen, false)              // one trial
	b.learn(breakerOpen, early, true)       // of a former state: says nothing
	admits(breakerOpen, false)              //
	b.learn(breakerOpen, trial, false)      // open again
	admits(2*breakerOpen-1, false)          //
	trial = admits(2*breakerOpen, true)     //
	b.learn(2*breakerOpen, trial, true)     // closed, with nothing known
	give(2*breakerOpen, 19, false)          //
	last := admits(2*breakerOpen, true)     //
	b.learn(2*breakerOpen+100, last, false) // 20 of 20
	admits(2*breakerOpen+100, false)
}

// Least request of two takes the one with less in flight of the agent's own.
func TestLeastOfTwo(t *testing.T) {
	l := crowd(1, 4, 0)
	g := newThrottled(rivals[0], l, 1, 0)
	g.inFlight = []int{5, 0, 5, 5}
	chosen := 0
	for range 1000 {
		r := &request{}
		if n := g.pick(0, r); n == 1 {
			chosen++
			r.attempts = 1
			r.tried[0] = n
			g.done(0, r, answer(200, 0))
		} else {
			g.inFlight[n]--
		}
	}
	if math.Abs(float64(chosen)-437.5) > 50 { // 1 − (3/4)²
		t.Errorf("the one with nothing in flight was chosen %d times of 1000, want 437", chosen)
	}
}
