package balance

import (
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

const (
	// slackOver/slackUnder is how much more than its share of what is in flight a member may have: the c of Mirrokni,
	// Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads (2016). At less than 5/4 many more keys leave their
	// member, since what a change moves grows with 1/(c−1)²; at more the members are less even.
	slackOver, slackUnder = 5, 4

	// mostSteps bounds the walk along the ring, to some microseconds. It suffices to meet each of about 50 members.
	mostSteps = 256
)

// consistentHash takes for each key the member whose point on a ring follows the key's, so that a key stays with its
// member, and one member's coming or going moves no keys but its own. Who was tried, isn't accepted in its slow start or
// has too much in flight already is passed by.
type consistentHash struct {
	ring    ring
	targets []*Target
	salts   []uint32 // of members, from their names
	weights []uint32
	total   uint64 // of weights
	memory  *Memory
}

func newConsistentHash(members []Member, size int, memory *Memory) *consistentHash {
	weights := weightsOf(members)
	p := &consistentHash{
		targets: targetsOf(members),
		salts:   make([]uint32, len(members)),
		weights: make([]uint32, len(members)),
		memory:  memory,
	}
	seeds := make([]uint64, len(members))
	for i := range members {
		seeds[i] = xxhash.Sum64String(members[i].Name)
		p.salts[i] = uint32(seeds[i])
		p.weights[i] = uint32(weights[i])
		p.total += weights[i]
	}
	p.ring = newRing(seeds, weights, max(size, len(members)))
	return p
}

// Pick implements Policy.
func (p *consistentHash) Pick(r *Request) int {
	key := mix(r.Hash)
	member := p.ring.owner(key)
	target := p.targets[member]
	if len(r.Tried) == 0 && target.usual(r.Now) && (target.InFlight() <= 0 || p.load(member, p.memory.total()+1) <= 1) {
		return member // an idle member is never over its bound, so that the total isn't asked for
	}
	return p.pass(r, key)
}

// load is how much a member would have in flight with one more request, over how much it may have: slack times its share
// of all, where room is that in flight in all of the list, with the one more. An idle member has none.
func (p *consistentHash) load(member int, room int64) float64 {
	inFlight := p.targets[member].InFlight()
	if inFlight <= 0 {
		return 0
	}
	whole := slackUnder * p.total
	bound := (slackOver*uint64(room)*uint64(p.weights[member]) + whole - 1) / whole
	return float64(inFlight+1) / float64(bound)
}

// pass walks along the ring from the key to the first member that may be taken. If there is none within mostSteps, it
// takes the least loaded; after mostDraws that were not accepted, the one with the best factor, as other policies do.
func (p *consistentHash) pass(r *Request, key uint64) int {
	room := p.memory.total() + 1
	best, bestValue, refused := -1, math.Inf(-1), 0
	way, before := p.ring.walk(key), -1
	for range mostSteps {
		member := way.next()
		if member < 0 || refused == mostDraws {
			break
		}
		if member == before || slices.Contains(r.Tried, p.targets[member]) {
			continue
		}
		before = member
		load := p.load(member, room)
		value := -load // under that of any that isn't overloaded
		if load <= 1 {
			factor := p.targets[member].Factor(r.Now)
			if factor == 1 || p.fate(key, member) < factor {
				return member
			}
			value = factor
			refused++
		}
		if value > bestValue {
			best, bestValue = member, value
		}
	}
	if best < 0 {
		return p.scan(r, key)
	}
	return best
}

// fate is a number from 0 to 1, always the same for a key and a member: the key comes back to the member when the factor
// has grown over it, and stays.
func (p *consistentHash) fate(key uint64, member int) float64 {
	return float64(mix(key^uint64(p.salts[member]))>>11) / (1 << 53)
}

// scan finds a member that wasn't tried, beginning where the key says: for when the way along the ring met none.
func (p *consistentHash) scan(r *Request, key uint64) int {
	n := len(p.targets)
	start := int(scaled(key, uint64(n)))
	for i := range n {
		member := (start + i) % n
		if p.weights[member] > 0 && !slices.Contains(r.Tried, p.targets[member]) {
			return member
		}
	}
	return -1
}

// mix spreads what differs between two numbers over all 64 bits (Steele, Lea and Flood 2014, Fast splittable
// pseudorandom number generators; with Stafford's constants).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
