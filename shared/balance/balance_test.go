package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

var policies = []model.BalancePolicy{
	model.RoundRobin, model.Random, model.LeastRequest, model.EWMA, model.ConsistentHash,
}

// members returns a list whose weights are these, again and again.
func members(n int, weights ...int) []Member {
	list := make([]Member, n)
	for i := range list {
		list[i] = Member{
			Target: &Target{},
			Weight: weights[i%len(weights)],
			Name:   fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255),
		}
	}
	return list
}

// picks counts what a policy picks for so many calls of random keys.
func picks(policy Policy, members, calls int, r Request) []int {
	counts := make([]int, members)
	random := rand.New(rand.NewPCG(3, 4))
	for range calls {
		r.Hash = random.Uint64()
		counts[policy.Pick(&r)]++
	}
	return counts
}

// likely fails the test if random choices by these weights would give such counts less than once in a thousand million
// times: chi-square, its quantile after Wilson and Hilferty.
func likely(t *testing.T, title any, counts []int, weights ...float64) {
	t.Helper()
	calls, sum, freedom := 0, 0.0, -1.0
	for i := range counts {
		calls += counts[i]
		sum += weights[i]
		if weights[i] > 0 {
			freedom++
		}
	}
	var chi float64
	for i, weight := range weights {
		if weight == 0 {
			if counts[i] > 0 {
				t.Errorf("%v: %v, but %d should have nothing", title, counts, i)
			}
			continue
		}
		expected := float64(calls) * weight / sum
		chi += (float64(counts[i]) - expected) * (float64(counts[i]) - expected) / expected
	}
	part := 2 / (9 * freedom)
	if limit := freedom * math.Pow(1-part+6*math.Sqrt(part), 3); chi > limit {
		t.Errorf("%v: %v is unlikely for weights of %v: chi-square %.1f, limit %.1f", title, counts, weights, chi, limit)
	}
}

func TestSharesGoByWeight(t *testing.T) {
	for _, name := range policies[:4] { // consistent hash has tests of its own
		list := members(5, 50, 10, 10, 30, 0)
		policy := New(name, list, 5, NewMemory(rand.Uint64()))
		likely(t, name, picks(policy, 5, 40_000, Request{}), 5, 1, 1, 3, 0)
	}
}

// The requests of a dead member must not all go to one other.
func TestRetriesSpread(t *testing.T) {
	for _, name := range policies {
		list := members(4, 100)
		policy := New(name, list, 4, NewMemory(rand.Uint64()))
		counts := picks(policy, 4, 30_000, Request{Tried: []*Target{list[1].Target}})
		if name != model.ConsistentHash {
			likely(t, name, counts, 1, 0, 1, 1)
		} else if counts[1] > 0 || min(counts[0], counts[2], counts[3]) < 5000 {
			t.Errorf("%s: %v", name, counts)
		}
	}
}

// A dominant member is drawn again and again; the others must still get a retry by their weights.
func TestRetriesBesideADominantMember(t *testing.T) {
	for _, name := range policies[:4] {
		list := members(4, 900_000, 100, 100, 200)
		policy := New(name, list, 4, NewMemory(rand.Uint64()))
		counts := picks(policy, 4, 20_000, Request{Tried: []*Target{list[0].Target}})
		likely(t, name, counts, 0, 1, 1, 2)
	}
}

func TestEachMemberIsTriedOnce(t *testing.T) {
	for _, name := range policies {
		for _, weights := range [][]int{{100}, {1, 1_000_000, 30}, {0}} {
			for size := 1; size <= 7; size++ {
				list := members(size, weights...)
				policy := New(name, list, size, NewMemory(rand.Uint64()))
				r := Request{Hash: 7}
				seen := map[int]bool{}
				for range size {
					member := policy.Pick(&r)
					if member < 0 || seen[member] {
						t.Fatalf("%s of %d with weights %v: picked %d after %v", name, size, weights, member, seen)
					}
					seen[member] = true
					r.Tried = append(r.Tried, list[member].Target)
				}
				if member := policy.Pick(&r); member != -1 {
					t.Fatalf("%s: picked %d when all were tried", name, member)
				}
			}
		}
	}
}

func TestNobody(t *testing.T) {
	for _, name := range policies {
		if member := New(name, nil, 3, NewMemory(rand.Uint64())).Pick(&Request{}); member != -1 {
			t.Errorf("%s picked %d of nobody", name, member)
		}
	}
}

func TestWeightsOfZero(t *testing.T) {
	for _, name := range policies {
		none := New(name, members(3, 0), 3, NewMemory(rand.Uint64()))
		for member, count := range picks(none, 3, 3000, Request{}) {
			if count < 500 {
				t.Errorf("%s: all have a weight of 0, and member %d got %d of 3000", name, member, count)
			}
		}
		list := members(3, 1, 0, -5)
		some := New(name, list, 3, NewMemory(rand.Uint64()))
		if counts := picks(some, 3, 1000, Request{}); counts[0] != 1000 {
			t.Errorf("%s: weights 1, 0, −5 got %v", name, counts)
		}
		if member := some.Pick(&Request{Tried: []*Target{list[0].Target}}); member != -1 {
			t.Errorf("%s picked %d, whose weight is 0", name, member)
		}
	}
}

func TestPenaltyCutsTheShare(t *testing.T) {
	for _, name := range policies[:4] {
		list := members(4, 100)
		list[2].Target.Penalize(time.Second, 0.25)
		policy := New(name, list, 4, NewMemory(rand.Uint64()))
		likely(t, name, picks(policy, 4, 30_000, Request{Now: time.Second}), 1, 1, 0.25, 1)
		list = members(3, 20, 10)
		list[0].Target.Penalize(time.Second, 0.5)
		policy = New(name, list, 3, NewMemory(rand.Uint64()))
		counts := picks(policy, 3, 30_000, Request{Now: time.Second, Tried: []*Target{list[1].Target}})
		likely(t, name, counts, 1, 0, 2)
	}
}

// When nobody has his whole share, as after a start of the callee, all are still used.
func TestAllInSlowStart(t *testing.T) {
	for _, name := range policies {
		list := members(4, 100)
		for _, m := range list {
			m.Target.SlowStart(time.Second)
		}
		policy := New(name, list, 4, NewMemory(rand.Uint64()))
		counts := picks(policy, 4, 8000, Request{Now: time.Second})
		for member, count := range counts {
			if count < 1000 {
				t.Errorf("%s: member %d got %d of 8000: %v", name, member, count, counts)
			}
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, name := range policies {
		for _, weights := range [][]int{{100}, {100, 7, 3000}} {
			list := members(30, weights...)
			busy(list)
			list[3].Target.SlowStart(time.Second)
			list[4].Target.Penalize(time.Second, 0.1)
			memory := NewMemory(rand.Uint64())
			policy := New(name, list, 30, memory)
			tried := []*Target{list[0].Target, list[1].Target}
			r := Request{Now: time.Second}
			allocs := testing.AllocsPerRun(1000, func() {
				r.Hash += 0x9e3779b97f4a7c15
				r.Tried = tried[:r.Hash>>62%3]
				member := policy.Pick(&r)
				list[member].Target.Began()
				memory.Began(r.Stripe)
				memory.Ended(r.Stripe)
				list[member].Target.Ended(r.Now, time.Millisecond, r.Hash&1 > 0)
			})
			if allocs != 0 {
				t.Errorf("%s allocates %v times a call", name, allocs)
			}
		}
	}
}

// Many goroutines at once, over lists that change: for the race detector, and for the sums.
func TestManyAtOnce(t *testing.T) {
	const workers, calls = 8, 3000
	for _, name := range policies {
		list := members(20, 100, 50, 300)
		memory := NewMemory(rand.Uint64())
		var current atomic.Pointer[Policy]
		change := func(length int) {
			policy := New(name, list[:length], len(list), memory)
			current.Store(&policy)
		}
		change(20)
		var wg sync.WaitGroup
		for worker := range workers {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(worker), 5))
				for call := range calls {
					r := Request{Hash: random.Uint64(), Stripe: uint32(worker), Now: time.Duration(call) * time.Millisecond}
					for range 2 {
						target := list[(*current.Load()).Pick(&r)].Target
						target.Began()
						memory.Began(r.Stripe)
						r.Tried = append(r.Tried, target)
					}
					for i, target := range r.Tried {
						target.Ended(r.Now, time.Duration(random.IntN(1e6)), call%10 == 0)
						memory.Ended(r.Stripe + uint32(i))
					}
					switch {
					case call%100 == 0:
						r.Tried[0].Penalize(r.Now, 0.5)
					case call%151 == 0:
						r.Tried[0].SlowStart(r.Now)
					case call%333 == 0:
						change(15 + random.IntN(6))
					}
				}
			})
		}
		wg.Wait()
		for i := range list {
			if n := list[i].Target.InFlight(); n != 0 {
				t.Errorf("%s: member %d has %d in flight at the end", name, i, n)
			}
		}
		if n := memory.total(); n != 0 {
			t.Errorf("%s: %d in flight at the end", name, n)
		}
	}
}

func TestTracks(t *testing.T) {
	for name, want := range map[model.BalancePolicy]bool{
		model.RoundRobin: false, model.Random: false, model.LeastRequest: true, model.EWMA: true, model.ConsistentHash: true,
	} {
		if Tracks(name) != want {
			t.Errorf("Tracks(%s) isn't %v", name, want)
		}
	}
}
