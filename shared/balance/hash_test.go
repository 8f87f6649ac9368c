package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

const keys = 20_000

// owners returns the names of the members that idle members' policy picks for many keys.
func owners(list []Member, size int) []string {
	policy := New(model.ConsistentHash, list, size, NewMemory(rand.Uint64()))
	names := make([]string, keys)
	for key := range names {
		names[key] = list[policy.Pick(&Request{Hash: uint64(key)})].Name
	}
	return names
}

// lists are of sizes on both sides of where the ring's density begins to shrink, and with one and with several classes.
func lists() map[string][]Member {
	return map[string][]Member{
		"2":              members(2, 100),
		"10":             members(10, 100),
		"10 weighted":    members(10, 1, 10, 100, 1000),
		"100 weighted":   members(100, 100, 50, 200),
		"3000":           members(3000, 100),
		"3000 weighted":  members(3000, 1, 2, 300, 1_000_000),
		"all weigh 1":    members(20, 1),
		"all weigh most": members(20, 1_000_000),
	}
}

func TestABanMovesOnlyItsOwnKeys(t *testing.T) {
	for title, list := range lists() {
		before := owners(list, len(list))
		for _, banned := range []int{0, len(list) / 2, len(list) - 1} {
			rest := slices.Delete(slices.Clone(list), banned, banned+1)
			for key, name := range owners(rest, len(list)) {
				if before[key] != name && before[key] != list[banned].Name {
					t.Fatalf("%s: without %s key %d goes from %s to %s", title, list[banned].Name, key, before[key], name)
				}
			}
		}
	}
}

// The keys of a banned member are shared by all others, not taken by one neighbour.
func TestABanSpreadsItsKeys(t *testing.T) {
	list := members(10, 100)
	before, after := owners(list, 10), owners(list[1:], 10)
	got := map[string]int{}
	moved := 0
	for key := range before {
		if before[key] != after[key] {
			got[after[key]]++
			moved++
		}
	}
	for _, m := range list[1:] {
		if n := got[m.Name]; n < moved/30 || n > moved/4 {
			t.Errorf("%s gets %d of %d", m.Name, n, moved)
		}
	}
}

func TestAnAdditionMovesKeysOnlyToTheNew(t *testing.T) {
	for title, list := range lists() {
		old, added := list[:len(list)-1], list[len(list)-1]
		before := owners(old, len(list))
		moved := 0
		for key, name := range owners(list, len(list)) {
			if name != before[key] {
				moved++
				if name != added.Name {
					t.Fatalf("%s: key %d goes from %s to %s", title, key, before[key], name)
				}
			}
		}
		if len(list) <= 20 && moved == 0 && added.Weight >= 100 {
			t.Errorf("%s: nothing moved", title)
		}
	}
}

// A callee's growth by one instance thins out the ring at most by a little, whatever its size.
func TestGrowthMovesFewKeys(t *testing.T) {
	for _, size := range []int{2047, 2048, 2049, 3000, 10_000, 10_081, 10_083} {
		list := members(size+1, 100)
		before, after := owners(list[:size], size), owners(list, size+1)
		moved := 0
		for key := range before {
			if before[key] != after[key] {
				moved++
			}
		}
		if share := float64(moved) / keys; share > 0.03 {
			t.Errorf("from %d to %d moves %.1f %%", size, size+1, 100*share)
		}
	}
}

func TestTheOrderOfMembersDoesNotMatter(t *testing.T) {
	for title, list := range lists() {
		shuffled := slices.Clone(list)
		rand.New(rand.NewPCG(13, 14)).Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !slices.Equal(owners(list, len(list)), owners(shuffled, len(list))) {
			t.Errorf("%s: keys moved", title)
		}
	}
}

// All agents of all versions must agree. If this fails, a new version would move the keys of all who use it.
func TestOwnersStayTheSame(t *testing.T) {
	list := members(10, 1, 10, 100, 1000)
	policy := New(model.ConsistentHash, list, 10, NewMemory(rand.Uint64()))
	var got []int
	for key := range 32 {
		got = append(got, policy.Pick(&Request{Hash: uint64(key)}))
	}
	want := []int{3, 2, 7, 7, 7, 7, 3, 7, 3, 2, 3, 7, 7, 3, 7, 2, 3, 3, 3, 3, 3, 7, 7, 7, 7, 3, 3, 3, 7, 7, 3, 3}
	if !slices.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// Members' shares of the keys are as their weights, within what the number of points allows.
func TestKeysGoByWeight(t *testing.T) {
	f := func(n int, off float64, weights ...int) {
		t.Helper()
		list := members(n, weights...)
		policy := New(model.ConsistentHash, list, n, NewMemory(rand.Uint64()))
		groups := make([]float64, len(weights)) // members of the same weight
		wants := make([]float64, len(weights))
		sum := 0.0
		for i := range list {
			wants[i%len(weights)] += float64(list[i].Weight)
			sum += float64(list[i].Weight)
		}
		const calls = 300_000
		for member, count := range picks(policy, n, calls, Request{}) {
			groups[member%len(weights)] += float64(count) / calls
		}
		for i := range groups {
			if want := wants[i] / sum; !near(groups[i], want, off) {
				t.Errorf("%d members with weights %v: those with %d get %.4f, not %.4f", n, weights, weights[i], groups[i], want)
			}
		}
	}
	f(4, 0.25, 100, 100, 100, 100)
	f(100, 0.05, 100)
	f(100, 0.05, 100, 50)
	f(300, 0.05, 100, 200, 300)
	f(400, 0.08, 10, 100, 1000, 900)
	f(400, 0.05, 63, 64, 65, 255)
	f(1000, 0.08, 1, 2, 3, 4, 5)
	f(8000, 0.04, 100, 100, 100, 400)
	worst, list := 0.0, members(100, 100)
	for _, count := range picks(New(model.ConsistentHash, list, 100, NewMemory(rand.Uint64())), 100, 300_000, Request{}) {
		worst = math.Max(worst, math.Abs(float64(count)/3000-1))
	}
	if worst > 0.35 { // 7 % is the standard deviation
		t.Errorf("the share of one of 100 is off by %.0f %%", 100*worst)
	}
}

// One key for all requests: nobody may have more than the bound when he is picked.
func TestLoadIsBounded(t *testing.T) {
	f := func(n, requests int, weights ...int) {
		t.Helper()
		list := members(n, weights...)
		total := 0
		for i := range list {
			total += list[i].Weight
		}
		memory := NewMemory(rand.Uint64())
		policy := New(model.ConsistentHash, list, n, memory)
		for before := range requests {
			r := Request{Hash: 42, Stripe: uint32(before)}
			member := policy.Pick(&r)
			bound := math.Ceil(1.25 * float64((before+1)*list[member].Weight) / float64(total))
			if inFlight := list[member].Target.InFlight(); float64(inFlight+1) > bound {
				t.Fatalf("%d members %v, %d in flight: %d has %d, and may have %v", n, weights, before, member, inFlight, bound)
			}
			list[member].Target.Began()
			memory.Began(r.Stripe)
		}
	}
	f(1, 50, 100)
	f(2, 100, 100)
	f(20, 400, 100)
	f(20, 400, 100, 50, 200)
	f(9, 300, 100, 1000, 10)
}

// With more overloaded members than a walk meets, the requests of one key still spread.
func TestLoadOfAKeyInALongList(t *testing.T) {
	list := members(5000, 100)
	memory := NewMemory(rand.Uint64())
	policy := New(model.ConsistentHash, list, 5000, memory)
	most := 0
	for range 2000 {
		target := list[policy.Pick(&Request{Hash: 42})].Target
		target.Began()
		memory.Began(0)
		most = max(most, target.InFlight())
	}
	if most > 2000/mostSteps+2 {
		t.Errorf("one member has %d of 2000", most)
	}
}

func TestAnIdleKeyStays(t *testing.T) {
	list := members(50, 100)
	memory := NewMemory(rand.Uint64())
	policy := New(model.ConsistentHash, list, 50, memory)
	r := Request{Hash: 99}
	owner := policy.Pick(&r)
	for range 100 {
		member := policy.Pick(&r)
		if member != owner {
			t.Fatalf("the key went from %d to %d", owner, member)
		}
		list[member].Target.Began()
		memory.Began(0)
		list[member].Target.Ended(0, time.Millisecond, false)
		memory.Ended(0)
	}
}

// A member in slow start gets its keys back one by one, and keeps those it has.
func TestKeysComeBackGradually(t *testing.T) {
	list := members(10, 100)
	before := owners(list, 10)
	list[4].Target.SlowStart(0)
	policy := New(model.ConsistentHash, list, 10, NewMemory(rand.Uint64()))
	back := make([]bool, keys)
	for now := time.Duration(0); now <= SlowStartTime; now += time.Second {
		own, here := 0, 0
		for key := range before {
			member := policy.Pick(&Request{Hash: uint64(key), Now: now})
			if before[key] != list[4].Name {
				if list[member].Name != before[key] {
					t.Fatalf("key %d of %s moved to %d", key, before[key], member)
				}
				continue
			}
			own++
			if member == 4 {
				here++
			} else if back[key] {
				t.Fatalf("key %d came back, and is gone at %v", key, now)
			}
			back[key] = member == 4
		}
		if share, want := float64(here)/float64(own), list[4].Target.Factor(now); math.Abs(share-want) > 0.08 {
			t.Errorf("after %v %.2f of the keys are back, not %.2f", now, share, want)
		}
	}
}

// The second choice of a key is always the same, and those of a member's keys are all others.
func TestRetriesOfAKey(t *testing.T) {
	list := members(10, 100)
	policy := New(model.ConsistentHash, list, 10, NewMemory(rand.Uint64()))
	seconds := map[int]int{}
	for key := range uint64(10_000) {
		r := Request{Hash: key}
		first := policy.Pick(&r)
		r.Tried = []*Target{list[first].Target}
		second := policy.Pick(&r)
		if again := policy.Pick(&r); second == first || second != again {
			t.Fatalf("key %d goes to %d, then to %d or %d", key, first, second, again)
		}
		if first == 3 {
			seconds[second]++
		}
	}
	if len(seconds) != 9 {
		t.Errorf("second choices of one member's keys: %v", seconds)
	}
}

func TestPointsAreInOrder(t *testing.T) {
	for title, list := range lists() {
		policy := New(model.ConsistentHash, list, len(list), NewMemory(rand.Uint64())).(*consistentHash)
		for i := range policy.ring.arcs {
			arc := &policy.ring.arcs[i]
			if !slices.IsSorted(arc.points) {
				t.Fatalf("%s: points of arc %d are out of order", title, i)
			}
			random := rand.New(rand.NewPCG(15, 16))
			for range 1000 {
				at := random.Uint64() >> memberBits
				want, _ := slices.BinarySearch(arc.points, at<<memberBits)
				if got := arc.from(at); got != want%len(arc.points) {
					t.Fatalf("%s: the first at %d is %d, not %d", title, at, got, want)
				}
			}
		}
	}
}

// Two points at one position: the same goes first on all machines.
func TestPointsAtOnePosition(t *testing.T) {
	const at = 77 << memberBits
	for _, seeds := range [][]uint64{{10, 20}, {20, 10}} {
		a := arc{points: []uint64{at, at | 1}, guide: []uint32{0, 2}}
		a.sort(seeds)
		if first := seeds[memberOf(a.points[0])]; first != 10 {
			t.Errorf("seeds %v: %d goes first", seeds, first)
		}
	}
}

// The walk meets every point once, the nearest first.
func TestAWalkMeetsAll(t *testing.T) {
	list := members(12, 1, 10, 100, 1000)
	policy := New(model.ConsistentHash, list, 12, NewMemory(rand.Uint64())).(*consistentHash)
	way, points := policy.ring.walk(1<<63), 0
	counts := make([]int, len(list))
	for member := way.next(); member >= 0; member = way.next() {
		counts[member]++
		points++
	}
	total := 0
	for i := range policy.ring.arcs {
		total += len(policy.ring.arcs[i].points)
	}
	if points != total || slices.Min(counts) < leastPoints {
		t.Errorf("it met %d of %d points: %v", points, total, counts)
	}
	if way := policy.ring.walk(12345); way.next() != policy.ring.owner(12345) {
		t.Error("the walk doesn't begin at the owner")
	}
}
