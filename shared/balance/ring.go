package balance

import (
	"math"
	"math/bits"
	"slices"
)

// A point of the ring is one word: its position on the circle above the number of its member.
const (
	memberBits   = 24
	positionBits = 64 - memberBits
	circle       = 1 << positionBits
)

// How many points a member has for each unit of its class (see ring). They go by the size of the callee alone: a list
// that a ban made shorter must have the other members' points where they were. They shrink with each instance more, not by
// halves, so that no growth moves many keys at once. With n points a member's share of the keys differs from its weight's
// by 1/√n: at the default weight 200 points for each of 1000 members make it 7 %, 40 for each of 10,000 make it 16 %,
// and the ring takes 5 MB.
const (
	mostPoints  = 128
	leastPoints = 26
	allPoints   = 1 << 18
)

// ring is the circle on which keys find members.
//
// A member has as many points as its weight says, but as it may be anything from 1 to 1,000,000, members are in classes:
// class k are those that weigh from 4ᵏ to under 4ᵏ⁺¹, and its unit is 4ᵏ. Each class has its points on its own circle. A
// key goes to the nearest point of all, where distances on the circle of class k count for 4⁻ᵏ of what they are. That
// gives each class its share by weight, as the distance to the next of many random points is distributed exponentially,
// and the least of several such goes by their rates. It is the weighting of Schindelhauer and Schomaker (Weighted
// distributed hash tables, 2005). A number of points relative to the mean weight, which is common, would move keys of
// all members whenever that mean changes, as it does with each ban.
type ring struct {
	arcs []arc // from the heaviest class to the lightest; one if all members weigh much the same
}

// arc is the circle of one class.
type arc struct {
	points []uint64 // ascending
	guide  []uint32 // guide[b] is the first point at or past position b<<shift
	shift  uint8
	far    uint8 // how many bits a distance is shifted left, to compare with those of the heaviest class possible
}

// newRing makes the ring of members with these hashes of their names and these weights, of a callee of that size.
func newRing(seeds, weights []uint64, size int) ring {
	perUnit := min(max(float64(allPoints)/float64(size), leastPoints), mostPoints)
	var classes [maxClass + 1][]uint32
	for member, weight := range weights {
		if weight > 0 {
			k := class(weight)
			classes[k] = append(classes[k], uint32(member))
		}
	}
	var r ring
	for k, members := range slices.Backward(classes[:]) {
		if len(members) > 0 {
			r.arcs = append(r.arcs, newArc(k, members, seeds, weights, perUnit))
		}
	}
	return r
}

// maxClass is the class of mostWeight.
const maxClass = 9

func class(weight uint64) int { return (bits.Len64(weight) - 1) / 2 }

// newArc sorts the points of a class by distributing them over the guide's buckets, then within each: with random
// positions that takes linear time. A point's position is computed twice, which is less than to keep it.
func newArc(k int, members []uint32, seeds, weights []uint64, perUnit float64) arc {
	counts := make([]int, len(members))
	total := 0
	for i, member := range members {
		counts[i] = int(math.Round(perUnit * float64(weights[member]) / float64(uint64(1)<<(2*k))))
		total += counts[i]
	}
	guideBits := max(bits.Len(uint(total))-3, 1) // four to eight points a bucket: a cache line
	a := arc{
		points: make([]uint64, total),
		guide:  make([]uint32, 1<<guideBits+1),
		shift:  uint8(positionBits - guideBits),
		far:    uint8(2 * (maxClass - k)),
	}
	for i, member := range members {
		for n := range counts[i] {
			a.guide[position(seeds[member], n)>>a.shift]++
		}
	}
	end := uint32(0)
	for b := range a.guide {
		end += a.guide[b]
		a.guide[b] = end
	}
	for i, member := range members {
		for n := range counts[i] {
			at := position(seeds[member], n)
			slot := &a.guide[at>>a.shift]
			*slot-- // from the bucket's end to its beginning, where it stays
			a.points[*slot] = at<<memberBits | uint64(member)
		}
	}
	a.sort(seeds)
	return a
}

// position is that of a member's nth point.
func position(seed uint64, n int) uint64 {
	return mix(seed+uint64(n+1)*0x9e3779b97f4a7c15) >> memberBits
}

// sort puts the points of each bucket in order. Two at one position go by their members' names, as the order of members
// may differ from one machine to another.
func (a *arc) sort(seeds []uint64) {
	for b := range len(a.guide) - 1 {
		bucket := a.points[a.guide[b]:a.guide[b+1]]
		for i := 1; i < len(bucket); i++ {
			for j := i; j > 0 && behindOf(bucket[j-1], bucket[j], seeds); j-- {
				bucket[j-1], bucket[j] = bucket[j], bucket[j-1]
			}
		}
	}
}

func behindOf(a, b uint64, seeds []uint64) bool {
	if a>>memberBits != b>>memberBits {
		return a > b
	}
	return seeds[memberOf(a)] > seeds[memberOf(b)]
}

func memberOf(point uint64) int { return int(point & (1<<memberBits - 1)) }

// glance is how many points are compared at once.
const glance = 8

// from returns the index of the first point at or past a position.
func (a *arc) from(position uint64) int {
	i, least := int(a.guide[position>>a.shift]), position<<memberBits
	for ; i+glance <= len(a.points); i += glance {
		// How many points of a bucket come before is anybody's guess, and a wrong one costs a processor more than to compare
		// all of them.
		before := uint64(0)
		for _, point := range (*[glance]uint64)(a.points[i:]) {
			_, less := bits.Sub64(point, least, 0)
			before += less
		}
		if before < glance {
			return i + int(before)
		}
	}
	for i < len(a.points) && a.points[i] < least {
		i++
	}
	if i == len(a.points) {
		return 0
	}
	return i
}

// distance is the way from a position to a point, round the circle if need be, comparable with those of other arcs.
func (a *arc) distance(position uint64, point int) uint64 {
	return (a.points[point]>>memberBits - position) & (circle - 1) << a.far
}

// owner returns the member of a key.
func (r *ring) owner(key uint64) int {
	position := key >> memberBits
	a := &r.arcs[0]
	point := a.from(position)
	if len(r.arcs) == 1 {
		return memberOf(a.points[point])
	}
	member, nearest := memberOf(a.points[point]), a.distance(position, point)
	for i := range r.arcs[1:] {
		a := &r.arcs[i+1]
		point := a.from(position)
		if d := a.distance(position, point); d < nearest {
			member, nearest = memberOf(a.points[point]), d
		}
	}
	return member
}

// walk is a way along the ring from a key, through the points of all classes by their distance.
type walk struct {
	ring     *ring
	position uint64
	at       [maxClass + 1]struct {
		point, left int // the next point of an arc, and how many it has that were not met yet
	}
}

func (r *ring) walk(key uint64) walk {
	w := walk{ring: r, position: key >> memberBits}
	for i := range r.arcs {
		w.at[i].point = r.arcs[i].from(w.position)
		w.at[i].left = len(r.arcs[i].points)
	}
	return w
}

// next returns the member of the next point, or −1 when all were met.
func (w *walk) next() int {
	nearest, arc := uint64(math.MaxUint64), -1
	for i := range w.ring.arcs {
		if w.at[i].left == 0 {
			continue
		}
		if d := w.ring.arcs[i].distance(w.position, w.at[i].point); d < nearest {
			nearest, arc = d, i
		}
	}
	if arc < 0 {
		return -1
	}
	at, points := &w.at[arc], w.ring.arcs[arc].points
	member := memberOf(points[at.point])
	at.left--
	if at.point++; at.point == len(points) {
		at.point = 0
	}
	return member
}
