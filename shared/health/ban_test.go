package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestProofBansAtTheFirstRefusal(t *testing.T) {
	inWorld(t, 2, nil, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(0), true)
		w.observe(w.all[0], "r")
		ban, banned := w.all[0].Ban()
		if !banned || ban.Reason != ByProof || ban.LastErr != "connection refused" {
			t.Fatalf("one refusal and a failed probe give %+v, %v", ban, banned)
		}
	})
}

func TestOwnFaultsProveNothing(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.broke.Store(true)
		w.observe(w.all[0], "r")
		if w.all[0].Banned() {
			t.Fatal("banned since this machine has no file left")
		}
		w.observe(w.all[0], "ffffff")
		time.Sleep(12 * time.Second)
		w.broke.Store(false)
		time.Sleep(1200 * time.Millisecond)
		synctest.Wait()
		if w.all[0].State() != Trying || len(w.told(Banned)) != 1 {
			t.Fatalf("state %v: a ban must not go on for long since this machine couldn't probe", w.all[0].State())
		}
	})
}

func TestOtherFailuresProveNothing(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(0), true)
		w.observe(w.all[0], "ffff")
		if w.probes.Load() != 0 || w.all[0].Banned() {
			t.Fatalf("%d probes, banned %v after read errors", w.probes.Load(), w.all[0].Banned())
		}
	})
}

func TestBansDoubleAndAreForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		ban := func(want time.Duration) {
			t.Helper()
			w.observe(i, "fffffffffffff")
			bans := w.told(Banned)
			last := bans[len(bans)-1]
			if i.State() != Out || last.Duration < want*9/10 || last.Duration > want*11/10 {
				t.Fatalf("state %v, a ban of %v, not of %v ±10 %%", i.State(), last.Duration, want)
			}
			time.Sleep(last.Duration + time.Second)
			w.observe(i, "...")
			if i.State() != Up {
				t.Fatalf("state %v after its ban and trials", i.State())
			}
		}
		for _, seconds := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600} {
			ban(seconds * time.Second)
			for _, other := range w.all[1:] {
				w.observe(other, "..............................")
			}
		}
		time.Sleep(24 * time.Hour) // time alone heals nobody
		ban(600 * time.Second)
		for range 40 { // an hour each, with traffic
			time.Sleep(time.Hour)
			w.observe(i, "....................")
		}
		ban(10 * time.Second)
	})
}

func TestCap(t *testing.T) {
	f := func(size, bad, most int) {
		t.Helper()
		inWorld(t, size, func(p *Policy) { p.Requests = &model.RequestBan{Failures: 5, Of: 10} }, func(t *testing.T, w *world) {
			for _, i := range w.all[:bad] {
				w.observe(i, "ffffff")
			}
			if bans := w.told(Banned); len(bans) != most {
				t.Errorf("of %d instances %d were banned by suspicion, not %d", size, len(bans), most)
			}
			if capped := w.told(Capped); len(capped) != bad-most {
				t.Errorf("of %d instances %d were said to be protected, not %d", size, len(capped), bad-most)
			}
		})
	}
	f(1, 1, 0)
	f(2, 2, 1)
	f(3, 3, 1)
	f(4, 3, 1)
	f(10, 6, 3)
	f(20, 10, 6)
}

func TestProofIsNotCapped(t *testing.T) {
	inWorld(t, 10, nil, func(t *testing.T, w *world) {
		for _, i := range w.all[:8] {
			w.dead.Store(i.Address, true)
			w.observe(i, "r")
		}
		if bans := w.told(Banned); len(bans) != 8 || len(w.told(Panic)) != 1 {
			t.Errorf("%d bans, %d panics: 8 of 10 are proven dead", len(bans), len(w.told(Panic)))
		}
		w.service.SetPolicy(policyOf(func(p *Policy) { p.Requests = &model.RequestBan{Failures: 1, Of: 1} }))
		w.observe(w.all[9], "f")
		if w.all[9].Banned() {
			t.Error("while under half are left, proof counts against suspicion")
		}
		w.dead.Clear()
		time.Sleep(30 * time.Second)
		if len(w.told(PanicOver)) != 1 || w.all[0].State() != Up {
			t.Errorf("state %v, %d ends of panic after they came back", w.all[0].State(), len(w.told(PanicOver)))
		}
	})
}

func TestTheLeastBadIsKept(t *testing.T) {
	inWorld(t, 3, func(p *Policy) { p.Requests = &model.RequestBan{Failures: 5, Of: 20} }, func(t *testing.T, w *world) {
		w.observe(w.all[0], "f..f..f..f..f")
		w.observe(w.all[1], "fffff")
		if w.all[0].State() != Up || w.all[1].State() != Out || len(w.told(Lifted)) != 1 {
			t.Errorf("states %v and %v: the cap is one of three, and the second is worse", w.all[0].State(), w.all[1].State())
		}
	})
}

// A ban that is the longest already counts for no more doublings: what is never used must not have to be forgotten.
func TestDoublingsEndAtTheLongestBan(t *testing.T) {
	r, policy := record{}, policyOf(nil)
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		for range 50 {
			w.service.mu.Lock()
			w.service.begin(w.all[0], Relapsed, 1, Decision{Reason: ByRequests})
			w.service.mu.Unlock()
		}
		r = w.all[0].past.record
	})
	if r.next(policy) != policy.MaxDuration.Std() {
		t.Errorf("the next ban would be %v", r.next(policy))
	}
	if r.level--; r.next(policy) == policy.MaxDuration.Std() {
		t.Errorf("one step forgotten of %d, and the next ban is as long", r.level+1)
	}
}

// A list that changes can be the beginning and the end of panic, as a ban and a return can.
func TestPanicByTheList(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		for _, i := range w.all[:2] {
			w.dead.Store(i.Address, true)
			w.observe(i, "r")
		}
		if n := len(w.told(Panic)); n != 0 {
			t.Fatalf("%d panics while half are left", n)
		}
		w.list(3)
		synctest.Wait()
		if n := len(w.told(Panic)); n != 1 || !w.all[0].Explain().Group.Panic {
			t.Errorf("%d panics when one of three is left", n)
		}
		w.list(10)
		synctest.Wait()
		if n := len(w.told(PanicOver)); n != 1 || w.all[0].Explain().Group.Panic {
			t.Errorf("%d ends of panic when eight of ten are left", n)
		}
	})
}

// The least bad is another one when those that are banned have changed.
func TestTheLeastBadChangesWithTheBans(t *testing.T) {
	inWorld(t, 10, func(p *Policy) { p.Requests = &model.RequestBan{Failures: 5, Of: 64} }, func(t *testing.T, w *world) {
		least := func() *Instance {
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			return w.service.leastBad(w.service.groups[""])
		}
		if least() != nil {
			t.Fatal("nobody is banned, and one is the least bad")
		}
		for n, outcomes := range []string{"f..f..f..f..f", "f...f...f...f...f", "f.f.f.f.f"} {
			w.observe(w.all[n], outcomes)
		}
		if least() != w.all[1] {
			t.Error("not the one with most successes")
		}
		w.observe(w.all[3], "fffff") // at the cap: in its place
		if w.all[1].State() != Up || w.all[3].State() != Out || least() != w.all[0] {
			t.Errorf("states %v and %v after a worse one came", w.all[1].State(), w.all[3].State())
		}
		w.list(11)
		time.Sleep(12 * time.Second)
		w.observe(w.all[0], "...")
		if w.all[0].State() != Up || least() != w.all[2] {
			t.Errorf("state %v of who was the least bad", w.all[0].State())
		}
	})
}

// A probe that this machine could not make says nothing: a ban that was doubtful, since the last probe timed out, stays so.
func TestOwnFaultsLeaveABanDoubtful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := os.ErrDeadlineExceeded
		var answer atomic.Pointer[error]
		answer.Store(&err)
		m := NewMonitor(func(context.Context, netip.AddrPort, time.Duration) error { return *answer.Load() }, rand.Uint64)
		defer m.Close()
		s := m.NewService("a", policyOf(nil), func(*Instance, *Decision) {}, nil)
		i := s.Retain([]Member{{Address: addressOf(0), Serving: true}}, func(int) *Pulse { return new(Pulse) })[0]
		s.Record(0, &Observation{Instance: i, Result: ConnectTimeout})
		f := func(wait time.Duration, answered error, doubtful bool) {
			t.Helper()
			answer.Store(&answered)
			time.Sleep(wait)
			synctest.Wait()
			if ban, banned := i.Ban(); !banned || ban.Doubtful != doubtful {
				t.Errorf("after %v: %+v, %v", answered, ban, banned)
			}
		}
		f(0, os.ErrDeadlineExceeded, true)
		f(12*time.Second, fmt.Errorf("dial: %w", syscall.EMFILE), true)
		f(2*time.Second, syscall.ECONNREFUSED, false)
	})
}
