package scenarios

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQueueOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q queue
	var want []time.Duration
	for range 1000 {
		at := time.Duration(random.IntN(100))
		want = append(want, at)
		if e := (event{at: at, source: len(want)}); random.IntN(2) == 0 {
			q.plan(e)
		} else {
			q.planEnd(e)
		}
	}
	slices.Sort(want)
	last := event{at: -1}
	for n := range want {
		e, more := q.next()
		if !more || e.at != want[n] {
			t.Fatalf("event %d is at %d (%v), want %d", n, e.at, more, want[n])
		}
		if e.at == last.at && e.source < last.source {
			t.Fatalf("of two events at %d, the one planned as %d came before %d", e.at, last.source, e.source)
		}
		last = e
	}
	if _, more := q.next(); more {
		t.Error("an empty queue has an event")
	}
}

// Ends in their order need no heap.
func TestLanes(t *testing.T) {
	var q queue
	for n := range 1000 {
		for _, after := range []time.Duration{0, 1000, 5000} {
			q.planEnd(event{at: time.Duration(n) + after})
		}
	}
	if len(q.events) > 0 {
		t.Errorf("%d events are in the heap", len(q.events))
	}
	last := event{}
	for n := range 3000 {
		e, more := q.next()
		if !more || e.before(&last) {
			t.Fatalf("event %d: %+v (%v) after %+v", n, e, more, last)
		}
		last = e
	}
}
