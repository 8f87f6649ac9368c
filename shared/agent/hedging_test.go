package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// hedgedRig has a callee that hedges, and knows its latency: 1 to 100 ms.
func hedgedRig(t *testing.T, budget float64) *rig {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
		s.Hedge = &model.Hedge{Percentile: 0.95, Budget: budget}
	}))...)
	if _, ok := r.begin(t, &Call{Callee: "shop"}).HedgeAfter(); ok {
		t.Error("nothing is known of the latency, and a hedge is made")
	}
	time.Sleep(time.Second)
	for n := range 100 {
		call := r.begin(t, &Call{Callee: "shop"})
		attempt := r.pick(t, call)
		attempt.Done(Outcome{Result: health.OK, Latency: time.Duration(n+1) * time.Millisecond})
		call.End(200)
	}
	time.Sleep(time.Second)
	return r
}

// hedge makes a call with a hedge and lets one of the two win.
func (r *rig) hedge(t *testing.T, hedgeWins bool) bool {
	t.Helper()
	call := r.begin(t, &Call{Callee: "shop"})
	first := r.pick(t, call)
	if _, ok := call.HedgeAfter(); !ok {
		return false
	}
	second := call.Hedge()
	if second == nil {
		return false
	}
	if second.HostPort == first.HostPort || !second.Hedge || second.Number != 1 {
		t.Fatalf("the hedge is %+v", second)
	}
	winner, loser := first, second
	if hedgeWins {
		winner, loser = second, first
	}
	winner.Done(Outcome{Result: health.OK, Latency: 120 * time.Millisecond})
	loser.Done(Outcome{Result: health.Canceled, Latency: 150 * time.Millisecond})
	call.Answered(winner)
	call.End(200)
	return true
}

func TestHedgeAfterTheLivePercentile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.5)
		after, ok := r.begin(t, &Call{Callee: "shop"}).HedgeAfter()
		if !ok || after < 95*time.Millisecond || after > 105*time.Millisecond {
			t.Errorf("hedge after %v %v, want the 95th percentile of 1 to 100 ms, at most 9 %% more", after, ok)
		}
		if !r.hedge(t, true) {
			t.Error("no hedge")
		}
		want := `
# HELP ufc_hedges_total Second attempts beside a late first one: won, lost (the first one was quicker) or failed.
# TYPE ufc_hedges_total counter
ufc_hedges_total{callee="shop",outcome="won"} 1
`
		if err := testutil.CollectAndCompare(r, strings.NewReader(want), "ufc_hedges_total"); err != nil {
			t.Error(err)
		}
		r.Close()
	})
}

func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.05)
		made := 0
		for range 1000 {
			if r.hedge(t, true) {
				made++
			}
		}
		if made < 58 || made > 62 {
			t.Errorf("%d hedges for 1,000 calls, want 10 and 5 %%", made)
		}
		r.Close()
	})
}

func TestHedgingThatDoesntWinIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.5)
		for n := range judgeHedges {
			r.hedge(t, n == 0)                             // 1 of 20
			r.begin(t, &Call{Callee: "shop"}).HedgeAfter() // earns
		}
		if r.hedge(t, true) {
			t.Error("1 of 20 hedges won, and hedging goes on")
		}
		time.Sleep(hedgePause + time.Second)
		r.begin(t, &Call{Callee: "shop"}).HedgeAfter()
		if !r.hedge(t, true) {
			t.Error("it isn't tried again")
		}
		r.Close()
	})
}

func TestHedgesLeaveBannedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.5)
		call := r.begin(t, &Call{Callee: "shop"})
		first := r.pick(t, call)
		for _, address := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
			if address != first.HostPort { // banned after the call began
				r.kill(t, "shop", address)
			}
		}
		before := call.service.hedging.budget.millitokens.Load()
		if hedge := call.Hedge(); hedge != nil {
			t.Errorf("a hedge to %s, which is banned", hedge.HostPort)
		}
		if after := call.service.hedging.budget.millitokens.Load(); after != before {
			t.Errorf("a hedge that wasn't made took %d", before-after)
		}
		r.Close()
	})
}
