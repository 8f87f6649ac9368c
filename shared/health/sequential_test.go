package health

import (
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestMOfN(t *testing.T) {
	f := func(failures, of int, outcomes string, banned bool) {
		t.Helper()
		inWorld(t, 4, func(p *Policy) { p.Requests = &model.RequestBan{Failures: failures, Of: of} }, func(t *testing.T, w *world) {
			w.observe(w.all[0], outcomes)
			if w.all[0].Banned() != banned {
				t.Errorf("%d of %d: after %q banned is %v, not %v", failures, of, outcomes, w.all[0].Banned(), banned)
			}
		})
	}
	f(5, 10, "", false)
	f(5, 10, "ffff", false)
	f(5, 10, "fffff", true)
	f(5, 10, "f.f.f.f.f", true)
	f(5, 10, "f.f.f.f...f", false) // the first of the five has left the last ten
	f(5, 10, "f.f.f.f.cccccccf", true)
	f(5, 10, "cccccccccc", false)
	f(5, 10, "rrrr", false) // the port answers the probe: no proof
	f(5, 10, "rrrrr", true) // but five of ten are five of ten
	f(1, 1, "f", true)
	f(2, 2, "f.f.f", false)
	f(2, 2, "f.ff", true)
	f(64, 64, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", true)
	f(64, 64, "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff.", false)
}

// The sequential test, among others that don't fail: p0 is 0.02, a failure adds ln(25) = 3.22, a success ln(0.5/0.98) = −0.67.
func TestSequentialTest(t *testing.T) {
	f := func(outcomes string, banned bool) {
		t.Helper()
		inWorld(t, 4, nil, func(t *testing.T, w *world) {
			for _, other := range w.all[1:] {
				w.observe(other, "..........")
			}
			w.observe(w.all[0], outcomes)
			if w.all[0].Banned() != banned {
				t.Errorf("after %q banned is %v, not %v: %+v", outcomes, w.all[0].Banned(), banned, w.all[0].Explain().Sequential)
			}
		})
	}
	f("ffffff", false)
	f("fffffff", true) // 7 · 3.22 ≥ 20
	f("f.f.f.f.f.f.f.", false)
	f("f.f.f.f.f.f.f.f", true) // 8 · 3.22 − 7 · 0.67 = 21.0
	f("f.....f.....f.....f.....f.....f.....f.....f.....f.....", false)
	f("ffffffccccccc", false)
}

func TestSuccessesNeverAddToTheScore(t *testing.T) {
	for _, p0 := range []float64{0.02, 0.2, 0.34, 0.35, 0.5, 0.9, 1} {
		test := sequential{score: 10, p0: p0}
		if test.success(1); !(test.score < 10) {
			t.Errorf("p0 %v: a success makes a score of 10 %v", p0, test.score)
		}
	}
}

func TestOldFailuresAreForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.observe(w.all[0], "ffffff")
		time.Sleep(forget + time.Second)
		w.observe(w.all[0], "f")
		if score := w.all[0].Counts().Score; w.all[0].Banned() || score > 4 {
			t.Fatalf("score %v, of it six failures from before the last ten minutes", score)
		}
	})
}

// A rule that comes back doesn't count what came before it, and while it is away nothing stays for its sake.
func TestRequestsRuleThatComesBack(t *testing.T) {
	rule := func(p *Policy) { p.Requests = &model.RequestBan{Failures: 5, Of: 10} }
	inWorld(t, 4, rule, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "ffff")
		w.service.SetPolicy(policyOf(nil))
		w.observe(i, "..............................")
		i.Counts() // judges what waits
		if w.service.dirty[i.slot] {
			t.Error("something is held against it after 30 successes")
		}
		w.service.SetPolicy(policyOf(rule))
		if w.observe(i, "f"); i.Banned() {
			t.Error("banned for failures of before 30 successes")
		}
	})
}
