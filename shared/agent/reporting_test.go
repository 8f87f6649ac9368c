package agent

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// hand asks for an instance so often, for a caller, and reports a part of what it gets.
func (r *rig) hand(t *testing.T, caller string, n int, result func(n int) (health.Result, bool)) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for n := range n {
		attempt := r.pick(t, r.begin(t, &Call{Callee: "redis", Caller: caller, HandOut: true}))
		counts[attempt.HostPort]++
		if result, reported := result(n); reported {
			attempt.Report(Outcome{Result: result, Latency: time.Millisecond})
		}
		time.Sleep(10 * time.Millisecond)
	}
	return counts
}

func always(result health.Result) func(int) (health.Result, bool) {
	return func(int) (health.Result, bool) { return result, true }
}

func never(int) (health.Result, bool) { return 0, false }

func TestUnreportedRatio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("redis", "10.0.0.1:6379", "10.0.0.2:6379")...)
		defer r.Close()
		f := func(value string) {
			t.Helper()
			want := ""
			if value != "" {
				want = "# HELP ufc_unreported_ratio Share of the hand-outs of the last minute that programs haven't reported.\n" +
					"# TYPE ufc_unreported_ratio gauge\nufc_unreported_ratio{callee=\"redis\"} " + value + "\n"
			}
			if err := testutil.CollectAndCompare(r, strings.NewReader(want), "ufc_unreported_ratio"); err != nil {
				t.Error(err)
			}
		}
		f("")
		r.hand(t, "", 40, func(n int) (health.Result, bool) { return health.OK, n%4 == 0 })
		f("0.75")
		r.hand(t, "", 10, always(health.OK))
		f("0.6")
		call := r.begin(t, &Call{Callee: "redis", HandOut: true})
		for range 2 { // of several, one is used
			r.pick(t, call)
		}
		call.Final().Report(Outcome{Result: health.OK})
		call.Final().Report(Outcome{Result: health.OK})
		f("0.5882352941176471") // 30 of 51
		for range 100 {
			r.report(t, "redis", "10.0.0.1:6379", health.OK)
		}
		f("0")
		time.Sleep(2 * reportSpan)
		f("0")
		time.Sleep(2 * reportSpan)
		f("")
	})
}

// TestUnreportedHandOutsGoInTurn: what few report must not decide where all go.
func TestUnreportedHandOutsGoInTurn(t *testing.T) {
	for _, policy := range []model.BalancePolicy{model.EWMA, model.LeastRequest} {
		synctest.Test(t, func(t *testing.T) {
			records := append(instances("redis", "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"),
				documented("redis", func(s *model.Service) { s.Balance.Policy = policy }))
			r := newRig(t, records...)
			defer r.Close()
			even := func(counts map[string]int) bool {
				return counts["10.0.0.1:6379"] == 20 && counts["10.0.0.2:6379"] == 20
			}
			r.hand(t, "", 100, never)
			time.Sleep(reportSpan)
			r.hand(t, "", 1, never) // a new span, which judges
			if counts := r.hand(t, "", 60, never); !even(counts) {
				t.Errorf("%s: unreported: %v", policy, counts)
			}
			r.hand(t, "", 1000, always(health.OK))
			time.Sleep(reportSpan)
			r.hand(t, "", 1, always(health.OK))
			turns := 0
			for range 5 { // by chance they are even now and then
				if even(r.hand(t, "", 60, always(health.OK))) {
					turns++
				}
			}
			if turns == 5 {
				t.Errorf("%s: reported ones go in turn, too", policy)
			}
		})
	}
}

// TestBothFamiliesAreReportedOnce: who resolves a name of both IP versions reports one of two hand-outs, which is all that there is to
// report, even if a report comes late.
func TestBothFamiliesAreReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("redis", "10.0.0.1:6379", "[2001:db8::1]:6379")...)
		defer r.Close()
		for n := range 1000 {
			for _, family := range []Family{IPv4, IPv6} {
				attempt := r.pick(t, r.begin(t, &Call{Callee: "redis", HandOut: true, Family: family}))
				if family == IPv4 {
					time.AfterFunc(2*time.Second, func() { attempt.Report(Outcome{Result: health.OK, Latency: 2 * time.Second}) })
				}
			}
			time.Sleep(100 * time.Millisecond)
			if r.service("redis").reporting.sparse.Load() {
				t.Fatalf("after %d resolutions most hand-outs count as unreported", n+1)
			}
		}
		time.Sleep(2 * time.Second)
	})
}

// TestFailuresAloneAreNoAvalanche: of a callee whose callers report failures only, it isn't known how much it delivers.
func TestFailuresAloneAreNoAvalanche(t *testing.T) {
	failures := func(n int) (health.Result, bool) { return health.ReadTimeout, n%5 == 0 }
	rig := func(t *testing.T) *rig {
		return newRig(t, append(instances("redis", "10.0.0.1:6379", "10.0.0.2:6379"), documented("a", nil), documented("b", nil))...)
	}
	synctest.Test(t, func(t *testing.T) { // one caller
		r := rig(t)
		defer r.Close()
		if r.hand(t, "b", 5000, failures); avalanche(r, "redis") {
			t.Error("a fifth fails, and the callee is taken for dead")
		}
	})
	synctest.Test(t, func(t *testing.T) { // beside one that reports all of the little it does
		r := rig(t)
		defer r.Close()
		for range 50 {
			r.hand(t, "a", 2, always(health.OK))
			r.hand(t, "b", 100, failures)
		}
		if avalanche(r, "redis") {
			t.Error("the failures of one caller are put beside the successes of another")
		}
	})
	synctest.Test(t, func(t *testing.T) { // by address: it was handed out once
		r := rig(t)
		defer r.Close()
		r.hand(t, "b", 1, never)
		for n := range 2000 {
			r.report(t, "redis", []string{"10.0.0.1:6379", "10.0.0.2:6379"}[n%2], health.ReadTimeout)
			time.Sleep(5 * time.Millisecond)
		}
		if avalanche(r, "redis") {
			t.Error("nobody has ever reported a success, and the callee is taken for dead")
		}
	})
	synctest.Test(t, func(t *testing.T) { // who has reported successes is believed
		r := rig(t)
		defer r.Close()
		r.hand(t, "a", 400, always(health.OK))
		for n := range 400 {
			r.report(t, "redis", []string{"10.0.0.1:6379", "10.0.0.2:6379"}[n%2], health.OK)
		}
		for range 600 {
			call := &Call{Callee: "redis", Caller: "a", HandOut: true}
			if r.Begin(call) == nil {
				r.pick(t, call).Report(Outcome{Result: health.ReadTimeout, Latency: time.Millisecond})
			}
			time.Sleep(5 * time.Millisecond)
		}
		if !avalanche(r, "redis") {
			t.Fatal("all fails, and no avalanche began")
		}
		// When nobody reports any more, nobody knows how it is: it is handed out to all.
		refused := 0
		for range 4 * reportSpans {
			refused = 0
			for range 50 {
				if r.Begin(&Call{Callee: "redis", Caller: "a", HandOut: true}) != nil {
					refused++
				} else {
					r.pick(t, r.begin(t, &Call{Callee: "redis", HandOut: true, Unfused: true}))
				}
			}
			time.Sleep(reportSpan)
		}
		if refused > 0 {
			t.Errorf("%d refused of a callee that nobody reports on", refused)
		}
	})
}

// TestReportsByAddressBeganBefore: when a program has called by itself is told by when it reports, and how long it took.
func TestReportsByAddressBeganBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("redis", "10.0.0.1:6379")...)
		defer r.Close()
		time.Sleep(time.Minute)
		f := func(latency, want time.Duration) {
			t.Helper()
			attempt := r.PickAddress(r.begin(t, &Call{Callee: "redis", HandOut: true}), netip.MustParseAddrPort("10.0.0.1:6379"))
			if attempt.Report(Outcome{Result: health.OK, Latency: latency}); attempt.begun != want {
				t.Errorf("%s: began at %s", latency, attempt.begun)
			}
		}
		f(0, time.Minute)
		f(20*time.Second, 40*time.Second)
		f(time.Hour, 0)
	})
}

// halfOpen returns a rig whose first instance was banned, and whose port answers again. Nobody has been handed out it since.
func halfOpen(t *testing.T) (r *rig, back netip.AddrPort) {
	t.Helper()
	r = newRig(t, instances("redis", "10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379")...)
	back = netip.MustParseAddrPort("10.0.0.1:6379")
	r.kill(t, "redis", back.String())
	r.dead.Delete(back)
	for r.stateOf(back) != health.Trying {
		time.Sleep(100 * time.Millisecond)
	}
	return r, back
}

func (r *rig) stateOf(address netip.AddrPort) health.State {
	now := r.service("redis").state.Load()
	index, _ := now.view.Find(address)
	return now.instances[index].pulse.State()
}

// TestReportsByAddressOfBeforeTheBan: an attempt that began before the ban says nothing about how the instance is after it.
func TestReportsByAddressOfBeforeTheBan(t *testing.T) {
	for _, result := range []health.Result{health.OK, health.ReadTimeout} {
		synctest.Test(t, func(t *testing.T) {
			r, back := halfOpen(t)
			defer r.Close()
			f := func(latency time.Duration, result health.Result, want health.State) {
				t.Helper()
				time.Sleep(10 * time.Millisecond)
				call := r.begin(t, &Call{Callee: "redis", HandOut: true, Unfused: true})
				r.PickAddress(call, back).Report(Outcome{Result: result, Latency: latency})
				r.service("redis").health.CatchUp()
				if state := r.stateOf(back); state != want {
					t.Errorf("%s after %s: %v, want %v", result, latency, state, want)
				}
			}
			for range 5 {
				f(12*time.Second, result, health.Trying)
			}
			f(5*time.Millisecond, health.OK, health.Trying)
			f(5*time.Millisecond, health.OK, health.Trying)
			f(5*time.Millisecond, health.OK, health.Up)
		})
	}
}

// TestReportsDontEndInTheFuture: a latency that a program got wrong doesn't put the instance's penalty, or the percentile that hedges go
// by, off until then.
func TestReportsDontEndInTheFuture(t *testing.T) {
	f := func(name string, attempt func(r *rig) *Attempt) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, append(instances("redis", "10.0.0.1:6379"), documented("redis", func(s *model.Service) {
					s.Ban.BadCodes = map[string]float64{"503": 0.5}
					s.Hedge = &model.Hedge{Percentile: 0.5, Budget: 1}
				}))...)
				defer r.Close()
				time.Sleep(time.Minute)
				bad := attempt(r)
				time.Sleep(time.Second)
				bad.Report(Outcome{Result: health.OK, Code: 503, Latency: 24 * time.Hour})
				time.Sleep(10 * time.Minute)
				for range 2 * latencyNeeds {
					call := r.begin(t, &Call{Callee: "redis"})
					next := r.pick(t, call)
					if share := next.Share(); share < 0.99 {
						t.Fatalf("ten minutes after one bad code, %.2f of the weight is in force", share)
					}
					next.Done(Outcome{Result: health.OK, Code: 200, Latency: 10 * time.Millisecond})
					time.Sleep(time.Second)
				}
				if begun := r.service("redis").hedging.latencies.windows[0].Load().begun; begun > r.now() {
					t.Errorf("latencies are gathered for %s", begun-r.now())
				}
			})
		})
	}
	f("by id", func(r *rig) *Attempt { return r.pick(t, r.begin(t, &Call{Callee: "redis", HandOut: true})) })
	f("by address", func(r *rig) *Attempt {
		return r.PickAddress(r.begin(t, &Call{Callee: "redis", HandOut: true}), netip.MustParseAddrPort("10.0.0.1:6379"))
	})
}

// TestReportsByAddressEndTrials: of an instance that is half open each report makes room for the next trial, however it names the instance.
func TestReportsByAddressEndTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, back := halfOpen(t)
		defer r.Close()
		hand := func() bool {
			return r.pick(t, r.begin(t, &Call{Callee: "redis", HandOut: true})).Address() == back
		}
		report := func(result health.Result, latency time.Duration) {
			call := r.begin(t, &Call{Callee: "redis", HandOut: true, Unfused: true})
			r.PickAddress(call, back).Report(Outcome{Result: result, Latency: latency})
		}
		for n := range 3 {
			if !hand() || hand() {
				t.Fatalf("trial %d: there isn't one at a time", n)
			}
			time.Sleep(2 * time.Millisecond)
			report(health.OK, time.Hour) // of before the ban
			if hand() {
				t.Fatalf("trial %d: another one, though it isn't over", n)
			}
			report(health.OK, 2*time.Millisecond)
		}
		if state := r.stateOf(back); state != health.Up {
			t.Errorf("after three trials: %v", state)
		}
	})
}
