package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// world is a callee whose ports answer probes as the test says.
type world struct {
	*Monitor
	service *Service
	all     []*Instance
	dead    sync.Map    // addresses that refuse
	broke   atomic.Bool // this machine can't dial at all
	probes  atomic.Int32

	mu        sync.Mutex
	decisions []Decision
}

func policyOf(change func(*Policy)) *Policy {
	document := model.DefaultService("redis-main")
	p := &Policy{Ban: document.Ban, TrialTimeout: document.Timeouts.Normal.Total.Std()}
	if change != nil {
		change(p)
	}
	return p
}

func addressOf(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(n >> 8), byte(n + 1)}), 6379)
}

// inWorld runs a test in virtual time, with a callee of so many instances.
func inWorld(t *testing.T, size int, change func(*Policy), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(size, change)
		defer w.Close()
		test(t, w)
	})
}

func newWorld(size int, change func(*Policy)) *world {
	w := &world{}
	w.Monitor = NewMonitor(w.answer, rand.Uint64)
	w.service = w.NewService("redis-main", policyOf(change), func(_ *Instance, d *Decision) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.decisions = append(w.decisions, *d)
	}, nil)
	w.list(size)
	return w
}

func (w *world) answer(_ context.Context, address netip.AddrPort, _ time.Duration) error {
	w.probes.Add(1)
	if w.broke.Load() {
		return fmt.Errorf("dial: %w", syscall.EMFILE)
	}
	if _, dead := w.dead.Load(address); dead {
		return errors.New("connection refused")
	}
	return nil
}

// list makes the callee's list the first so many addresses.
func (w *world) list(size int) {
	members := make([]Member, size)
	for n := range members {
		members[n] = Member{Address: addressOf(n), Serving: true}
	}
	w.all = w.service.Retain(members, func(int) *Pulse { return new(Pulse) })
}

// observe feeds outcomes of the present generation: 'f' a read error, 'r' a refused connection, 'c' a cancellation, '.' ok.
func (w *world) observe(i *Instance, outcomes string) {
	for _, o := range outcomes {
		result := map[rune]Result{'f': ReadError, 'r': ConnectError, 'c': Canceled, '.': OK}[o]
		w.service.Record(0, &Observation{Instance: i, Slot: i.Slot(), Generation: i.Generation(), Result: result, Trial: i.State() > Out})
	}
	synctest.Wait()
}

// answers feeds answers with a status and a latency.
func (w *world) answers(in *Stratum, i *Instance, code uint16, latency time.Duration, times int) {
	for range times {
		w.service.Record(0, &Observation{
			Instance: i, Slot: i.Slot(), Stratum: in, Generation: i.Generation(), Code: code, Latency: latency, Trial: i.State() > Out,
		})
	}
}

// told returns the decisions of a kind so far.
func (w *world) told(kind Kind) (list []Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.decisions {
		if d.Kind == kind {
			list = append(list, d)
		}
	}
	return list
}

func TestMOfN(t *testing.T) {
	f := func(failures, of int, outcomes string, banned bool) {
		t.Helper()
		inWorld(t, 4, func(p *Policy) { p.Requests = &model.RequestBan{Failures: failures, Of: of} }, func(t *testing.T, w *world) {
			w.observe(w.all[0], outcomes)
			if w.all[0].Banned() != banned {
				t.Errorf("%d of %d: after %q banned is %v, not %v", failures, of, outcomes, w.all[0].Banned(), banned)
			}
		})
	}
	f(5, 10, "", false)
	f(5, 10, "ffff", false)
	f(5, 10, "fffff", true)
	f(5, 10, "f.f.f.f.f", true)
	f(5, 10, "f.f.f.f...f", false) // the first of the five has left the last ten
	f(5, 10, "f.f.f.f.cccccccf", true)
	f(5, 10, "cccccccccc", false)
	f(5, 10, "rrrr", false) // the port answers the probe: no proof
	f(5, 10, "rrrrr", true) // but five of ten are five of ten
	f(1, 1, "f", true)
	f(2, 2, "f.f.f", false)
	f(2, 2, "f.ff", true)
	f(64, 64, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", true)
	f(64, 64, "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff.", false)
}

// The sequential test, among others that don't fail: p0 is 0.02, a failure adds ln(25) = 3.22, a success ln(0.5/0.98) = −0.67.
func TestSequentialTest(t *testing.T) {
	f := func(outcomes string, banned bool) {
		t.Helper()
		inWorld(t, 4, nil, func(t *testing.T, w *world) {
			for _, other := range w.all[1:] {
				w.observe(other, "..........")
			}
			w.observe(w.all[0], outcomes)
			if w.all[0].Banned() != banned {
				t.Errorf("after %q banned is %v, not %v: %+v", outcomes, w.all[0].Banned(), banned, w.all[0].Explain().Sequential)
			}
		})
	}
	f("ffffff", false)
	f("fffffff", true) // 7 · 3.22 ≥ 20
	f("f.f.f.f.f.f.f.", false)
	f("f.f.f.f.f.f.f.f", true) // 8 · 3.22 − 7 · 0.67 = 21.0
	f("f.....f.....f.....f.....f.....f.....f.....f.....f.....", false)
	f("ffffffccccccc", false)
}

func TestSuccessesNeverAddToTheScore(t *testing.T) {
	for _, p0 := range []float64{0.02, 0.2, 0.34, 0.35, 0.5, 0.9, 1} {
		test := sequential{score: 10, p0: p0}
		if test.success(1); !(test.score < 10) {
			t.Errorf("p0 %v: a success makes a score of 10 %v", p0, test.score)
		}
	}
}

func TestServiceFaultBansNobodyBySuspicion(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		for range 25 {
			for _, i := range w.all {
				w.observe(i, "....")
			}
		}
		for range 100 { // all fail at once
			for _, i := range w.all {
				w.observe(i, "f")
			}
		}
		if bans := w.told(Banned); len(bans) != 0 {
			t.Errorf("%+v", bans)
		}
		if p0 := w.all[0].Explain().Sequential.P0; p0 < faultShare {
			t.Errorf("p0 is %v while all fail", p0)
		}
	})
}

// Of 1,000 instances with two outcomes each, of which 20 % fail, the worst 30 % must not be left out as if they were bad: the
// share of failures among the others is 20 %.
func TestPeersOfManyInstances(t *testing.T) {
	inWorld(t, 1000, nil, func(t *testing.T, w *world) {
		for n, i := range w.all {
			w.service.mu.Lock()
			i.known()
			for k := range 2 {
				w.service.peers.pass(i)
				w.service.peers.add(i, 1, 0)
				if (2*n+k)%5 == 0 {
					i.past.recent.fail[0]++
				}
			}
			w.service.mu.Unlock()
		}
		w.service.mu.Lock()
		p0 := w.service.p0(w.all[0])
		w.service.mu.Unlock()
		if p0 < 0.17 || p0 > 0.23 {
			t.Errorf("the others' share is %v", p0)
		}
	})
}

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

func TestBackByProbeAndTrials(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.dead.Store(i.Address, true)
		w.observe(i, "r")
		time.Sleep(25 * time.Second) // two ends of its time, two failed probes
		if !i.Banned() || w.probes.Load() != 3 || len(w.told(Extended)) != 2 {
			t.Fatalf("banned %v after %d probes of a dead port, %+v", i.Banned(), w.probes.Load(), w.told(Extended))
		}
		w.dead.Clear()
		time.Sleep(11 * time.Second)
		if i.State() != Trying {
			t.Fatalf("state %v after the port answered", i.State())
		}
		if !i.Try(1, time.Second) || i.Try(2, time.Second) {
			t.Fatal("not one trial at a time")
		}
		if !i.Try(time.Second+1, time.Second) {
			t.Fatal("a trial of which nobody tells blocks for ever")
		}
		if i.Tried(1); i.Try(time.Second+2, time.Second) {
			t.Fatal("the end of the trial before has ended this one")
		}
		if i.Tried(time.Second + 1); !i.Try(time.Second+2, time.Second) {
			t.Fatal("a trial that has ended blocks the next")
		}
		w.observe(i, "..")
		if i.State() != Trying {
			t.Fatal("two successes suffice")
		}
		w.observe(i, ".")
		if i.State() != Up || len(w.told(Reopened)) != 1 {
			t.Fatalf("state %v after three successes", i.State())
		}
	})
}

func TestRelapse(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "fffffff")
		time.Sleep(12 * time.Second)
		w.observe(i, ".f")
		again := w.told(Relapsed)
		if !i.Banned() || len(again) != 1 || again[0].Duration < 18*time.Second || again[0].Duration > 22*time.Second {
			t.Fatalf("state %v, %+v after a trial failed", i.State(), again)
		}
	})
}

// Where nobody tells what came of the trials, three probes stand for them.
func TestProbesStandForUnreportedTrials(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "fffffff")
		time.Sleep(11*time.Second + 10*time.Second + 2*time.Second)
		synctest.Wait()
		if i.State() != Up || w.probes.Load() != 4 {
			t.Fatalf("state %v after %d probes", i.State(), w.probes.Load())
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

func TestLateOutcomesChangeNothing(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		before := i.Generation()
		w.observe(i, "fffffff")
		for range 20 {
			w.service.Record(0, &Observation{Instance: i, Slot: i.Slot(), Generation: before, Result: ReadError})
		}
		time.Sleep(12 * time.Second)
		w.observe(i, "...")
		for range 20 {
			w.service.Record(0, &Observation{Instance: i, Slot: i.Slot(), Generation: before, Result: ReadError})
		}
		if c := i.Counts(); i.State() != Up || c.Score != 0 || c.Outcomes[ReadError] != 47 || c.Bans != 1 {
			t.Fatalf("attempts begun before the ban count after it: state %v, %+v", i.State(), c)
		}
	})
}

func TestOldFailuresAreForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.observe(w.all[0], "ffffff")
		time.Sleep(forget + time.Second)
		w.observe(w.all[0], "f")
		if score := w.all[0].Counts().Score; w.all[0].Banned() || score > 4 {
			t.Fatalf("score %v, of it six failures from before the last ten minutes", score)
		}
	})
}

func TestListChanges(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[3]
		w.observe(i, "fff")
		w.list(5)
		if w.all[3] != i || i.Counts().Score < 9 {
			t.Fatal("another instance in the list, and the first has lost its past")
		}
		w.observe(i, "ffff")
		w.list(3)
		w.list(4)
		if w.all[3] != i || !i.Banned() {
			t.Fatal("leaving the list and coming back ended a ban")
		}
		w.list(3)
		time.Sleep(12 * time.Second)
		synctest.Wait()
		w.list(4)
		if w.all[3] == i || w.all[3].Banned() {
			t.Fatal("an instance that left was remembered beyond its ban")
		}
		w.observe(w.all[3], "f")
		if score := w.all[3].Counts().Score; score > 4 {
			t.Fatalf("its successor in the slot inherits a score of %v", score)
		}
	})
}

func TestGoneInstancesAreLeftAlone(t *testing.T) {
	inWorld(t, 2, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.dead.Store(i.Address, true)
		w.list(0)
		w.observe(i, "rrrrrrrrrr")
		if i.Banned() {
			t.Fatal("an instance that nobody lists was banned")
		}
		w.list(2)
		w.observe(w.all[0], "rr")
		w.service.Close()
		probes := w.probes.Load()
		time.Sleep(time.Hour)
		if w.probes.Load() != probes {
			t.Fatalf("%d probes for a service that is gone", w.probes.Load()-probes)
		}
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
		}, rand.Uint64)
		s := m.NewService("a", policyOf(nil), func(_ *Instance, d *Decision) { t.Errorf("a closed monitor judges: %+v", d) }, nil)
		i := s.Retain([]Member{{Address: addressOf(0), Serving: true}}, func(int) *Pulse { return new(Pulse) })[0]
		s.Record(0, &Observation{Instance: i, Result: ConnectError})
		m.Close()
		if !ended.Load() {
			t.Fatal("Close returned while a probe ran")
		}
		s.Record(0, &Observation{Instance: i, Result: ConnectError})
	})
}

func TestNeighbour(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "connection refused")
		if ban, _ := i.Ban(); !i.Banned() || ban.Reason != ByNeighbour {
			t.Fatalf("%+v", ban)
		}
		w.service.Untold(i.Address)
		if i.State() != Up {
			t.Fatal("banned after the neighbour took it back")
		}
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "")
		time.Sleep(50 * time.Second)
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Minute), "")
		time.Sleep(time.Minute)
		if i.State() != Out {
			t.Fatal("the neighbour has prolonged it")
		}
		time.Sleep(silence + time.Second)
		if i.State() != Up {
			t.Fatal("banned for ever, since the neighbour is silent")
		}
		w.service.Told(addressOf(77), ByProof, time.Now().Add(time.Minute), "") // nobody
		if synctest.Wait(); len(w.told(Banned)) != 2 || w.probes.Load() != 2 {  // a probe at each end
			t.Fatalf("%d bans, %d probes", len(w.told(Banned)), w.probes.Load())
		}
	})
}

// A neighbour that has ended takes nothing back: whom he had banned is dead as before.
func TestWhomANeighbourTellsOfNoMoreIsProbed(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(0), true)
		w.service.Told(addressOf(0), ByProof, time.Now().Add(time.Minute), "")
		w.service.Untold(addressOf(0))
		synctest.Wait()
		if ban, banned := w.all[0].Ban(); !banned || ban.Reason != ByProof {
			t.Errorf("%+v", ban)
		}
	})
}

func TestChecks(t *testing.T) {
	check := model.Check{Interval: model.Duration(5 * time.Second), Type: "tcp"}
	inWorld(t, 4, func(p *Policy) { p.Check = &check }, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(2), true)
		time.Sleep(time.Minute)
		if n := w.probes.Load(); n != 0 {
			t.Fatalf("%d checks though nobody asked", n)
		}
		w.service.Asked()
		time.Sleep(6 * time.Second)
		if !w.all[2].Banned() || w.all[0].Counts().Outcomes[OK] == 0 {
			t.Fatalf("banned %v, outcomes %v after a round of checks", w.all[2].Banned(), w.all[0].Counts().Outcomes)
		}
		time.Sleep(10 * time.Minute)
		n := w.all[0].Counts().Outcomes[OK]
		if n < 50 || n > 72 { // for 5 minutes each 5 s
			t.Errorf("%d checks of one instance in 5 minutes", n)
		}
		time.Sleep(10 * time.Minute)
		if more := w.all[0].Counts().Outcomes[OK]; more != n {
			t.Errorf("%d checks more, long after anybody asked", more-n)
		}
	})
}

func TestDecisionsAreBounded(t *testing.T) {
	inWorld(t, 2, nil, func(t *testing.T, w *world) {
		for n := range 300 {
			w.service.Told(addressOf(n%2), ByProof, time.Now().Add(time.Minute), "")
			w.service.Untold(addressOf(n % 2))
		}
		all, one := w.service.Decisions(netip.AddrPort{}), w.service.Decisions(addressOf(0))
		if len(all) != mostDecisions || len(one) != mostDecisions/2 || all[99].Kind != Reopened {
			t.Errorf("%d decisions are remembered, %d of one instance", len(all), len(one))
		}
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

func TestConcurrentOutcomes(t *testing.T) {
	w := newWorld(8, nil)
	defer w.Close()
	in := NewStratum("caller web")
	var wait sync.WaitGroup
	for stripe := range uint32(4) {
		wait.Go(func() {
			for n := range 20_000 {
				i := w.all[n%len(w.all)]
				o := Observation{Instance: i, Slot: i.Slot(), Stratum: in, Generation: i.Generation(), Code: 200, Latency: time.Millisecond}
				if n%97 == 0 {
					o.Result = ReadTimeout
				}
				w.service.Record(stripe, &o)
			}
		})
	}
	wait.Wait()
	total := uint64(0)
	for _, i := range w.all {
		for _, n := range i.Counts().Outcomes {
			total += n
		}
	}
	if total != 80_000 {
		t.Errorf("%d outcomes of 80,000 were counted", total)
	}
}

func BenchmarkRecord(b *testing.B) {
	w := newWorld(1000, nil)
	defer w.Close()
	in := NewStratum("caller web")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := w.all[n%1000]
		n++
		w.service.Record(0, &Observation{Instance: i, Slot: i.Slot(), Stratum: in, Code: 200, Latency: time.Millisecond})
	}
}

// A list that changes while an instance is half open leaves the counts of its group right.
func TestListChangesWhileHalfOpen(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "fffffff")
		time.Sleep(12 * time.Second)
		if i.State() != Trying {
			t.Fatalf("state %v", i.State())
		}
		w.list(5)
		if g := i.Explain().Group; g.Left != 4 || g.Suspects != 1 {
			t.Errorf("half open: %+v", g)
		}
		w.observe(i, "...")
		if g := i.Explain().Group; g.Left != 5 || g.Suspects != 0 || g.Serving != 5 {
			t.Errorf("after its return: %+v", g)
		}
	})
}

// Who has left the list is nobody's peer, whatever of his outcomes waited to be counted.
func TestWhoHasLeftIsNobodysPeer(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 3 {
			for _, i := range w.all {
				w.answers(in, i, 200, time.Millisecond, 10)
			}
			w.service.catchUp()
			w.list(0)
			w.list(4)
		}
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		if n := len(w.service.peers.all); n != 0 {
			t.Errorf("%d instances that left are compared with", n)
		}
	})
}

// Who leaves the list amid trials by traffic is forgotten when nobody has told of one for long.
func TestWhoLeavesAmidRareTrialsIsForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{3: 5}, 404)
		}
		time.Sleep(12 * time.Second)
		i := w.all[3]
		if i.State() != Rarely {
			t.Fatalf("state %v", i.State())
		}
		w.list(3)
		time.Sleep(time.Second)
		w.list(4)
		time.Sleep(time.Minute)
		if w.all[3] != i || i.State() != Rarely {
			t.Fatalf("state %v of who came back at once", w.all[3].State())
		}
		w.list(3)
		time.Sleep(forget)
		w.list(0)
		if w.service.Remembers() {
			t.Error("remembered for ever")
		}
	})
}

// Trials by traffic that nobody tells of don't go on for ever.
func TestRareTrialsThatNobodyTellsOfEnd(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{3: 5}, 404)
		}
		time.Sleep(12 * time.Second)
		w.answered(in, 1, nil, 0) // a trial, too
		time.Sleep(forget)
		if state := w.all[3].State(); state != Rarely {
			t.Fatalf("state %v when the last trial is not long ago", state)
		}
		time.Sleep(forget)
		if state := w.all[3].State(); state != Up {
			t.Errorf("state %v after 10 minutes without a trial", state)
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

// What is compared of a callee that nobody calls any more is forgotten.
func TestASilentCalleesStrataAreForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		w.answered(in, 5, nil, 0)
		time.Sleep(strataLife)
		if len(in.cells) == 0 {
			t.Fatal("forgotten too soon")
		}
		time.Sleep(quiet * 2 * time.Second)
		if w.service.mu.Lock(); len(in.cells) > 0 || len(w.service.strata) > 0 {
			t.Error("never forgotten")
		}
		w.service.mu.Unlock()
		w.answered(in, 5, nil, 0)
		if w.service.catchUp(); len(in.cells) == 0 {
			t.Error("not known again")
		}
	})
}

func TestWhoHasLeftIsForgottenWhenTheNeighbourTakesHisBanBack(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.service.Told(addressOf(3), ByProof, time.Now().Add(time.Minute), "")
		w.list(0)
		w.service.Untold(addressOf(3))
		time.Sleep(time.Hour)
		if w.service.Remembers() {
			t.Error("remembered for ever")
		}
	})
}

// A port that answers is no trial of an instance that was banned for what it answers.
func TestChecksEndNoBanByDeviation(t *testing.T) {
	check := model.Check{Interval: model.Duration(5 * time.Second), Type: "tcp"}
	inWorld(t, 4, func(p *Policy) { p.Check = &check }, func(t *testing.T, w *world) {
		w.service.Asked()
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{1: 5}, 404)
		}
		time.Sleep(3 * time.Minute)
		if state := w.all[1].State(); state != Rarely {
			t.Fatalf("state %v by checks alone", state)
		}
		w.service.Asked()
		w.dead.Store(addressOf(1), true)
		time.Sleep(6 * time.Second)
		if state := w.all[1].State(); state != Out {
			t.Errorf("state %v though its port is dead", state)
		}
	})
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

// What a neighbour banned, and told webhooks of, isn't added to an own ban of long after.
func TestNeighboursBansDontMakeOwnOnesLong(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.service.Told(i.Address, ByProof, time.Now().Add(time.Hour), "")
		time.Sleep(time.Hour)
		w.service.Untold(i.Address)
		for range 24 {
			time.Sleep(time.Hour)
			w.observe(i, "....................")
		}
		w.dead.Store(i.Address, true)
		w.observe(i, "r")
		bans := w.told(Banned)
		if last := bans[len(bans)-1]; last.Reason != ByProof || last.BannedFor != 0 {
			t.Errorf("a first ban counts as one of %v", last.BannedFor)
		}
	})
}

// A rule that comes back doesn't count what came before it, and while it is away nothing stays for its sake.
func TestRequestsRuleThatComesBack(t *testing.T) {
	rule := func(p *Policy) { p.Requests = &model.RequestBan{Failures: 5, Of: 10} }
	inWorld(t, 4, rule, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "ffff")
		w.service.SetPolicy(policyOf(nil))
		w.observe(i, "..............................")
		i.Counts() // judges what waits
		if w.service.dirty[i.slot] {
			t.Error("something is held against it after 30 successes")
		}
		w.service.SetPolicy(policyOf(rule))
		if w.observe(i, "f"); i.Banned() {
			t.Error("banned for failures of before 30 successes")
		}
	})
}

func TestPeersLeaveInAnyOrder(t *testing.T) {
	inWorld(t, 50, nil, func(t *testing.T, w *world) {
		for _, i := range w.all {
			w.observe(i, ".")
		}
		w.service.catchUp()
		p := &w.service.peers
		for _, n := range []int{49, 0, 20, 21, 48, 1, 20} {
			w.service.mu.Lock()
			p.drop(w.all[n])
			w.service.mu.Unlock()
		}
		if len(p.all) != 44 {
			t.Errorf("%d peers are left of 50 when six have gone", len(p.all))
		}
		for n, i := range p.all {
			if i.past.recent.place != n+1 {
				t.Errorf("%s is in place %d, and takes itself to be in %d", i.Address, n+1, i.past.recent.place)
			}
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

func TestNeighboursBanOfThousandsOfYears(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		w.service.Told(addressOf(0), ByProof, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "")
		if !w.all[0].Banned() {
			t.Fatal("not banned")
		}
		time.Sleep(mostTold + silence + time.Second)
		if w.all[0].Banned() {
			t.Error("banned for ever by who hasn't been heard for days")
		}
	})
}

// That this machine can't dial doesn't make one of whom nothing was heard one that refuses.
func TestOwnFaultsBreakNoSilence(t *testing.T) {
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
