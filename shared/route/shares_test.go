package route

import (
	"math"
	"math/rand/v2"
	"testing"
)

// sigmas is how far a count may be from what is expected: further away lies one outcome in 10⁹ of a fair draw.
const sigmas = 6.11

// expect checks a count of n draws of a probability.
func expect(t *testing.T, what string, count, n int, p float64) {
	t.Helper()
	mean := float64(n) * p
	if margin := sigmas*math.Sqrt(mean*(1-p)) + 1e-9; math.Abs(float64(count)-mean) > margin {
		t.Errorf("%s: %d of %d, want %.1f ± %.1f", what, count, n, mean, margin)
	}
}

func TestSharesBorders(t *testing.T) {
	f := func(weights []int, u uint64, want int) {
		t.Helper()
		if got := NewShares(weights).Choose(u); got != want {
			t.Errorf("%v, %#x: %d, want %d", weights, u, got, want)
		}
	}
	const half, last = 1 << 63, math.MaxUint64
	f(nil, 0, -1)
	f([]int{}, last, -1)
	f([]int{0}, 0, -1)
	f([]int{0, 0, 0}, last, -1)
	f([]int{-1}, half, -1)
	f(make([]int, 100), half, -1)
	f([]int{5}, 0, 0)
	f([]int{5}, last, 0)
	f([]int{1, 1}, half-1, 0)
	f([]int{1, 1}, half, 1)
	f([]int{0, 1, 0, 1, 0}, 0, 1)
	f([]int{0, 1, 0, 1, 0}, half-1, 1)
	f([]int{0, 1, 0, 1, 0}, half, 3)
	f([]int{0, 1, 0, 1, 0}, last, 3)
	f([]int{-5, 1, -5}, last, 1)
	f([]int{1_000_000, 1}, last, 1)
	if got := (Shares{}).Choose(half); got != -1 {
		t.Errorf("the zero value chooses %d", got)
	}
}

func TestSharesAreFair(t *testing.T) {
	const n = 200_000
	many := make([]int, 40) // more than the loop takes
	for i := range many {
		many[i] = i % 7 * 100
	}
	for _, weights := range [][]int{{10, 90}, {1, 0, 2, 3}, {1, 999_999}, {1_000_000, 1_000_000, 500_000}, many} {
		shares, total := NewShares(weights), 0
		for _, weight := range weights {
			total += weight
		}
		f := func(what string, u func(i int) uint64) {
			t.Helper()
			counts := make([]int, len(weights))
			for i := range n {
				counts[shares.Choose(u(i))]++
			}
			for i, weight := range weights {
				expect(t, what, counts[i], n, float64(weight)/float64(total))
			}
		}
		f("random", func(int) uint64 { return Uniform(rand.Uint64(), 0) })
		f("keyed", func(i int) uint64 { return Uniform(uint64(i), 42) }) // keys in a row are the worst case
	}
}

// The loop and the search must agree.
func TestSharesLongAndShort(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		weights := make([]int, 1+random.IntN(60))
		for i := range weights {
			weights[i] = random.IntN(3) * random.IntN(1_000_000)
		}
		shares, u, want := NewShares(weights), random.Uint64(), -1
		for i, end := range shares.ends {
			if float64(u)/(1<<64)*float64(shares.ends[len(weights)-1]) < float64(end) {
				want = i
				break
			}
		}
		if got := shares.Choose(u); got != want {
			t.Fatalf("%v, %d: %d, want %d", weights, u, got, want)
		}
	}
}

func TestUniform(t *testing.T) {
	const n = 200_000
	if first := Uniform(1, 2); first != Uniform(1, 2) {
		t.Error("the same key and salt give two numbers")
	}
	var bits [64]int
	both := 0
	for i := range uint64(n) {
		u := Uniform(i, 7)
		for bit := range bits {
			bits[bit] += int(u >> bit & 1)
		}
		if u < 1<<63 && Uniform(i, 8) < 1<<63 {
			both++
		}
	}
	for _, count := range bits {
		expect(t, "a bit", count, n, 0.5)
	}
	expect(t, "under a half with two salts", both, n, 0.25)
}
