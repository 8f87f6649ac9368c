package agent

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// retried makes n calls, each of which fails in the given way and wants one retry, and counts the retries it got.
func (r *rig) retried(t *testing.T, n int, result health.Result) (retries int) {
	t.Helper()
	for range n {
		call := r.begin(t, &Call{Callee: "shop"})
		r.pick(t, call).Done(Outcome{Result: result})
		if attempt, err := r.Pick(call); err == nil {
			attempt.Done(Outcome{Result: health.OK})
			retries++
		}
	}
	return retries
}

func TestRetryBudget(t *testing.T) {
	service := documented("shop", func(s *model.Service) {
		s.Ban.Requests = &model.RequestBan{Failures: 64, Of: 64}
	})
	f := func(name string, result health.Result, calls, low, high int) {
		t.Helper()
		r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), service)...)
		if got := r.retried(t, calls, result); got < low || got > high {
			t.Errorf("%s: %d retries for %d calls, want %d to %d", name, got, calls, low, high)
		}
	}
	f("the first ten are free", health.ReadError, 10, 10, 10)
	f("then a tenth of the calls", health.ReadTimeout, 1000, 108, 111)
	f("refused connections take nothing", health.ConnectError, 50, 50, 50)
}

func TestBucket(t *testing.T) {
	var b bucket
	b.fill()
	for range 100 {
		b.earn(1)
	}
	spent := 0
	for b.spend() {
		spent++
	}
	if spent != 10 {
		t.Errorf("a bucket holds %d tokens", spent)
	}
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for range 1000 {
				b.earn(0.001)
			}
		})
	}
	users.Wait()
	for spent = 0; b.spend(); spent++ {
	}
	if spent != 4 {
		t.Errorf("4,000 thousandths are %d tokens", spent)
	}
}

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

func TestLatencies(t *testing.T) {
	for _, latency := range []time.Duration{0, 1, 8 * time.Microsecond, 9 * time.Microsecond, 999 * time.Microsecond, time.Millisecond, time.Second, time.Hour} {
		upper := latencyOf(latencyBucket(latency))
		if floor := max(latency, 8*time.Microsecond); upper < floor || float64(upper) > 1.125*float64(floor)+1000 {
			t.Errorf("%v is in the bucket up to %v", latency, upper)
		}
	}
	var l latencies
	observe := func(from, n int, latency time.Duration) {
		for i := range n {
			l.observe(time.Duration(from+i)*time.Millisecond, latency)
		}
	}
	observe(0, 19, time.Millisecond)
	if _, ok := l.quantile(time.Second, 0.5); ok {
		t.Error("19 samples are enough")
	}
	observe(1000, 1000, time.Millisecond)
	observe(12_000, 1000, time.Second)
	if got, ok := l.quantile(13*time.Second, 0.5); !ok || got > 2*time.Millisecond {
		t.Errorf("both windows count: %v %v", got, ok)
	}
	observe(23_000, 20, time.Second)
	if got, ok := l.quantile(24*time.Second, 0.5); !ok || got < time.Second {
		t.Errorf("what is older than two windows is forgotten: %v %v", got, ok)
	}
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

func TestMayRetry(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
		s.Retries.Normal.Attempts = 1
	}))...)
	f := func(result health.Result, tokens int64, want bool) {
		t.Helper()
		call := r.begin(t, &Call{Callee: "shop"})
		attempt := r.pick(t, call)
		attempt.Done(Outcome{Result: result})
		call.service.budget.millitokens.Store(tokens)
		if call.MayRetry() != want {
			t.Errorf("%v with %d millitokens: %v", result, tokens, !want)
		}
	}
	f(health.ReadError, token, true)
	f(health.ReadError, token-1, false)
	f(health.ConnectError, 0, true)
}

func TestALevelThatComesBack(t *testing.T) {
	video := func(level int) model.Record { return documented("video", func(s *model.Service) { s.Level = level }) }
	r := newRig(t, append(instances("shop", "10.0.0.1:80"), video(1))...)
	level := func() int {
		call := r.begin(t, &Call{Callee: "shop", Caller: "video"})
		return call.Level()
	}
	if level() != 1 {
		t.Errorf("level %d", level())
	}
	r.catalog.Apply(2, []model.Record{{Kind: model.KindService, Name: "video", Deleted: true}})
	if level() != defaultLevel {
		t.Errorf("gone: level %d", level())
	}
	r.catalog.Apply(3, []model.Record{video(5)})
	if level() != 5 {
		t.Errorf("back: level %d", level())
	}
}
