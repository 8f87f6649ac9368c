package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHandOuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80")...)
		hand := func() string {
			call := r.begin(t, &Call{Callee: "shop", HandOut: true})
			attempt := r.pick(t, call)
			return r.HandOut(attempt)
		}
		id := hand()
		if r.HandedOut(id, "cart") != nil {
			t.Error("a hand-out is reported for another callee")
		}
		if attempt := r.HandedOut(id, "shop"); attempt == nil || attempt.Callee() != "shop" {
			t.Error("a hand-out can't be reported")
		}
		if r.HandedOut(id, "") != nil || r.HandedOut("forged", "") != nil {
			t.Error("a hand-out can be reported twice, or without having been made")
		}
		late := hand()
		time.Sleep(handoutLife + time.Second)
		if r.HandedOut(late, "") != nil {
			t.Error("a hand-out outlives its time")
		}
		first := hand()
		for range maxHandouts {
			hand()
		}
		if r.HandedOut(first, "") != nil || len(r.handouts.byID) > maxHandouts || r.handouts.queue.Len() > maxHandouts {
			t.Errorf("the table is not bounded: %d ids, a queue of %d", len(r.handouts.byID), r.handouts.queue.Len())
		}
		r.Close()
	})
}
