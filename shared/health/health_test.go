package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
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

// What is compared of a callee that nobody calls any more is forgotten.
func TestASilentCalleesStrataAreForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		w.answered(in, 5, nil, 0)
		time.Sleep(strataLife - time.Second)
		w.service.mu.Lock()
		known := len(in.cells)
		w.service.mu.Unlock()
		if known == 0 {
			t.Fatal("forgotten too soon")
		}
		time.Sleep(quiet * 2 * time.Second)
		if w.service.mu.Lock(); len(in.cells) > 0 || len(w.service.strata) > 0 {
			t.Error("never forgotten")
		}
		w.service.mu.Unlock()
		w.answered(in, 5, nil, 0)
		if w.service.CatchUp(); len(in.cells) == 0 {
			t.Error("not known again")
		}
	})
}
