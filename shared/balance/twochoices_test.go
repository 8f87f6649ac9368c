package balance

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func began(target *Target, n int) {
	for range n {
		target.Began()
	}
}

func TestTheLessLoadedOfTwo(t *testing.T) {
	f := func(name model.BalancePolicy, weights, inFlight []int, want int) {
		t.Helper()
		list := members(len(weights), weights...)
		for i := range list {
			list[i].Target.observe(time.Second, float32(time.Millisecond))
			began(list[i].Target, inFlight[i])
		}
		counts := picks(New(name, list, len(list), NewMemory(rand.Uint64())), len(list), 500, Request{Now: time.Second})
		if counts[want] != 500 {
			t.Errorf("%s: weights %v with %v in flight: %v", name, weights, inFlight, counts)
		}
	}
	for _, name := range []model.BalancePolicy{model.LeastRequest, model.EWMA} {
		f(name, []int{100, 100}, []int{1, 2}, 0)
		f(name, []int{100, 100}, []int{3, 2}, 1)
		f(name, []int{300, 100}, []int{5, 2}, 0) // 5/3 is less than 2
		f(name, []int{300, 100}, []int{7, 2}, 1)
		f(name, []int{999_999, 1}, []int{2_000_000, 1}, 1) // a draw by weight alone would hardly meet it
	}
}

// The worst of the list is never taken, and those that tie get the same.
func TestLeastRequestOfMany(t *testing.T) {
	list := members(4, 100)
	for i, n := range []int{1, 1, 1, 5} {
		began(list[i].Target, n)
	}
	counts := picks(New(model.LeastRequest, list, 4, NewMemory(rand.Uint64())), 4, 30_000, Request{})
	likely(t, "1, 1, 1 and 5 in flight", counts, 1, 1, 1, 0)
}

// Two choices leave the fullest of n bins with hardly more than the mean, one choice with much more.
func TestTwoChoicesLevel(t *testing.T) {
	fullest := func(name model.BalancePolicy) int {
		const bins, each = 200, 20
		list := members(bins, 100)
		policy := New(name, list, bins, NewMemory(rand.Uint64()))
		for range bins * each {
			list[policy.Pick(&Request{})].Target.Began()
		}
		most := 0
		for i := range list {
			most = max(most, list[i].Target.InFlight())
		}
		return most - each
	}
	if two, one := fullest(model.LeastRequest), fullest(model.Random); two > 6 || one < two {
		t.Errorf("the fullest has %d over the mean by two choices, %d by one", two, one)
	}
}

// Slow start must hold where there are only two, too: the one that came back is idle, and would win every comparison.
func TestSlowStartOfOneOfTwoUnderLoad(t *testing.T) {
	for _, name := range []model.BalancePolicy{model.LeastRequest, model.EWMA} {
		list := members(2, 100)
		began(list[0].Target, 5)
		list[0].Target.observe(time.Second, float32(time.Millisecond))
		list[1].Target.SlowStart(time.Second)
		now := time.Second + SlowStartTime/10
		counts := picks(New(name, list, 2, NewMemory(rand.Uint64())), 2, 20_000, Request{Now: now})
		if counts[1] < 1000 || counts[1] > 5000 { // chosen twice as often as drawn at most
			t.Errorf("%s: at a tenth of its share it gets %v", name, counts)
		}
	}
}

func TestEWMAPrefersTheFast(t *testing.T) {
	list := members(3, 100)
	for i, latency := range []time.Duration{10 * time.Millisecond, time.Millisecond, 5 * time.Millisecond} {
		list[i].Target.observe(time.Second, float32(latency))
	}
	counts := picks(New(model.EWMA, list, 3, NewMemory(rand.Uint64())), 3, 30_000, Request{Now: time.Second})
	likely(t, "10, 1 and 5 ms", counts, 0, 2, 1)
}

func TestEWMATriesANewOneWithOneRequest(t *testing.T) {
	list := members(2, 100)
	list[0].Target.observe(time.Second, float32(50*time.Millisecond))
	began(list[0].Target, 1)
	policy := New(model.EWMA, list, 2, NewMemory(rand.Uint64()))
	r := Request{Now: time.Second}
	if counts := picks(policy, 2, 500, r); counts[1] != 500 {
		t.Errorf("a new one gets %v", counts)
	}
	list[1].Target.Began()
	if counts := picks(policy, 2, 500, r); counts[1] != 0 {
		t.Errorf("a new one that hasn't answered yet gets %v", counts)
	}
	list[1].Target.Ended(r.Now, 10*time.Millisecond, false)
	if counts := picks(policy, 2, 500, r); counts[1] != 500 {
		t.Errorf("the faster gets %v", counts)
	}
}

func TestEWMATriesASlowOneAgain(t *testing.T) {
	list := members(2, 100)
	list[1].Target.observe(0, float32(time.Second))
	policy := New(model.EWMA, list, 2, NewMemory(rand.Uint64()))
	for now := time.Duration(0); ; now += 100 * time.Millisecond {
		list[0].Target.observe(now, float32(10*time.Millisecond))
		if counts := picks(policy, 2, 20, Request{Now: now}); counts[1] > 0 {
			if now < 40*time.Second || now > 50*time.Second { // e^−4.6 of 1 s is 10 ms
				t.Errorf("tried again after %v", now)
			}
			return
		}
		if now > time.Minute {
			t.Fatal("it is never tried again")
		}
	}
}

// A failing member answers at once. That must not make it the best.
func TestEWMAShunsTheFailing(t *testing.T) {
	list := members(4, 100)
	policy := New(model.EWMA, list, 4, NewMemory(rand.Uint64()))
	counts := make([]int, len(list))
	for call := range 4000 {
		r := Request{Now: time.Duration(call) * 5 * time.Millisecond}
		member := policy.Pick(&r)
		counts[member]++
		list[member].Target.Began()
		if member == 2 {
			list[member].Target.Ended(r.Now, 50*time.Microsecond, true)
		} else {
			list[member].Target.Ended(r.Now, 2*time.Millisecond, false)
		}
	}
	if counts[2] > 40 {
		t.Errorf("the failing one got %v", counts)
	}
}

// A closed loop in virtual time: ten members, two of them ten times slower. Who knows latencies gives those less.
func TestSlowMembersGetLess(t *testing.T) {
	const calls, clients = 20_000, 30
	run := func(name model.BalancePolicy) (slow int, mean time.Duration) {
		type answer struct {
			at, began time.Duration
			member    int
		}
		list := members(10, 100)
		policy := New(name, list, 10, NewMemory(rand.Uint64()))
		random := rand.New(rand.NewPCG(11, 12))
		var underway []answer
		var sum time.Duration
		begin := func(now time.Duration) {
			member := policy.Pick(&Request{Now: now})
			took := 5*time.Millisecond + time.Duration(random.ExpFloat64()*5e6)
			if member < 2 {
				took *= 10
				slow++
			}
			list[member].Target.Began()
			underway = append(underway, answer{now + took, now, member})
		}
		for range clients {
			begin(0)
		}
		for range calls {
			next := 0
			for i := range underway {
				if underway[i].at < underway[next].at {
					next = i
				}
			}
			done := underway[next]
			underway = slices.Delete(underway, next, next+1)
			list[done.member].Target.Ended(done.at, done.at-done.began, false)
			sum += done.at - done.began
			begin(done.at)
		}
		return slow, sum / calls
	}
	slowRandom, meanRandom := run(model.Random)
	slowLeast, meanLeast := run(model.LeastRequest)
	slowEWMA, meanEWMA := run(model.EWMA)
	t.Logf("random: %d to the slow, mean %v; least request: %d, %v; EWMA: %d, %v",
		slowRandom, meanRandom, slowLeast, meanLeast, slowEWMA, meanEWMA)
	if slowLeast > slowRandom/2 || slowEWMA > slowLeast*3/4 || meanEWMA > meanLeast || meanLeast > meanRandom {
		t.Error("that is the wrong order")
	}
}
