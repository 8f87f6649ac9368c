package scenarios

import (
	"slices"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// bench is an ejector over n hosts, that a test feeds by hand.
func bench(rule comparator, n int) *ejector {
	s := &setup{instances: healthy(n), after: time.Hour}
	return newEjector(rule, 0, s, newLedger(s, 0))
}

// give tells of an outcome on a host.
func (e *ejector) give(now time.Duration, n int, o outcome) {
	r := &request{attempts: 1}
	r.tried[0] = n
	e.done(now, r, o)
}

func (e *ejector) ejected() (list []int) {
	for n := range e.hosts {
		if e.hosts[n].ejected {
			list = append(list, n)
		}
	}
	return list
}

var (
	fine    = answer(200, 0)
	broken  = answer(503, 0)
	missing = answer(404, 0)
	refused = outcome{result: health.ConnectError}
)

func TestConsecutiveFailures(t *testing.T) {
	f := func(hosts int, want []int, outcomes ...outcome) {
		t.Helper()
		e := bench(consecutive, hosts)
		for _, o := range outcomes {
			for n := range hosts / 2 { // half of the hosts, one after the other
				e.give(time.Second, n, o)
			}
		}
		if got := e.ejected(); !slices.Equal(got, want) {
			t.Errorf("%d hosts after %v: ejected %v, want %v", hosts, outcomes, got, want)
		}
	}
	f(2, nil, broken, broken, refused, broken)
	f(2, []int{0}, broken, broken, refused, broken, refused)
	f(2, nil, broken, broken, broken, broken, fine, broken)
	f(2, nil, missing, missing, missing, missing, missing) // a 404 is a good answer to Envoy
	// At most a tenth, but at least one.
	f(4, []int{0}, broken, broken, broken, broken, broken)
	f(30, []int{0, 1, 2}, broken, broken, broken, broken, broken)
}

// 30 s, then 60 s, looked at every 10 s; each interval of health takes one off the count.
func TestEjectionTime(t *testing.T) {
	e := bench(consecutive, 10)
	fail := func(at time.Duration) {
		for range 5 {
			e.give(at, 0, refused)
		}
	}
	f := func(at time.Duration, want bool) {
		t.Helper()
		e.sweep(at)
		if e.hosts[0].ejected != want {
			t.Errorf("at %s: ejected %v, want %v", at, e.hosts[0].ejected, want)
		}
	}
	fail(5 * time.Second)
	f(39*time.Second, true)
	f(40*time.Second, false) // 35 s are over: the next look
	fail(41 * time.Second)
	f(109*time.Second, true) // 41 + 60
	f(110*time.Second, false)
	f(130*time.Second, false) // two intervals of health
	fail(131 * time.Second)
	f(169*time.Second, true)
	f(170*time.Second, false) // 30 s again
}

func TestSuccessRate(t *testing.T) {
	f := func(want []int, good ...int) {
		t.Helper()
		hosts := make([]host, len(good))
		for n := range hosts {
			hosts[n] = host{good: good[n], seen: 100}
		}
		if got := outliers(hosts); !slices.Equal(got, want) {
			t.Errorf("outliers of %v: %v, want %v", good, got, want)
		}
	}
	// Mean 0.8, deviation 0.4: the threshold is 0.04. The largest distance that one of n can have is √(n−1) deviations, so
	// that 1.9 can be passed with 5 hosts at all.
	f([]int{4}, 100, 100, 100, 100, 0)
	f(nil, 100, 100, 100, 0) // four are not enough
	// Mean 0.9, deviation √((2·0.1² + 2·0.1²)/5) = 0.089: the threshold is 0.73.
	f(nil, 100, 100, 90, 80, 80)
	// Ten hosts, nine of 1 and one of 0.9: mean 0.99, deviation 0.03, threshold 0.933: a tenth of errors is an outlier.
	f([]int{9}, 100, 100, 100, 100, 100, 100, 100, 100, 100, 90)

	quiet := make([]host, 6)
	for n := range quiet {
		quiet[n] = host{good: 99, seen: 99}
	}
	quiet[0].good = 0
	if got := outliers(quiet); got != nil {
		t.Errorf("outliers of hosts with 99 requests: %v", got)
	}
}

func TestEjectorRetries(t *testing.T) {
	e := bench(unprotected, 4)
	f := func(failed health.Result, want int) {
		t.Helper()
		r := &request{outcome: outcome{result: failed}}
		seen := map[int]bool{}
		for chosen := e.pick(0, r); chosen >= 0; chosen = e.pick(0, r) {
			r.tried[r.attempts] = chosen
			r.attempts++
			if seen[chosen] {
				t.Errorf("host %d is tried twice", chosen)
			}
			seen[chosen] = true
		}
		if len(seen) != want {
			t.Errorf("%d attempts after %s, want %d", len(seen), failed, want)
		}
	}
	f(health.Reset, 3)
	e.tokens = 0
	f(health.Reset, 1)
	f(health.ConnectError, 3)
}
