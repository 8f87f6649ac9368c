package balance

import (
	"sync"
	"sync/atomic"
	"testing"
)

func targets(n int) []*Target {
	all := make([]*Target, n)
	for i := range all {
		all[i] = &Target{}
	}
	return all
}

func TestRoundRobinIsEven(t *testing.T) {
	const n, rounds, workers = 7, 300, 4
	all := targets(n)
	var policy RoundRobin
	var chosen [n]atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n * rounds {
				chosen[policy.Pick(all, &Request{})].Add(1)
			}
		})
	}
	wg.Wait()
	for i := range chosen {
		if got := chosen[i].Load(); got != rounds*workers {
			t.Errorf("target %d was chosen %d times, not %d", i, got, rounds*workers)
		}
	}
}

func TestRoundRobinLeavesOutTried(t *testing.T) {
	all := targets(3)
	var policy RoundRobin
	for range 10 {
		request := Request{}
		seen := map[int]bool{}
		for range all {
			index := policy.Pick(all, &request)
			if index < 0 || seen[index] {
				t.Fatalf("picked %d after %v", index, seen)
			}
			seen[index] = true
			request.Tried = append(request.Tried, all[index])
		}
		if index := policy.Pick(all, &request); index != -1 {
			t.Fatalf("picked %d when all were tried", index)
		}
	}
}

// Whoever asks for several must find each in front as often as the others: most use the first.
func TestRoundRobinOfSeveralIsEven(t *testing.T) {
	all := targets(4)
	for several := 1; several <= 4; several++ {
		var policy RoundRobin
		var first [4]int
		for range 400 {
			var request Request
			for n := range several {
				index := policy.Pick(all, &request)
				if n == 0 {
					first[index]++
				}
				request.Tried = append(request.Tried, all[index])
			}
		}
		if first != [4]int{100, 100, 100, 100} {
			t.Errorf("of %d at once the first were %v", several, first)
		}
	}
}

// The requests of a dead target must not all go to one other.
func TestRetriesSpread(t *testing.T) {
	all := targets(4)
	var policy RoundRobin
	var second [4]int
	for range 4000 {
		request := Request{}
		if index := policy.Pick(all, &request); index == 1 {
			request.Tried = append(request.Tried, all[index])
			second[policy.Pick(all, &request)]++
		}
	}
	// From a random start the one behind the dead is met twice as often as each of the others.
	if second[1] != 0 || second[0] < 150 || second[2] > 650 || second[3] < 150 {
		t.Errorf("1000 retries went to %v", second)
	}
}

func TestRoundRobinOfNobody(t *testing.T) {
	var policy RoundRobin
	if index := policy.Pick(nil, &Request{}); index != -1 {
		t.Fatalf("picked %d of nobody", index)
	}
}

func BenchmarkRoundRobin(b *testing.B) {
	all := targets(10_000)
	var policy RoundRobin
	b.ReportAllocs()
	for b.Loop() {
		policy.Pick(all, &Request{})
	}
}
