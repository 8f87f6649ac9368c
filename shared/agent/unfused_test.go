package agent

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/fuse"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// report tells the outcome of something that a program has done by itself.
func (r *rig) report(t *testing.T, callee, address string, result health.Result) {
	t.Helper()
	call := r.begin(t, &Call{Callee: callee, HandOut: true, Unfused: true})
	r.PickAddress(call, netip.MustParseAddrPort(address)).Report(Outcome{Result: result, Latency: time.Millisecond})
}

func avalanche(r *rig, callee string) bool { return r.service(callee).fuse.Avalanche() }

// TestReportsAloneEndInAnAvalanche: where the agent tries nothing by itself, the fuse goes by what programs report, and reports
// go on to be heard while it refuses.
func TestReportsAloneEndInAnAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("redis", "10.0.0.1:6379", "10.0.0.2:6379")...)
		refused := 0
		for n := range 400 {
			result := health.ReadTimeout
			if n < 200 {
				result = health.OK
			}
			r.report(t, "redis", []string{"10.0.0.1:6379", "10.0.0.2:6379"}[n%2], result)
			for range 3 {
				if err := r.Begin(&Call{Callee: "redis", HandOut: true}); err != nil {
					refused++
					var refusal *Refusal
					if !errors.As(err, &refusal) || refusal.Reason != ReasonFused {
						t.Fatal(err)
					}
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !avalanche(r, "redis") || refused == 0 {
			t.Errorf("avalanche %t, %d refused", avalanche(r, "redis"), refused)
		}
		for n := range 3000 {
			r.report(t, "redis", []string{"10.0.0.1:6379", "10.0.0.2:6379"}[n%2], health.OK)
			time.Sleep(10 * time.Millisecond)
		}
		if avalanche(r, "redis") {
			t.Error("the callee has healed, and the avalanche goes on")
		}
	})
}

// collapse makes all calls to a callee fail until its fuse limits it.
func (r *rig) collapse(t *testing.T, callee string) {
	t.Helper()
	for range 400 {
		if avalanche(r, callee) {
			return
		}
		if _, err := r.try(t, callee, health.ReadTimeout); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no avalanche began")
}

// TestUnfused: such a call is never refused, and doesn't count as one that arrives.
func TestUnfused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", nil))
		dropping := documented("cut", func(s *model.Service) { s.Drop = []model.Drop{{Callers: []string{"*"}, Percent: 100}} })
		r := newRig(t, append(append(records, instances("cut", "10.0.0.3:80")...), dropping)...)
		f := func(callee, reason string) {
			t.Helper()
			var refusal *Refusal
			for range 100 {
				if err := r.Begin(&Call{Callee: callee}); err != nil && !errors.As(err, &refusal) {
					t.Fatal(err)
				}
			}
			if refusal == nil || refusal.Reason != reason {
				t.Errorf("%s: %v, want %s", callee, refusal, reason)
			}
			before := r.service(callee).fuse.Info()
			for range 100 {
				call := r.begin(t, &Call{Callee: callee, HandOut: true, Unfused: true})
				r.pick(t, call)
				if call.Degrade != 0 || call.Avalanche() {
					t.Errorf("%s: marked %d, avalanche %t", callee, call.Degrade, call.Avalanche())
				}
			}
			if after := r.service(callee).fuse.Info(); after != before {
				t.Errorf("%s: %+v became %+v", callee, before, after)
			}
		}
		r.collapse(t, "shop")
		f("shop", ReasonFused)
		f("cut", ReasonDropped)
	})
}

// TestNoHedgeInAnAvalanche: not even of a call that began before it.
func TestNoHedgeInAnAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.5)
		call := r.begin(t, &Call{Callee: "shop"})
		r.pick(t, call)
		if _, ok := call.HedgeAfter(); !ok {
			t.Fatal("no hedge in normal times")
		}
		r.collapse(t, "shop")
		if call.Hedge() != nil {
			t.Error("a hedge in an avalanche")
		}
	})
}

// TestDecisionsOfTheFuse: who is told decisions knows those of the fuse by package health's names.
func TestDecisionsOfTheFuse(t *testing.T) {
	for change, kind := range map[fuse.Change]health.Kind{
		fuse.Entered: health.Avalanche, fuse.Changed: health.AnotherRate, fuse.Left: health.AvalancheOver,
	} {
		if string(change) != string(kind) {
			t.Errorf("%s is %s", change, kind)
		}
	}
}

func TestExplainTellsOfTheFuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
		explained := func() FuseInfo {
			answer, err := r.Query([]string{"explain", "shop"})
			if err != nil {
				t.Fatal(err)
			}
			return answer.(Explanation).Fuse
		}
		if info := explained(); info.Avalanche || info.AdmittedRatio != 1 || len(info.Decisions) != 0 {
			t.Errorf("before: %+v", info)
		}
		r.collapse(t, "shop")
		if info := explained(); !info.Avalanche || len(info.Decisions) == 0 || info.Decisions[0].Kind != health.Kind(fuse.Entered) {
			t.Errorf("in an avalanche: %+v", info)
		}
	})
}

// TestNothingIsLeftInFlight: an attempt counts as under way until its answer begins, in whichever order its end is told.
func TestNothingIsLeftInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
		inFlight := func(want int) {
			t.Helper()
			if n := r.service("shop").fuse.Info().InFlight; n != want {
				t.Errorf("%d in flight, not %d", n, want)
			}
		}
		attempts := make([]*Attempt, 3)
		for n := range attempts {
			attempts[n] = r.pick(t, r.begin(t, &Call{Callee: "shop"}))
		}
		inFlight(3)
		attempts[0].call.Answered(attempts[0])
		inFlight(2)
		attempts[0].Done(Outcome{Result: health.OK})
		attempts[1].Done(Outcome{Result: health.OK}) // there was no body
		attempts[1].call.Answered(attempts[1])
		attempts[2].Done(Outcome{Result: health.ReadError})
		r.service("shop").health.CatchUp()
		inFlight(0)
	})
}
