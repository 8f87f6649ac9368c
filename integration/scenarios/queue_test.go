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
		q.plan(event{at: at, source: len(want)})
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
