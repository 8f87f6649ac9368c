package balance

import (
	"math"
	"math/bits"
)

// roundRobin takes the members in turn, as often as their weights say, each spread over the cycle as evenly as it can be.
//
// The usual smooth weighted round robin (nginx's) keeps a credit for each member and looks through all of them at each
// turn, under a lock. This one computes the turn's member from its number: turn p goes to the member of point
// p·step mod W, W being the sum of all weights. With step and W coprime a cycle of W turns visits each point once, so that
// each member gets exactly its weight; with step/W near the golden ratio successive points lie far apart, at any
// scale, so that a member's turns do, too (the three-distance theorem; Knuth, The Art of Computer Programming, 6.4).
//
// A call's further choices are drawn at random.
type roundRobin struct {
	list
	step   uint64
	memory *Memory
}

func newRoundRobin(members []Member, memory *Memory) *roundRobin {
	p := &roundRobin{list: newList(members), step: 1, memory: memory}
	if p.ends != nil {
		p.step = goldenStep(p.total)
	}
	return p
}

// Pick implements Policy.
func (p *roundRobin) Pick(r *Request) int {
	if len(r.Tried) > 0 {
		return p.draw(r)
	}
	member := p.next(r)
	if p.targets[member].usual(r.Now) {
		return member
	}
	// The turns of those that aren't accepted are spent, so that nobody gets two shares.
	return p.accept(r, member, p.next)
}

// next takes a turn.
func (p *roundRobin) next(r *Request) int {
	point := p.memory.turn(r.Stripe, r.Now) % p.total
	if p.step != 1 {
		high, low := bits.Mul64(point, p.step) // 10,000 weights up to 1,000,000: the product needs 67 bits
		_, point = bits.Div64(high, low, p.total)
	}
	return p.at(point)
}

// goldenStep returns a step coprime to total, near total over the golden ratio. Of the coprimes there it takes the one
// with the least sum of partial quotients in step/total's continued fraction, which is what bounds how uneven its
// points can lie (Niederreiter, Random Number Generation and Quasi-Monte Carlo Methods, 1992, chapter 5). The nearest
// coprime alone isn't enough: among random weights up to 1000 of 100 members one waited for 38 times its average
// interval; with the least sum nobody waits for three times.
func goldenStep(total uint64) uint64 {
	const around = 32 // some number in any 47 in a row is coprime to a total under 6·10⁹, and many more are
	ideal := uint64(math.Round(float64(total) / math.Phi))
	step, least := uint64(1), total
	for away := range uint64(around) {
		for _, candidate := range [...]uint64{ideal + away, ideal - away} {
			if candidate == 0 || candidate >= total { // ideal − away may be under 0: over everything
				continue
			}
			if sum, divisor := quotients(total, candidate); divisor == 1 && sum < least {
				step, least = candidate, sum
			}
		}
	}
	return step
}

// quotients returns the sum of the partial quotients of the continued fraction of b/a, and the greatest common divisor.
func quotients(a, b uint64) (sum, divisor uint64) {
	for b != 0 {
		sum += a / b
		a, b = b, a%b
	}
	return sum, a
}
