package scenarios

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

func trial() *setup {
	return &setup{
		instances: oneOf(4, fault{ailment: fails, share: 0.5}), agents: 2, sources: atRate(50), warm: 10 * time.Second,
		after: time.Minute, background: background{failures: 0.05, bursts: true}, sample: true,
	}
}

// What a seed gives is the same again; another seed gives something else. Of the agent, on one core: on several, it depends on
// where the simulation runs which outcome the judge hears of first.
func TestRepeatable(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	first := runComparator(consecutive, trial(), 1)
	if again := runComparator(consecutive, trial(), 1); !slices.Equal(first.bins, again.bins) || !slices.Equal(first.verdicts, again.verdicts) {
		t.Error("a seed gives another run the second time")
	}
	if other := runComparator(consecutive, trial(), 2); slices.Equal(first.bins, other.bins) {
		t.Error("two seeds give the same run")
	}
	// The agent gets the same arrivals, whatever it makes of them.
	agents := runUFC(t, trial(), 1)
	for range 20 {
		if again := runUFC(t, trial(), 1); !slices.Equal(agents.bins, again.bins) || !slices.Equal(agents.verdicts, again.verdicts) {
			t.Fatal("a seed gives another run of the agent the second time")
		}
	}
	for n := range first.bins {
		if first.bins[n].calls != agents.bins[n].calls {
			t.Fatalf("in second %d the comparator had %d calls, the agent %d", n, first.bins[n].calls, agents.bins[n].calls)
		}
	}
}

// The model gives the rates, shares and latencies that it is asked for.
func TestModel(t *testing.T) {
	s := &setup{
		instances: healthy(10), sources: atRate(200), after: 10 * time.Minute, sample: true,
		background: background{statuses: 0.05, codes: []int{404}},
	}
	l := runComparator(unprotected, s, 1)
	sum := l.between(0, s.after)
	within := func(what string, got, want, tolerance float64) {
		t.Helper()
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: %g, want %g", what, got, want)
		}
	}
	within("requests a second", float64(sum.calls)/s.after.Seconds(), 200, 0.02)
	within("errors", 1-sum.success(), 0.05, 0.1)
	within("median", l.quantile(0, s.after, 0.5).Seconds(), 0.02, 0.02)
	within("99th percentile", l.quantile(0, s.after, 0.99).Seconds(), 0.064, 0.05) // 0.02·e^(0.5·2.326)

	s.background.bursts = true
	sum = runComparator(unprotected, s, 1).between(0, s.after)
	within("errors with bursts", 1-sum.success(), 0.05, 0.4) // some ten bursts
}

func TestRespond(t *testing.T) {
	f := func(ailing fault, since time.Duration, want outcome) {
		t.Helper()
		one := instance{faults: []fault{ailing}}
		if got := one.respond(since, &draws{fault: 0.4}); got != want {
			t.Errorf("%+v after %s: %+v, want %+v", ailing, since, got, want)
		}
	}
	fine := answer(200, usualMedian)
	f(fault{ailment: refuses, from: time.Second}, 0, fine)
	f(fault{ailment: refuses}, time.Hour, outcome{result: health.ConnectError, took: roundTrip})
	f(fault{ailment: silent}, 0, outcome{result: health.ConnectTimeout, took: connectTimeout})
	f(fault{ailment: hangs, to: time.Second}, 0, outcome{result: health.ReadTimeout, took: readTimeout})
	f(fault{ailment: hangs, to: time.Second}, time.Second, fine)
	f(fault{ailment: fails, share: 0.5}, 0, outcome{result: health.Reset, took: usualMedian})
	f(fault{ailment: fails, share: 0.3}, 0, fine)
	f(fault{ailment: answers, share: 0.5, code: 404}, 0, answer(404, usualMedian))
	f(fault{ailment: slows, factor: 10}, 0, answer(200, 10*usualMedian))
	flapping := fault{ailment: answers, share: 1, code: 500, down: 20 * time.Second, up: 10 * time.Second}
	f(flapping, 19*time.Second, answer(500, usualMedian))
	f(flapping, 29*time.Second, fine)
	f(flapping, 31*time.Second, answer(500, usualMedian))
}

// A real agent's ban is in the ledger at its moment, with what it knew then.
func TestVerdictsAreNoted(t *testing.T) {
	s := &setup{instances: oneOf(4, fault{ailment: refuses}), sources: atRate(20), after: 10 * time.Second}
	l := runUFC(t, s, 1)
	ban, found := l.found()
	if !found || ban.instance != 3 || ban.reason != health.ByProof || ban.at <= 0 || ban.failed != 1 {
		t.Errorf("the ban of an instance that refuses: %+v, %v", ban, found)
	}
	if wrong := l.wrong(); len(wrong) != 0 {
		t.Errorf("healthy instances are banned: %+v", wrong)
	}
}

func TestEnough(t *testing.T) {
	f := func(hits, n int, share float64, want bool) {
		t.Helper()
		if enough(hits, n, share) != want {
			t.Errorf("%d of %d for %g: %v", hits, n, share, !want)
		}
	}
	f(190, 200, 0.95, true)
	f(189, 200, 0.95, false)
	f(199, 200, 1, false)
	f(17, 20, 0.95, true)
	f(15, 20, 0.95, false)
	f(19, 20, 1, false)
}
