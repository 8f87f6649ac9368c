package balance

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// mostDraws is how many members one choice draws before it takes the best of them. When half of all are in slow start, at
// half of their share on average, eight draws are all refused once in 65,536 times.
const mostDraws = 8

// table finds the member of a point: with a total weight of W there are W points, and each member has as many as its
// weight, one after another. Weights are divided by what they have in common.
type table struct {
	total uint64
	ends  []uint64 // ends[i] is the first point past member i's. nil if weights are equal: then point i is member i
	guide []uint32 // guide[b] is the member of point b<<shift: there the search begins
	shift uint8
}

// newTable makes the table of these weights, which aren't all 0. The guide has about one entry for each member, so that
// a search takes one or two steps (Chen and Asau 1974).
func newTable(weights []uint64) table {
	var divisor, end uint64
	for _, weight := range weights {
		divisor = gcd(divisor, weight)
	}
	ends := make([]uint64, len(weights))
	for i, weight := range weights {
		end += weight / divisor
		ends[i] = end
	}
	if slices.Min(weights) == slices.Max(weights) {
		return table{total: end}
	}
	t := table{total: end, ends: ends}
	for end>>t.shift > 2*uint64(len(weights)) {
		t.shift++
	}
	t.guide = make([]uint32, (end-1)>>t.shift+2)
	member := 0
	for b := range t.guide {
		for member < len(ends)-1 && ends[member] <= uint64(b)<<t.shift {
			member++
		}
		t.guide[b] = uint32(member)
	}
	return t
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// at returns the member of a point.
func (t *table) at(point uint64) int {
	if t.ends == nil {
		return int(point)
	}
	bucket := point >> t.shift
	low, high := t.guide[bucket], t.guide[bucket+1]
	for high-low > 8 { // many light ones between heavy ones
		middle := (low + high) / 2
		if t.ends[middle] <= point {
			low = middle + 1
		} else {
			high = middle
		}
	}
	for t.ends[low] <= point {
		low++
	}
	return int(low)
}

// begin returns the first point of a member.
func (t *table) begin(member int) uint64 {
	switch {
	case t.ends == nil:
		return uint64(member)
	case member == 0:
		return 0
	}
	return t.ends[member-1]
}

// weight returns how many points a member has.
func (t *table) weight(member int) uint64 {
	if t.ends == nil {
		return 1
	}
	return t.ends[member] - t.begin(member)
}

// number returns the next random number: SplitMix64, which takes a quarter of the time of the runtime's generator.
func (r *Request) number() uint64 {
	if r.Seed == 0 {
		r.Seed = rand.Uint64()
	}
	r.Seed += 0x9e3779b97f4a7c15
	return mix(r.Seed)
}

// Fraction returns a random number from 0 to 1.
func (r *Request) Fraction() float64 { return float64(r.number()>>11) / (1 << 53) }

// random draws a member by weight.
func (t *table) random(r *Request) int { return t.at(scaled(r.number(), t.total)) }

// other draws a member by weight, but not this one, or returns −1 when no other has any.
func (t *table) other(r *Request, than int) int {
	weight := t.weight(than)
	if weight == t.total {
		return -1
	}
	point := scaled(r.number(), t.total-weight)
	if point >= t.begin(than) {
		point += weight
	}
	return t.at(point)
}

// list is a list of members to draw from.
type list struct {
	table
	targets []*Target
}

func newList(members []Member) list {
	return list{table: newTable(weightsOf(members)), targets: targetsOf(members)}
}

func targetsOf(members []Member) []*Target {
	targets := make([]*Target, len(members))
	for i := range members {
		targets[i] = members[i].Target
	}
	return targets
}

// mostWeight is the largest weight that a document may give.
const mostWeight = 1_000_000

// weightsOf returns the members' weights; if all are 0, all 1.
func weightsOf(members []Member) []uint64 {
	weights := make([]uint64, len(members))
	for i := range members {
		weights[i] = uint64(min(max(members[i].Weight, 0), mostWeight))
	}
	if slices.Max(weights) == 0 {
		for i := range weights {
			weights[i] = 1
		}
	}
	return weights
}

// free tells whether a member may be taken without further thought.
func (l *list) free(member int, r *Request) bool {
	return len(r.Tried) == 0 && l.targets[member].usual(r.Now)
}

// draw draws a member by weight and factor that wasn't tried, or returns −1 if there is none. A call's further choices
// are drawn whatever the policy's order: were they to go on from the first, the neighbour of a dead instance would get
// all of its requests.
func (l *list) draw(r *Request) int { return l.settle(r, l.random(r)) }

// settle takes the member that was drawn, or goes on drawing.
func (l *list) settle(r *Request, member int) int {
	if l.free(member, r) {
		return member
	}
	if member = l.accept(r, member, l.random); member >= 0 {
		return member
	}
	return l.scan(r)
}

// accept takes the member, or else draws on until one is accepted, which one with the factor f is with a probability of f.
// It returns the one with the best factor when none is, and −1 if all that were drawn were tried.
func (l *list) accept(r *Request, member int, draw func(*Request) int) int {
	best, bestFactor := -1, 0.0
	for range mostDraws {
		target := l.targets[member]
		if !slices.Contains(r.Tried, target) {
			factor := target.Factor(r.Now)
			if factor == 1 || r.Fraction() < factor {
				return member
			}
			if factor > bestFactor {
				best, bestFactor = member, factor
			}
		}
		member = draw(r)
	}
	return best
}

// scan draws a member by weight and factor among those that weren't tried, from all of them: for when drawing finds none.
func (l *list) scan(r *Request) int {
	share := func(member int) float64 {
		if slices.Contains(r.Tried, l.targets[member]) {
			return 0
		}
		return float64(l.weight(member)) * l.targets[member].Factor(r.Now)
	}
	var sum float64
	for member := range l.targets {
		sum += share(member)
	}
	point, last := r.Fraction()*sum, -1
	for member := range l.targets {
		if part := share(member); part > 0 {
			if point -= part; point < 0 {
				return member
			}
			last = member
		}
	}
	return last
}

// scaled returns the upper 64 bits of the product: a fraction, in 2⁻⁶⁴, of a number.
func scaled(fraction, of uint64) uint64 {
	part, _ := bits.Mul64(fraction, of)
	return part
}
