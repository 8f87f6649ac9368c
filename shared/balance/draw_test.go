package balance

import (
	"math/rand/v2"
	"testing"
)

// weightings are lists of weights of all kinds.
func weightings() map[string][]uint64 {
	random := rand.New(rand.NewPCG(5, 6))
	list := map[string][]uint64{
		"one":           {7},
		"equal":         {30, 30, 30},
		"two":           {1, 2},
		"common factor": {100, 50, 250},
		"nothing":       {0, 3, 0, 0, 5, 0},
	}
	heavy := make([]uint64, 300)
	for i := range heavy {
		heavy[i] = 1
	}
	heavy[150] = 5000
	list["many light before and after a heavy"] = heavy
	mixed := make([]uint64, 100)
	for i := range mixed {
		mixed[i] = random.Uint64N(100)
	}
	list["mixed"] = mixed
	return list
}

func TestEachPointHasItsMember(t *testing.T) {
	for title, weights := range weightings() {
		table := newTable(weights)
		var divisor, sum uint64
		for _, weight := range weights {
			divisor = gcd(divisor, weight)
		}
		point := uint64(0)
		for member, weight := range weights {
			sum += weight / divisor
			for ; point < sum; point++ {
				if got := table.at(point); got != member {
					t.Fatalf("%s: point %d is of %d, not of %d", title, point, got, member)
				}
			}
		}
		if table.total != sum {
			t.Errorf("%s: there are %d points, not %d", title, table.total, sum)
		}
	}
}

func TestPointsOfTheGreatestWeights(t *testing.T) {
	weights := make([]uint64, 10_000)
	for i := range weights {
		weights[i] = mostWeight - uint64(i)
	}
	table := newTable(weights)
	var end uint64
	for member, weight := range weights {
		first := table.at(end)
		end += weight
		if last := table.at(end - 1); first != member || last != member {
			t.Fatalf("the first point of %d is of %d, its last of %d", member, first, last)
		}
	}
}

func TestOther(t *testing.T) {
	for title, weights := range weightings() {
		table := newTable(weights)
		for than := range min(len(weights), 8) {
			want := make([]float64, len(weights))
			others := 0
			for i, weight := range weights {
				if i != than && weight > 0 {
					want[i] = float64(weight)
					others++
				}
			}
			counts := make([]int, len(weights))
			for range 3000 {
				if member := table.other(new(Request), than); member >= 0 {
					counts[member]++
				} else if others > 0 {
					t.Fatalf("%s: nobody but %d", title, than)
				}
			}
			if others > 1 {
				likely(t, title, counts, want...)
			} else if others == 0 && counts[than] > 0 {
				t.Errorf("%s: %d is no other than itself", title, than)
			}
		}
	}
}
