package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/fuse"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// learn makes a callee's fuse know its usual latency.
func (r *rig) learn(callee string, latency time.Duration) {
	f := r.service(callee).fuse
	f.Take(200, func(_ int, o *fuse.Outcome) {
		*o = fuse.Outcome{Begun: r.now(), Latency: latency, Result: fuse.Delivered}
	})
	time.Sleep(time.Second)
	f.Tick(r.now())
}

// overload brings a callee into an avalanche.
func (r *rig) overload(t *testing.T, callee string) {
	t.Helper()
	s := r.service(callee)
	s.fuse.Take(200, func(n int, o *fuse.Outcome) {
		*o = fuse.Outcome{Slot: int32(n % 10), Begun: r.now(), Result: fuse.Failed}
	})
	time.Sleep(time.Second)
	decided, _ := s.fuse.Tick(r.now())
	for n := range decided {
		s.changed(&decided[n])
	}
	if !s.fuse.Avalanche() {
		t.Fatal("all fails, and there is no avalanche")
	}
	time.Sleep(time.Second) // so that one is admitted
}

// refused returns the refusal of one of many calls, a thousand a second.
func (r *rig) refused(t *testing.T, callee string) *Refusal {
	t.Helper()
	for range 10_000 {
		if err := r.Begin(&Call{Callee: callee}); err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatal(err)
			}
			return refusal
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("an avalanche refuses nobody")
	return nil
}

func shop(change func(*model.Service), more ...model.Record) []model.Record {
	records := append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"), documented("shop", change))
	return append(records, more...)
}

// Drop cuts off a share of some callers' requests. The first rule for the caller counts.
func TestDrop(t *testing.T) {
	r := newRig(t, shop(func(s *model.Service) {
		s.Drop = []model.Drop{
			{Callers: []string{"batch-*"}, Percent: 100}, {Callers: []string{"video-web", "video-app"}, Percent: 30},
			{Callers: []string{"video-*"}, Percent: 0}, {Callers: []string{"batch-*", "one"}, Percent: 50}, {Callers: []string{"two"}, Percent: 100},
			{Callers: []string{"two"}, Percent: 0},
		}
	})...)
	f := func(caller string, share float64) {
		t.Helper()
		const calls = 10_000
		dropped := 0
		for range calls {
			err := r.Begin(&Call{Callee: "shop", Caller: caller})
			var refusal *Refusal
			if err != nil && (!errors.As(err, &refusal) || refusal.Reason != ReasonDropped || refusal.Status() != http.StatusServiceUnavailable) {
				t.Fatal(err)
			}
			if err != nil {
				dropped++
			}
		}
		if off := math.Abs(float64(dropped) - calls*share); off > 6*math.Sqrt(calls*share*(1-share)) { // six standard deviations
			t.Errorf("%q: %d of %d are dropped, not a share of %v", caller, dropped, calls, share)
		}
	}
	f("batch-night", 1)
	f("video-web", 0.3)
	f("video-app", 0.3)
	f("video-tv", 0)
	f("one", 0.5)
	f("two", 1)
	f("", 0)
	f("three", 0)
}

// Where the policy hashes, always the same users are dropped.
func TestDropByKeyIsStable(t *testing.T) {
	r := newRig(t, shop(func(s *model.Service) {
		s.Balance = model.Balance{Policy: model.ConsistentHash, Hash: "header:X-Uid"}
		s.Drop = []model.Drop{{Callers: []string{"*"}, Percent: 30}}
	})...)
	const users = 2000
	dropped := 0
	for user := range users {
		key := fmt.Sprint(user)
		first := r.Begin(&Call{Callee: "shop", Key: key}) != nil
		for range 5 {
			if again := r.Begin(&Call{Callee: "shop", Key: key}) != nil; again != first {
				t.Fatalf("user %s is dropped sometimes", key)
			}
		}
		if first {
			dropped++
		}
	}
	if off := math.Abs(float64(dropped) - users*0.3); off > 6*math.Sqrt(users*0.3*0.7) {
		t.Errorf("%d of %d users are dropped, at 30 %%", dropped, users)
	}
}

// An avalanche's time limits are never under three times the normal 95th percentile, as far as normal times allow so much.
func TestAvalancheLimits(t *testing.T) {
	f := func(p95 time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, shop(nil)...)
			r.learn("shop", p95)
			call := r.begin(t, &Call{Callee: "shop"})
			if call.Avalanche() || call.Timeouts() != &call.Service().Timeouts.Normal {
				t.Error("an avalanche's limits in normal times")
			}
			r.overload(t, "shop")
			call = r.begin(t, &Call{Callee: "shop"})
			if !call.Avalanche() {
				t.Fatal("normal limits in an avalanche")
			}
			got, documented := call.Timeouts(), &call.Service().Timeouts
			if known, _ := r.service("shop").fuse.LeastTimeout(); known < 3*p95 {
				t.Errorf("three times %v is %v", p95, known)
			}
			one := func(name string, got, avalanche, normal model.Duration) {
				t.Helper()
				if got < min(3*model.Duration(p95), normal) || got > max(normal, avalanche) || got < avalanche {
					t.Errorf("p95 %v: %s is %v, where the document says %v, and %v in normal times", p95, name, got.Std(),
						avalanche.Std(), normal.Std())
				}
			}
			one("read", got.Read, documented.Avalanche.Read, documented.Normal.Read)
			one("total", got.Total, documented.Avalanche.Total, documented.Normal.Total)
			if got.Connect != documented.Avalanche.Connect || got.Write != documented.Avalanche.Write {
				t.Errorf("connect %v, write %v: the latency says nothing of these", got.Connect, got.Write)
			}
			if documented.Avalanche != model.DefaultService("").Timeouts.Avalanche {
				t.Error("the document was changed")
			}
			r.Close()
		})
	}
	f(time.Millisecond)
	f(600 * time.Millisecond)
	f(3 * time.Second)
	f(time.Minute)
}

// There are no retries in an avalanche by default, and no hedges whatever the document says.
func TestNoRetriesAndHedgesInAnAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hedgedRig(t, 0.5)
		call := r.begin(t, &Call{Callee: "shop"})
		r.pick(t, call).Done(Outcome{Result: health.ConnectError})
		if _, ok := call.HedgeAfter(); !ok || !call.MayRetry() {
			t.Fatal("no retry, or no hedge, in normal times")
		}
		r.overload(t, "shop")
		if call.MayRetry() {
			t.Error("a retry in an avalanche")
		}
		if attempt, err := r.Pick(call); err == nil {
			t.Errorf("attempt %d in an avalanche", attempt.Number)
		}
		if _, ok := call.HedgeAfter(); ok {
			t.Error("a hedge in an avalanche")
		}
		r.Close()
	})
}

// Retries that the document allows in an avalanche weigh less than first attempts, and have to be admitted.
func TestRetriesInAnAvalancheAreAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(func(s *model.Service) { s.Retries.Avalanche.Attempts = 1 })...)
		calls := make([]*Call, 2)
		for n := range calls {
			calls[n] = r.begin(t, &Call{Callee: "shop"})
			r.pick(t, calls[n]).Done(Outcome{Result: health.ReadError})
		}
		r.overload(t, "shop")
		if _, err := r.Pick(calls[0]); err != nil {
			t.Errorf("a retry that the fuse has room for: %v", err)
		}
		r.refused(t, "shop")
		if _, err := r.Pick(calls[1]); err == nil || !strings.Contains(err.Error(), "the fuse admits no retry") {
			t.Errorf("a retry, though even first attempts are refused now: %v", err)
		}
		r.Close()
	})
}

// In an avalanche round robin would go on to send its share to an instance whose queue is full: least request chooses.
func TestLeastRequestInAnAvalanche(t *testing.T) {
	f := func(policy model.BalancePolicy) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, shop(func(s *model.Service) { s.Balance.Policy = policy })...)
			busy := r.service("shop").state.Load().instances[1]
			for range 1000 {
				busy.target.Began()
			}
			waiting := make([]*Call, 120) // which have begun, and not picked yet: nobody refuses them any more
			for n := range waiting {
				waiting[n] = r.begin(t, &Call{Callee: "shop"})
			}
			spread := func(calls []*Call) (count int) {
				for _, call := range calls {
					if r.pick(t, call).HostPort == busy.hostPort {
						count++
					}
				}
				return count
			}
			if n := spread(waiting[:60]); n < 10 {
				t.Errorf("%s: in normal times the busy instance gets %d of 60", policy, n)
			}
			r.overload(t, "shop")
			if n := spread(waiting[60:]); n != 0 {
				t.Errorf("%s: in an avalanche the busy instance gets %d of 60", policy, n)
			}
			r.Close()
		})
	}
	f(model.RoundRobin)
	f(model.Random)
}

// A call that the fuse refuses is answered with 503, and told to wait.
func TestFusedIsToldToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil)...)
		r.overload(t, "shop")
		refusal := r.refused(t, "shop")
		if refusal.Reason != ReasonFused {
			t.Fatalf("refused for %v", refusal)
		}
		for range 50 {
			answer := httptest.NewRecorder()
			refusal.ServeHTTP(answer, nil)
			seconds, err := strconv.Atoi(answer.Header().Get("Retry-After"))
			if answer.Code != http.StatusServiceUnavailable || err != nil || seconds < 1 || seconds > retryWithin {
				t.Fatalf("%d, Retry-After %q", answer.Code, answer.Header().Get("Retry-After"))
			}
		}
		answer := httptest.NewRecorder()
		(&Refusal{Reason: ReasonDropped}).ServeHTTP(answer, nil)
		if wait := answer.Header().Get("Retry-After"); wait != "" {
			t.Errorf("one that is dropped is told to come back after %s", wait)
		}
		r.Close()
	})
}

// A request that its program repeats weighs less than the first one.
// TestQuestionsThatNothingAnswers: resolvers ask for both IP versions of a callee that has one. That takes no admission, and isn't
// counted as a call that arrives.
func TestQuestionsThatNothingAnswers(t *testing.T) {
	f := func(other Family) (admitted int, ratio float64) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, instances("redis", "10.0.0.1:6379", "10.0.0.2:6379")...)
			defer r.Close()
			ask := func(family Family) error {
				return r.Begin(&Call{Callee: "redis", Class: DefaultClass, HandOut: true, Family: family})
			}
			r.overload(t, "redis")
			for range 2000 {
				if other != AnyFamily {
					var refusal *Refusal
					if err := ask(other); !errors.As(err, &refusal) || refusal.Reason != ReasonNoInstance {
						t.Fatalf("family %d: %v", other, err)
					}
				}
				if ask(IPv4) == nil {
					admitted++
				}
				time.Sleep(5 * time.Millisecond)
			}
			ratio = r.service("redis").fuse.Info().AdmittedRatio
		})
		return admitted, ratio
	}
	admitted, ratio := f(AnyFamily)
	if both, share := f(IPv6); admitted < 5 || admitted > 1000 || both != admitted || share != ratio {
		t.Errorf("%d admitted, a share of %.4f, but %d, %.4f, with a question for the other IP version beside each", admitted, ratio, both, share)
	}
}

func TestServingFamilies(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
	f := func(family Family, want bool) {
		t.Helper()
		if err := r.Begin(&Call{Callee: "shop", HandOut: true, Family: family}); (err == nil) != want {
			t.Errorf("family %d: %v", family, err)
		}
	}
	f(AnyFamily, true)
	f(IPv4, true)
	f(IPv6, false)
	records := instances("shop", "10.0.0.1:80", "[2001:db8::1]:80")
	records[0].Instance.State = model.Drain
	r.catalog.Replace(2, records)
	f(AnyFamily, true)
	f(IPv4, false)
	f(IPv6, true)
}

func TestKind(t *testing.T) {
	if (&Call{}).kind() != fuse.First || (&Call{Repeated: true}).kind() != fuse.Retry {
		t.Error("what is repeated isn't a retry")
	}
}

// fuse_info^SERVICE answers for one callee, fuse_info for those in an avalanche.
func TestFuseInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil, documented("cart", nil))...)
		ask := func(selector ...string) map[string]FuseInfo {
			t.Helper()
			answer, err := r.Query(selector)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := json.Marshal(answer); err != nil {
				t.Error(err)
			}
			return answer.(map[string]FuseInfo)
		}
		if all := ask("fuse_info"); len(all) != 0 {
			t.Errorf("in normal times: %+v", all)
		}
		if one := ask("fuse_info", "shop"); len(one) != 1 || one["shop"].Avalanche || one["shop"].AdmittedRatio != 1 {
			t.Errorf("of one in normal times: %+v", one)
		}
		r.overload(t, "shop")
		all := ask("fuse_info")
		if info := all["shop"]; len(all) != 1 || !info.Avalanche || len(info.Decisions) != 1 || info.Decisions[0].Kind != health.Kind(fuse.Entered) ||
			time.Since(info.Decisions[0].Time) > time.Minute || info.Decisions[0].Needed == "" {
			t.Errorf("in an avalanche: %+v", all)
		}
		if one := ask("fuse_info", "cart"); len(one) != 1 || one["cart"].Avalanche {
			t.Errorf("of another one: %+v", one)
		}
		if _, err := r.Query([]string{"fuse_info", "nobody"}); !errors.Is(err, ErrSelector) {
			t.Errorf("of nobody: %v", err)
		}
		if _, err := r.Query([]string{"fuse_info", "shop", "more"}); !errors.Is(err, ErrSelector) {
			t.Errorf("of more: %v", err)
		}
		r.Close()
	})
}

// The agent's listener is told of an avalanche, and of its end.
func TestAvalancheIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil)...)
		var told []health.Decision
		r.tell = func(d health.Decision) { told = append(told, d) }
		r.overload(t, "shop")
		if len(told) != 1 || told[0].Kind != health.Kind(fuse.Entered) || told[0].Service != "shop" || told[0].Rule == "" {
			t.Errorf("told %+v", told)
		}
		r.service("shop").changed(&fuse.Decision{Kind: fuse.Left, At: time.Second})
		if len(told) != 2 || told[1].Kind != health.Kind(fuse.Left) || !told[1].Time.Equal(r.epoch.Add(time.Second)) {
			t.Errorf("told %+v", told)
		}
		r.Close()
	})
}

// The ticking ends when nothing is in flight for quietTicks, and goes on with the next attempt.
func TestTickingEndsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil)...)
		ticking := &r.service("shop").ticking
		f := func(when string, want bool) {
			t.Helper()
			synctest.Wait()
			if ticking.on.Load() != want {
				t.Errorf("%s: ticking is %v", when, !want)
			}
		}
		most := (quietTicks + 4) * fuse.Interval * 11 / 10
		f("before any attempt", false)
		for range 2 {
			call := r.begin(t, &Call{Callee: "shop"})
			attempt := r.pick(t, call)
			f("in flight", true)
			time.Sleep(3 * most)
			f("in flight for long", true)
			attempt.Done(Outcome{Result: health.OK, Code: 200, Latency: 3 * most})
			time.Sleep(quietTicks * fuse.Interval / 2)
			f("idle for a while", true)
			time.Sleep(most)
			f("idle", false)
		}
		r.Close()
	})
}

// Close ends the timers, and no attempt begins them anew.
func TestCloseEndsTheTicking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil)...)
		s := r.service("shop")
		r.pick(t, r.begin(t, &Call{Callee: "shop"}))
		r.Close()
		if s.ticking.timer.Stop() {
			t.Error("the timer runs on")
		}
		timer := s.ticking.timer
		r.pick(t, r.begin(t, &Call{Callee: "shop"}))
		s.tick() // that was under way
		if s.ticking.timer != timer {
			t.Error("another timer runs")
		}
	})
}

// The same for a callee that no document names any more.
func TestCloseEndsTheTickingOfTheDeparted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, documented("cart", nil))
		r.catalog.Replace(2, shop(nil))
		s := r.service("shop")
		r.pick(t, r.begin(t, &Call{Callee: "shop"}))
		r.catalog.Replace(3, []model.Record{documented("cart", nil)})
		r.Close()
		if s.ticking.timer.Stop() {
			t.Error("the timer runs on")
		}
	})
}

// An attempt counts as under way once, whichever of Done and Answered comes first: a response without a body is done first.
func TestDoneBeforeAnswered(t *testing.T) {
	f := func(doneFirst bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, shop(nil)...)
			for range 10 {
				call := r.begin(t, &Call{Callee: "shop"})
				attempt := r.pick(t, call)
				if doneFirst {
					attempt.Done(Outcome{Result: health.OK, Code: 204})
				}
				call.Answered(attempt)
				attempt.Done(Outcome{Result: health.OK, Code: 204})
				call.End(204)
			}
			time.Sleep(time.Second)
			if n := r.service("shop").fuse.Info().InFlight; n != 0 {
				t.Errorf("done first %v: %d in flight when all has ended", doneFirst, n)
			}
			r.Close()
		})
	}
	f(false)
	f(true)
}
