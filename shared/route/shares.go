package route

import (
	"math/bits"
	"sort"
)

// Shares is a weighted choice, compiled. The zero value has nothing to choose.
type Shares struct {
	ends []uint64 // where each share ends: running totals of the weights
}

// NewShares compiles weights. A negative one counts as 0.
func NewShares(weights []int) Shares {
	ends := make([]uint64, len(weights))
	total := uint64(0)
	for i, weight := range weights {
		total += uint64(max(weight, 0))
		ends[i] = total
	}
	return Shares{ends}
}

// Choose returns the index of a weight, each as often as its share of the sum if u is uniform over all uint64; -1 if there
// are no weights, or all are 0. The shares lie side by side in the order of the weights, and u runs from the first to the
// last: so the same u with other weights changes its index only where a border passes over it.
func (s Shares) Choose(u uint64) int {
	const few = 16 // up to here a loop is faster than halving
	if len(s.ends) == 0 {
		return -1
	}
	// u·total/2⁶⁴, without a division (Lemire, Fast Random Integer Generation in an Interval, 2019). His rejection step is
	// left out: a share is off by at most 2⁻⁶⁴, and a key has only one number.
	at, _ := bits.Mul64(u, s.ends[len(s.ends)-1])
	if len(s.ends) > few {
		if i := sort.Search(len(s.ends), func(i int) bool { return s.ends[i] > at }); i < len(s.ends) {
			return i
		}
		return -1
	}
	for i, end := range s.ends {
		if at < end {
			return i
		}
	}
	return -1
}

// Uniform returns a number that is uniform over all uint64, always the same one of a key and a salt, and independent between
// salts. A request without a key takes a random one for all its draws.
func Uniform(key, salt uint64) uint64 { return mix(key ^ salt) }

// mix spreads a number over all its bits, one to one: the finalizer of SplitMix64 (Steele, Lea, Flood, Fast Splittable
// Pseudorandom Number Generators, 2014), with the increment before it, so that 0 is no fixed point.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
