package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

var (
	address = netip.MustParseAddrPort("127.0.0.1:6379")
	other   = netip.MustParseAddrPort("127.0.0.2:6379")
)

// world is a callee whose ports answer probes as the test says.
type world struct {
	*Monitor
	service *Service
	dead    atomic.Bool
	broke   atomic.Bool // this machine can't dial at all
	probes  atomic.Int32
	bans    atomic.Int32
	returns atomic.Int32
	reason  atomic.Value
}

func newWorld(t *testing.T, policy model.Ban) *world {
	t.Helper()
	if policy.Duration == 0 {
		policy.Duration = model.Duration(10 * time.Second)
	}
	policy.Probe.Timeout = model.Duration(500 * time.Millisecond)
	w := &world{}
	w.Monitor = NewMonitor(func(context.Context, netip.AddrPort, time.Duration) error {
		w.probes.Add(1)
		if w.broke.Load() {
			return fmt.Errorf("dial: %w", syscall.EMFILE)
		}
		if w.dead.Load() {
			return errors.New("connection refused")
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	t.Cleanup(w.Close)
	w.service = w.NewService("redis-main", &policy, func(_ *Instance, banned bool, reason Reason) {
		if w.reason.Store(reason); banned {
			w.bans.Add(1)
		} else {
			w.returns.Add(1)
		}
	})
	return w
}

func anywhere(int) *Pulse { return new(Pulse) }

func (w *world) instance(addresses ...netip.AddrPort) *Instance {
	if len(addresses) == 0 {
		addresses = []netip.AddrPort{address}
	}
	return w.service.Retain(addresses, anywhere)[0]
}

// observe feeds outcomes of the present generation: 'f' a read error, 'r' a refused connection, 'c' a cancellation, '.' ok.
func observe(i *Instance, outcomes string) {
	for _, o := range outcomes {
		i.Observe(i.Generation(), map[rune]Result{'f': ReadError, 'r': ConnectError, 'c': Canceled, '.': OK}[o])
	}
}

func TestRequestBan(t *testing.T) {
	f := func(policy model.Ban, outcomes string, banned bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, policy)
			i := w.instance()
			observe(i, outcomes)
			synctest.Wait()
			if i.Banned() != banned {
				t.Errorf("after %q banned is %v, not %v", outcomes, i.Banned(), banned)
			}
			w.Close()
		})
	}
	standard := model.Ban{}
	f(standard, "", false)
	f(standard, "ffff", false)
	f(standard, "fffff", true)
	f(standard, "f.f.f.f.f", true)
	f(standard, "f.f.f.f...f", false) // the first of the five has left the last ten
	f(standard, "f.f.f.f.cccccccf", true)
	f(standard, "cccccccccc", false)
	f(standard, "rrrr", false) // the port answers the probe: no proof
	f(standard, "rrrrr", true) // but five of ten are five of ten
	f(model.Ban{Requests: &model.RequestBan{Failures: 1, Of: 1}}, "f", true)
	f(model.Ban{Requests: &model.RequestBan{Failures: 2, Of: 2}}, "f.f.f", false)
	f(model.Ban{Requests: &model.RequestBan{Failures: 2, Of: 2}}, "f.ff", true)
	f(model.Ban{Requests: &model.RequestBan{Failures: 64, Of: 64}}, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", true)
	f(model.Ban{Requests: &model.RequestBan{Failures: 64, Of: 64}}, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff."[1:], false)
}

func TestProofBansAtTheFirstRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		w.dead.Store(true)
		i := w.instance()
		observe(i, "r")
		synctest.Wait()
		ban, banned := i.Ban()
		if !banned || ban.Reason != ByProof || ban.LastErr != "connection refused" {
			t.Fatalf("one refusal and a failed probe give %+v, %v", ban, banned)
		}
		w.Close()
	})
}

func TestOwnFaultsProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		w.broke.Store(true)
		i := w.instance()
		observe(i, "r")
		synctest.Wait()
		if i.Banned() {
			t.Fatal("banned since this machine has no file left")
		}
		observe(i, "ffff")
		time.Sleep(12 * time.Second)
		synctest.Wait()
		w.broke.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if i.Banned() || w.bans.Load() != 1 {
			t.Fatalf("banned %v after %d bans: a ban must not go on for long since this machine couldn't probe", i.Banned(), w.bans.Load())
		}
		w.Close()
	})
}

func TestOtherFailuresProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		w.dead.Store(true)
		i := w.instance()
		observe(i, "ffff")
		synctest.Wait()
		if w.probes.Load() != 0 || i.Banned() {
			t.Fatalf("%d probes, banned %v after read errors", w.probes.Load(), i.Banned())
		}
		w.Close()
	})
}

func TestBackOnlyByProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{Duration: model.Duration(2 * time.Second)})
		w.dead.Store(true)
		i := w.instance()
		observe(i, "r")
		synctest.Wait()

		time.Sleep(5 * time.Second) // two expiries, two failed probes
		synctest.Wait()
		if !i.Banned() || w.probes.Load() != 3 {
			t.Fatalf("banned %v after %d probes of a dead port", i.Banned(), w.probes.Load())
		}
		w.dead.Store(false)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if i.Banned() || w.returns.Load() != 1 || i.Failures() != 0 {
			t.Fatalf("banned %v, %d returns, %d failures after the port answered", i.Banned(), w.returns.Load(), i.Failures())
		}
		w.Close()
	})
}

func TestBanHoldsForItsDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		i := w.instance()
		observe(i, "fffff")
		time.Sleep(10*time.Second - time.Millisecond)
		if !i.Banned() {
			t.Fatal("back before its time")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if i.Banned() || w.reason.Load() != ByRequests {
			t.Fatalf("banned %v, reason %v after its time", i.Banned(), w.reason.Load())
		}
		w.Close()
	})
}

func TestLateOutcomesChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		i := w.instance()
		before := i.Generation()
		observe(i, "fffff")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		for range 20 {
			i.Observe(before, ReadError)
		}
		if i.Banned() || i.Failures() != 0 {
			t.Fatalf("attempts begun before the ban count after it: banned %v, %d failures", i.Banned(), i.Failures())
		}
		if i.Outcomes()[ReadError] != 25 {
			t.Fatalf("%d read errors seen, not 25", i.Outcomes()[ReadError])
		}
		w.Close()
	})
}

func TestOldFailuresAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		i := w.instance()
		observe(i, "ffff")
		time.Sleep(forget + time.Second)
		observe(i, "f")
		if i.Banned() || i.Failures() != 1 {
			t.Fatalf("banned %v with %d failures, four of them from before the last ten minutes", i.Banned(), i.Failures())
		}
		w.Close()
	})
}

func TestListChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		i := w.instance()
		observe(i, "fff")
		if w.instance(address, other) != i || i.Failures() != 3 {
			t.Fatal("another instance in the list, and the first has lost its window")
		}
		observe(i, "ff")
		w.service.Retain([]netip.AddrPort{other}, anywhere)
		if again := w.instance(address, other); again != i || !again.Banned() {
			t.Fatal("leaving the list and coming back ended a ban")
		}
		w.service.Retain([]netip.AddrPort{other}, anywhere)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if again := w.instance(address, other); again == i || again.Banned() {
			t.Fatal("an instance that left was remembered beyond its ban")
		}
		w.Close()
	})
}

func TestGoneInstancesAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, model.Ban{})
		w.dead.Store(true)
		i := w.instance()
		w.service.Retain(nil, anywhere)
		observe(i, "rrrrrrrrrr")
		synctest.Wait()
		if i.Banned() {
			t.Fatal("an instance that nobody lists was banned")
		}
		j := w.instance()
		observe(j, "fffff")
		w.service.Close()
		probes := w.probes.Load()
		time.Sleep(time.Hour)
		if w.probes.Load() != probes {
			t.Fatalf("%d probes for a service that is gone", w.probes.Load()-probes)
		}
		w.Close()
	})
}

func TestCloseWaitsForProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		m := NewMonitor(func(ctx context.Context, _ netip.AddrPort, _ time.Duration) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended.Store(true)
			return ctx.Err()
		}, slog.New(slog.DiscardHandler))
		s := m.NewService("a", &model.Ban{}, func(*Instance, bool, Reason) { t.Error("a closed monitor judges") })
		i := s.Retain([]netip.AddrPort{address}, anywhere)[0]
		observe(i, "r")
		m.Close()
		if !ended.Load() {
			t.Fatal("Close returned while a probe ran")
		}
		observe(i, "rr")
	})
}

func TestDialProbe(t *testing.T) {
	if err := DialProbe(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), time.Second); err == nil {
		t.Fatal("nobody listens on port 1, and the probe says that he answers")
	}
}

func TestResultNames(t *testing.T) {
	for r := OK; r < results; r++ {
		parsed, ok := ParseResult(r.String())
		if want := r != Canceled; ok != want || (ok && parsed != r) {
			t.Errorf("ParseResult(%q) is %v, %v", r, parsed, ok)
		}
		if want := r != OK && r != Canceled; r.Failure() != want {
			t.Errorf("%v: Failure is %v", r, r.Failure())
		}
	}
	if _, ok := ParseResult("unknown"); ok {
		t.Error("an unknown result was parsed")
	}
}

func BenchmarkObserve(b *testing.B) {
	m := NewMonitor(DialProbe, slog.New(slog.DiscardHandler))
	defer m.Close()
	i := m.NewService("a", &model.Ban{}, func(*Instance, bool, Reason) {}).Retain([]netip.AddrPort{address}, anywhere)[0]
	b.ReportAllocs()
	for b.Loop() {
		i.Observe(i.Generation(), OK)
	}
}
