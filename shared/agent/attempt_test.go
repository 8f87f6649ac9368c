package agent

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// TestAttemptsTellTheirStory reads a call's attempts when it has ended: what an access log is made of.
func TestAttemptsTellTheirStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("web", "10.0.0.1:80", "10.0.0.2:80")...)
		call := r.begin(t, &Call{Callee: "web"})
		first := r.pick(t, call)
		time.Sleep(30 * time.Millisecond)
		if pending := first.Settled(); pending != (Outcome{Result: health.Canceled, Latency: 30 * time.Millisecond}) {
			t.Errorf("under way: %+v", pending)
		}
		failed := Outcome{Result: health.ConnectTimeout, Latency: 30 * time.Millisecond}
		first.Done(failed)
		time.Sleep(5 * time.Millisecond)
		second := r.pick(t, call)
		time.Sleep(time.Second)
		good := Outcome{Result: health.OK, Code: 404, Latency: time.Second}
		second.Done(good)
		call.Answered(second)

		if call.Newest() != second || second.Before() != first || first.Before() != nil {
			t.Error("the attempts aren't in order")
		}
		if first.After() != 0 || second.After() != 35*time.Millisecond {
			t.Errorf("begun after %s and %s", first.After(), second.After())
		}
		if first.Settled() != failed || second.Settled() != good {
			t.Errorf("settled as %+v and %+v", first.Settled(), second.Settled())
		}
		if first.result() != failed.Result || second.result() != good.Result {
			t.Errorf("results %s and %s", first.result(), second.result())
		}
	})
}

// TestSettledBounds settles attempts with what doesn't fit, which a program that reports one may say.
func TestSettledBounds(t *testing.T) {
	f := func(outcome, want Outcome) {
		t.Helper()
		r := newRig(t, instances("web", "10.0.0.1:80")...)
		call := r.begin(t, &Call{Callee: "web"})
		attempt := r.pick(t, call)
		attempt.Done(outcome)
		if got := attempt.Settled(); got != want {
			t.Errorf("%+v is settled as %+v, not %+v", outcome, got, want)
		}
	}
	for result := range health.Results {
		f(Outcome{Result: health.Result(result)}, Outcome{Result: health.Result(result)})
	}
	f(Outcome{Code: 999}, Outcome{Code: 999})
	f(Outcome{Code: -1, Latency: -1}, Outcome{})
	f(Outcome{Code: math.MaxInt, Latency: math.MaxInt64}, Outcome{Code: maxCode, Latency: maxLatency})
}

// A report by address is compared within the split that the instance belongs to, whatever split the lot would give it.
func TestReportsByAddressAreComparedWithinTheirSplit(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "version=v1"), at("shop", "10.0.0.2:80", "bj-a", "version=v2"),
		at("shop", "10.0.0.3:80", "bj-a"), documented("shop", func(s *model.Service) {
			s.Routes = []model.Route{{Split: []model.Split{
				{Labels: map[string]string{"version": "v1"}, Weight: 50}, {Labels: map[string]string{"version": "v2"}, Weight: 50},
			}}}
		}))
	f := func(address string, want ...string) {
		t.Helper()
		var attempt *Attempt
		for range 50 {
			attempt = r.PickAddress(r.begin(t, &Call{Callee: "shop", HandOut: true}), netip.MustParseAddrPort(address))
			attempt.Report(Outcome{Code: 200})
		}
		var got []string
		for _, m := range attempt.instance.health.Explain().Deviation {
			got = append(got, m.Stratum)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is compared within %q, want %q", address, got, want)
		}
	}
	f("10.0.0.1:80", "caller unknown, route 0, split 0")
	f("10.0.0.2:80", "caller unknown, route 0, split 1")
	f("10.0.0.3:80")
}

// Where the policy hashes and requests have no key, they go anywhere: their errors are no one user's.
func TestErrorsWithoutAKeyCountWhereThePolicyHashes(t *testing.T) {
	f := func(key string, banned bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"),
				documented("shop", func(s *model.Service) {
					s.Balance = model.Balance{Policy: model.ConsistentHash, Hash: "header:X-Uid"}
				}))...)
			bad := ""
			for n := range 2000 {
				call := r.begin(t, &Call{Callee: "shop", Key: key})
				attempt, code := r.pick(t, call), 200
				if bad == "" {
					bad = attempt.HostPort
				}
				if attempt.HostPort == bad {
					code = 500
				}
				attempt.Done(Outcome{Code: code})
				call.End(code)
				if key != "" { // the others'
					other := r.begin(t, &Call{Callee: "shop", Key: fmt.Sprint(n)})
					r.pick(t, other).Done(Outcome{Code: 200})
				}
				time.Sleep(5 * time.Millisecond)
			}
			if bans := r.service("shop").state.Load().banned(); (bans == 1) != banned {
				t.Errorf("key %q: %d banned", key, bans)
			}
			r.Close()
		})
	}
	f("", true)
	f("one user", false)
}
