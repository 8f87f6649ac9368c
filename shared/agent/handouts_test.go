package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestHandOuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80")...)
		defer r.Close()
		hand := func() string { return r.HandOut(r.pick(t, r.begin(t, &Call{Callee: "shop", HandOut: true}))) }
		take := func(id, callee, want string) {
			t.Helper()
			attempt, why := r.HandedOut(id, callee)
			if why != want || (attempt != nil) != (want == "") || attempt != nil && attempt.Callee() != "shop" {
				t.Errorf("%s of %q: %v, %q, want %q", id, callee, attempt, why, want)
			}
		}
		id := hand()
		take(id, "cart", Unmatched)
		take(id, "shop", "")
		take(id, "shop", Repeated)
		take(id, "", Repeated)
		take("forged", "", Unmatched)

		late := hand()
		time.Sleep(handoutLife)
		take(late, "", Late)
		second := hand()
		take(late, "", Late)
		take(id, "", Repeated)
		r.handouts.mu.Lock()
		kept := r.handouts.at(1).attempt
		r.handouts.mu.Unlock()
		if kept != nil {
			t.Error("an attempt that can't be reported any more is kept")
		}
		time.Sleep(handoutMemory - handoutLife)
		take(second, "", Late)
		take(hand(), "", "")
		take(late, "", Unmatched)
		take(id, "", Unmatched)
	})
}

// TestHandOutsEndByThemselves: when nothing is handed out any more, what was is let go all the same.
func TestHandOutsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80")...)
		defer r.Close()
		hand := func() string { return r.HandOut(r.pick(t, r.begin(t, &Call{Callee: "shop", HandOut: true}))) }
		first := hand()
		for range 999 {
			hand()
		}
		f := func(after time.Duration, attempts, ids int) {
			t.Helper()
			time.Sleep(after)
			r.handouts.mu.Lock()
			defer r.handouts.mu.Unlock()
			held := 0
			for n := range r.handouts.ring {
				if r.handouts.ring[n].attempt != nil {
					held++
				}
			}
			if held != attempts || len(r.handouts.byID) != ids || (r.handouts.ring == nil) != (ids == 0) {
				t.Errorf("%d attempts and %d ids are held", held, len(r.handouts.byID))
			}
		}
		f(handoutLife-time.Second, 1000, 1000)
		f(time.Second+handoutSweep, 0, 1000)
		if _, why := r.HandedOut(first, ""); why != Late {
			t.Errorf("the id of one that is let go is %q", why)
		}
		f(handoutMemory-handoutLife, 0, 0)
		if attempt, why := r.HandedOut(hand(), ""); attempt == nil {
			t.Errorf("a hand-out after the table was empty: %s", why)
		}
	})
}

func TestTheTableOfHandOutsIsBounded(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80")...)
	attempt := r.pick(t, r.begin(t, &Call{Callee: "shop", HandOut: true}))
	var ids []string
	for range maxHandouts + 10 {
		ids = append(ids, r.HandOut(attempt))
	}
	if h := &r.handouts; len(h.byID) != maxHandouts || len(h.ring) != maxHandouts {
		t.Errorf("%d ids, room for %d", len(h.byID), len(h.ring))
	}
	for n, id := range ids {
		if attempt, _ := r.HandedOut(id, ""); (attempt == nil) != (n < 10) {
			t.Fatalf("number %d: %v", n, attempt)
		}
	}
}
