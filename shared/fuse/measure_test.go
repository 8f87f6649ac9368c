package fuse

import (
	"math"
	"testing"
	"time"
)

// s leaves out the worst worstShare of the instances, at least one of two.
func TestWorstAreLeftOut(t *testing.T) {
	f := func(slots []outcomes, good, bad float64) {
		t.Helper()
		var w window
		w.bad = 1 // so that all are counted by instance
		for slot, o := range slots {
			for range int(o.good) {
				w.add(int32(slot), true)
			}
			for range int(o.bad) {
				w.add(int32(slot), false)
			}
		}
		w.bad--
		if g, b := w.sum(); g != good || b != bad {
			t.Errorf("%v: %v good, %v bad; want %v, %v", slots, g, b, good, bad)
		}
	}
	f([]outcomes{{3, 7}}, 3, 7)                          // of one, none
	f([]outcomes{{10, 0}, {0, 10}}, 10, 0)               // of two, one
	f([]outcomes{{0, 10}, {5, 5}, {10, 0}}, 15, 5)       // of three too
	f([]outcomes{{0, 1}, {50, 50}, {10, 10}}, 60, 60)    // by share, not by number
	f([]outcomes{{}, {}, {3, 7}, {}}, 3, 7)              // those that nobody asked aren't counted
	f([]outcomes{{9, 0}, {9, 0}, {9, 0}, {9, 0}}, 36, 0) // without any failure there is no worst
	ten := make([]outcomes, 10)
	for n := range ten {
		ten[n] = outcomes{10, float32(n)}
	}
	left := len(ten) - int(worstShare*float64(len(ten)))
	f(ten, float64(10*left), float64(left*(left-1)/2))
}

// What isn't known of any instance counts, and what is late counts where it is under way, in proportion.
func TestLateCountsWhereItIsUnderWay(t *testing.T) {
	var w window
	w.addLate(6, func(yield func(slot int32, n int)) { yield(0, 30); yield(3, 10) })
	if w.bad != 6 || w.bySlot[0].bad != 4.5 || w.bySlot[3].bad != 1.5 {
		t.Errorf("%v bad: %v", w.bad, w.bySlot)
	}
	w.reset(time.Hour)
	w.addLate(6, nowhere)
	if good, bad := w.sum(); good != 0 || bad != 6 {
		t.Errorf("%v good, %v bad, of nobody known", good, bad)
	}
	w.reset(time.Hour)
	if good, bad := w.sum(); good != 0 || bad != 0 || w.begun != time.Hour {
		t.Errorf("%v good, %v bad after the reset", good, bad)
	}
}

// The usual share of failures is held within leastUsual and mostUsual, which it is until knownUsual outcomes are known.
func TestUsualShare(t *testing.T) {
	f := func(n, bad, want float64) {
		t.Helper()
		var u usual
		u.add(time.Minute, n-bad, bad)
		if got := u.share(); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v of %v: %v, not %v", bad, n, got, want)
		}
	}
	f(0, 0, mostUsual)
	f(knownUsual-1, 0, mostUsual)
	f(knownUsual, 0, leastUsual)
	f(1000, 1000, mostUsual)
	f(1000, 100, 0.1)
}

// Half of what was seen usualLife ago still counts.
func TestUsualFades(t *testing.T) {
	var u usual
	u.add(time.Hour, 10_000, 0)
	u.add(time.Hour+usualLife, 2500, 2500)
	if u.n != 10_000 || u.bad != 2500 {
		t.Errorf("%v bad of %v after %v", u.bad, u.n, usualLife)
	}
}

// An answer counts when it begins, and for its instance when it ends. Of streams that end together, the worst instances' are no more
// of the answers that have begun meanwhile than their share.
func TestStreamsThatEndTogether(t *testing.T) {
	f := New(policy(), nowhere)
	for slot := range int32(4) {
		f.takeSome(300, Outcome{Slot: slot, Result: Delivered, Tracked: true}) // began long ago
		f.takeSome(2, Outcome{Slot: slot, Result: Failed})
	}
	f.takeAnswers(100)
	if good, bad := f.window.sum(); good != 75 || bad != 6 {
		t.Errorf("%v good, %v bad; want 75 and 6", good, bad)
	}
}
