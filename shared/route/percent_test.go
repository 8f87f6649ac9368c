package route

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

const manyKeys = 100_000

// userKeys are the hashes of many balance keys.
var userKeys = sync.OnceValue(func() []uint64 {
	keys := make([]uint64, manyKeys)
	for i := range keys {
		keys[i] = HashOf(fmt.Sprint("user-", i))
	}
	return keys
})

// users calls f with each of them.
func users(f func(key uint64)) {
	for _, key := range userKeys() {
		f(key)
	}
}

func TestPercentBorders(t *testing.T) {
	f := func(p float64, want percent) {
		t.Helper()
		if got, err := compilePercent(&p); got != want || err != nil {
			t.Errorf("%v: %+v, error %v, want %+v", p, got, err, want)
		}
	}
	f(100, percent{all: true})
	f(0, percent{})
	f(50, percent{below: 1 << 63})
	f(25, percent{below: 1 << 62})
	f(math.Nextafter(100, 0), percent{below: 1<<64 - 1<<11})
	f(0.01, percent{below: 1844674407370955})
	f(1e-9, percent{below: 184467440})
	f(1e-17, percent{below: 1})
	f(math.SmallestNonzeroFloat64, percent{})
	if got, err := compilePercent(nil); !got.all || err != nil {
		t.Errorf("no percent: %+v, error %v", got, err)
	}
}

func TestPercentIsFair(t *testing.T) {
	request := exampleRequest()
	for _, p := range []float64{0, 0.01, 0.25, 1, 5, 33.33, 50, 99.99, 100} {
		table := compile(t, percentRoute(p))
		keyed, random := 0, 0
		users(func(key uint64) {
			keyed += table.Match(request, key) + 1
			random += table.Match(request, rand.Uint64()) + 1
		})
		expect(t, fmt.Sprintf("%v%% of the keys", p), keyed, manyKeys, p/100)
		expect(t, fmt.Sprintf("%v%% of the requests", p), random, manyKeys, p/100)
	}
}

func percentRoute(p float64) model.Route {
	route := exampleRoute()
	route.Match.Percent = &p
	return route
}

func TestRaisedPercentOnlyAddsKeys(t *testing.T) {
	request := exampleRequest()
	var tables []*Table
	for _, p := range []float64{0, 1e-9, 0.01, 0.02, 1, 5, 5.000001, 50, 99.99, math.Nextafter(100, 0), 100} {
		tables = append(tables, compile(t, percentRoute(p)))
	}
	users(func(key uint64) {
		in := false
		for i, table := range tables {
			now := table.Match(request, key) == 0
			if in && !now {
				t.Fatalf("key %d is lost at the raise to percent %d", key, i)
			}
			in = now
		}
	})
}

// Keys stay where they are if other routes come, go or change, and if weights change.
func TestKeysStay(t *testing.T) {
	request := exampleRequest()
	alone := compile(t, exampleRoute())
	other, weighted := percentRoute(50), exampleRoute()
	other.Match.Callers = []string{"audio-*"} // doesn't match, but is one more draw
	weighted.Split[0].Weight, weighted.Split[1].Weight = 50, 50
	among, changed := compile(t, other, exampleRoute(), other), compile(t, weighted)
	users(func(key uint64) {
		matched := alone.Match(request, key)
		if again := alone.Match(request, key); again != matched {
			t.Fatalf("key %d: route %d, then %d", key, matched, again)
		}
		if got := among.Match(request, key) == 1; got != (matched == 0) {
			t.Fatalf("key %d: matched %v alone, %v among others", key, matched == 0, got)
		}
		if got := changed.Match(request, key); got != matched {
			t.Fatalf("key %d: route %d, with other weights %d", key, matched, got)
		}
		if one, two := alone.Routes[0].Split(key), among.Routes[1].Split(key); one != two {
			t.Fatalf("key %d: split %d alone, %d among others", key, one, two)
		}
	})
}

// A key that passes one percent is neither more nor less likely to pass another, or to take a split.
func TestDrawsAreIndependent(t *testing.T) {
	request := exampleRequest()
	one, two := percentRoute(50), percentRoute(50)
	two.Match.Path = "/upload*"
	one.Split[0].Weight, one.Split[1].Weight = 50, 50
	first, second := compile(t, one), compile(t, two)
	both, split, matched, next := 0, 0, 0, 0
	sequence := compile(t, one, two)
	users(func(key uint64) {
		inFirst, inSecond := first.Match(request, key) == 0, second.Match(request, key) == 0
		if inFirst && inSecond {
			both++
		}
		if inFirst {
			matched++
			split += first.Routes[0].Split(key)
		}
		if sequence.Match(request, key) == 1 {
			next++
		}
	})
	expect(t, "keys in both routes", both, manyKeys, 0.25)
	expect(t, "keys that the first left to the second", next, manyKeys, 0.25)
	expect(t, "keys of the route in its second split", split, matched, 0.5)
}

func TestSplitIsFair(t *testing.T) {
	route := exampleRoute()
	route.Split = append(route.Split, model.Split{Weight: 0}, model.Split{Labels: map[string]string{"version": "v0"}, Weight: 100})
	r := &compile(t, route).Routes[0]
	var keyed, random [4]int
	users(func(key uint64) {
		keyed[r.Split(key)]++
		random[r.Split(rand.Uint64())]++
	})
	for i, p := range []float64{0.05, 0.45, 0, 0.5} {
		expect(t, fmt.Sprintf("keys of split %d", i), keyed[i], manyKeys, p)
		expect(t, fmt.Sprintf("requests of split %d", i), random[i], manyKeys, p)
	}
}

// Weight given by one split to its neighbour moves keys from the one to the other only, also if the sum isn't kept and
// there are just two.
func TestSplitMovesOnlyWhatItMust(t *testing.T) {
	splits := func(weights ...int) *Route {
		route := exampleRoute()
		route.Split = nil
		for i, weight := range weights {
			route.Split = append(route.Split, model.Split{Labels: map[string]string{"n": fmt.Sprint(i)}, Weight: weight})
		}
		return &compile(t, route).Routes[0]
	}
	f := func(before, after *Route, from, to int, share float64) {
		t.Helper()
		moved := 0
		users(func(key uint64) {
			old, now := before.Split(key), after.Split(key)
			if old == now {
				return
			}
			if old != from || now != to {
				t.Fatalf("key %d moved from split %d to %d", key, old, now)
			}
			moved++
		})
		expect(t, "keys moved", moved, manyKeys, share)
	}
	f(splits(10, 90), splits(20, 80), 1, 0, 0.1)
	f(splits(20, 80), splits(10, 90), 0, 1, 0.1)
	f(splits(10, 90), splits(90, 90), 1, 0, 0.4)
	f(splits(0, 90), splits(1, 99), 1, 0, 0.01)
	f(splits(10, 40, 50), splits(20, 30, 50), 1, 0, 0.1)
	f(splits(50, 10, 40), splits(50, 15, 35), 2, 1, 0.05)
}
