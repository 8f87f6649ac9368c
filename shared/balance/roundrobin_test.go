package balance

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// turns returns the picks of one stripe.
func turns(policy Policy, n int, stripe uint32) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = policy.Pick(&Request{Stripe: stripe})
	}
	return list
}

func TestEqualWeightsTakeTurns(t *testing.T) {
	policy := New(model.RoundRobin, members(3, 100), 3, NewMemory(0<<32))
	if got := turns(policy, 7, 5); !slices.Equal(got, []int{0, 1, 2, 0, 1, 2, 0}) {
		t.Errorf("%v", got)
	}
}

func TestTheTurnSurvivesAChange(t *testing.T) {
	memory := NewMemory(0 << 32)
	turns(New(model.RoundRobin, members(5, 100), 5, memory), 3, 0)
	if got := turns(New(model.RoundRobin, members(5, 100), 5, memory), 3, 0); !slices.Equal(got, []int{3, 4, 0}) {
		t.Errorf("after 0, 1, 2 came %v", got)
	}
}

// Requests that come one by one see the members in their order, whatever their stripes.
func TestQuietStripesShareTheOrder(t *testing.T) {
	memory := &Memory{stripes: make([]stripe, 4)}
	policy := New(model.RoundRobin, members(7, 100), 7, memory)
	for n := range 1000 {
		if got := policy.Pick(&Request{Stripe: uint32(n * n), Now: time.Duration(n+1) * time.Millisecond}); got != n%7 {
			t.Fatalf("request %d went to %d", n, got)
		}
	}
}

func TestEachTurnIsGivenOnce(t *testing.T) {
	memory := &Memory{stripes: make([]stripe, 4)}
	const users, each = 8, 20_000
	given := make([][]uint64, users)
	var running sync.WaitGroup
	for user := range users {
		running.Go(func() {
			for n := range each {
				given[user] = append(given[user], memory.turn(uint32(user), time.Duration(n)*hotTurn/3))
			}
		})
	}
	running.Wait()
	all := slices.Concat(given...)
	slices.Sort(all)
	if distinct := slices.Compact(all); len(distinct) != users*each || distinct[len(distinct)-1] > users*each+4*mostTurns {
		t.Errorf("%d turns were given %d numbers, up to %d", users*each, len(distinct), distinct[len(distinct)-1])
	}
}

func TestStripesOfAMemory(t *testing.T) {
	n := len(NewMemory(rand.Uint64()).stripes)
	if n < 1 || n > mostStripes || n&(n-1) != 0 {
		t.Errorf("%d stripes", n)
	}
}

// Any cycle of W turns, wherever it begins, gives each member as many as its weight.
func TestACycleIsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		list := members(1+random.IntN(12), 0)
		for i := range list {
			list[i].Weight = (1 + random.IntN(40)) * 10
		}
		policy := New(model.RoundRobin, list, 12, NewMemory(rand.Uint64())).(*roundRobin)
		turns(policy, random.IntN(100), 0)
		counts := make([]uint64, len(list))
		for _, member := range turns(policy, int(policy.total), 0) {
			counts[member]++
		}
		for i := range list {
			if counts[i] != policy.weight(i) {
				t.Fatalf("weights %v: member %d had %d turns of %d", weightsOf(list), i, counts[i], policy.total)
			}
		}
	}
}

func TestTurnsAreSpread(t *testing.T) {
	policy := New(model.RoundRobin, members(3, 50, 10, 10), 3, NewMemory(rand.Uint64()))
	got := turns(policy, 70, 0)
	for i := 1; i < len(got); i++ {
		if got[i] == got[i-1] && got[i] != 0 {
			t.Errorf("%d twice in a row: %v", got[i], got)
		}
	}
}

// Nobody waits for three times what is his interval on average.
func TestNobodyWaitsLong(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for range 100 {
		list := members(2+random.IntN(60), 0)
		most := []int{3, 10, 100, 1000}[random.IntN(4)]
		for i := range list {
			list[i].Weight = 1 + random.IntN(most)
		}
		policy := newRoundRobin(list, NewMemory(rand.Uint64()))
		total := int(policy.total)
		last := map[int]int{}
		for turn, member := range turns(policy, min(2*total, 50_000), 0) {
			weight := int(policy.weight(member))
			if before, ok := last[member]; ok && (turn-before-1)*weight > 3*total {
				t.Fatalf("weights %v: %d waited from %d to %d", weightsOf(list), member, before, turn)
			}
			last[member] = turn
		}
	}
}

// 10,000 members of weights about 1,000,000 have a cycle of 10¹⁰ turns: it must be fair long before its end.
func TestALongCycleIsFairEarly(t *testing.T) {
	list := members(10_000, 0)
	for i := range list {
		list[i].Weight = mostWeight - i
	}
	policy := newRoundRobin(list, NewMemory(rand.Uint64()))
	counts := make([]int, len(list))
	for _, member := range turns(policy, 50_000, 0) {
		counts[member]++
	}
	for member, count := range counts {
		if count < 3 || count > 7 {
			t.Errorf("member %d had %d of 50,000 turns, not about 5", member, count)
		}
	}
}

func TestGoldenStepIsCoprime(t *testing.T) {
	f := func(total uint64) {
		t.Helper()
		step := goldenStep(total)
		if step == 0 || step >= total || gcd(step, total) != 1 {
			t.Errorf("the step of %d is %d", total, step)
		}
	}
	for total := uint64(2); total < 5000; total++ {
		f(total)
	}
	f(2 * 3 * 5 * 7 * 11 * 13 * 17 * 19 * 23 * 29) // none up to mostWeight for 10,000 members has more prime factors
	f(10_000 * mostWeight)
}

func TestManyTakeTurns(t *testing.T) {
	const n, cycles, workers = 7, 300, 8
	policy := New(model.RoundRobin, members(n, 100), n, NewMemory(rand.Uint64()))
	var chosen [n]atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n * cycles {
				chosen[policy.Pick(&Request{})].Add(1)
			}
		})
	}
	wg.Wait()
	for i := range chosen {
		// The turns that the stripe has left are in a row: they make one more or less.
		if got := chosen[i].Load(); got < cycles*workers-1 || got > cycles*workers+1 {
			t.Errorf("member %d was chosen %d times, not %d", i, got, cycles*workers)
		}
	}
}
