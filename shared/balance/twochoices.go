package balance

import (
	"math"
	"slices"
)

// twoChoices draws two members by weight, and the policy takes the better: that is nearly as good as the best of all, in
// constant time, and doesn't send everybody's next request to the same one, as the best of all would (Mitzenmacher 2001,
// The power of two choices in randomized load balancing).
type twoChoices struct {
	list
	each []float32 // what one request adds to a member's load: the mean weight over its own. nil if weights are equal
}

func newTwoChoices(members []Member) twoChoices {
	p := twoChoices{list: newList(members)}
	if p.ends != nil {
		p.each = make([]float32, len(members))
		mean := float64(p.total) / float64(len(members))
		for i := range p.each {
			p.each[i] = float32(mean / math.Max(float64(p.weight(i)), 1))
		}
	}
	return p
}

// second takes the member that was drawn besides the first one, or draws on while they were tried, or returns −1. One that
// isn't accepted has no substitute: of two members the same would be drawn until it is, however small its factor.
func (p *twoChoices) second(r *Request, first, member int) int {
	for range mostDraws {
		if member < 0 || p.free(member, r) {
			return member
		}
		target := p.targets[member]
		if slices.Contains(r.Tried, target) {
			member = p.other(r, first)
			continue
		}
		if r.Fraction() < target.Factor(r.Now) {
			return member
		}
		break
	}
	return -1
}

// load is what a member has in flight, by its weight.
func (p *twoChoices) load(member int) float64 {
	load := float64(p.targets[member].InFlight())
	if p.each != nil && load > 0 {
		load *= float64(p.each[member])
	}
	return load
}

// leastRequest takes the one with the less in flight for its weight; if they are even, the first drawn, so that idle
// members get exactly their shares.
type leastRequest struct{ twoChoices }

// Pick implements Policy.
func (p *leastRequest) Pick(r *Request) int {
	first := p.draw(r)
	if first < 0 {
		return -1
	}
	load := p.load(first)
	if load <= 0 { // nobody has less
		return first
	}
	if second := p.second(r, first, p.other(r, first)); second >= 0 && p.load(second) < load {
		return second
	}
	return first
}

// ewma takes the one whose answer is to be expected sooner: the peak EWMA of its latency times what is in flight with
// this request, by its weight. After Finagle's load balancer of that name.
type ewma struct{ twoChoices }

// Pick implements Policy.
//
// Two are drawn before either is looked at: after another core has written to both, the processor waits for their two cache
// lines at one time, not for one after the other.
func (p *ewma) Pick(r *Request) int {
	first := p.random(r)
	second := p.other(r, first)
	if second < 0 || !p.free(first, r) || !p.free(second, r) {
		return p.unusual(r, first, second)
	}
	if p.cost(r, second) < p.cost(r, first) {
		return second
	}
	return first
}

// unusual is Pick when one of the two that were drawn may not be taken, or not without further thought.
func (p *ewma) unusual(r *Request, first, second int) int {
	settled := p.settle(r, first)
	if settled < 0 {
		return -1
	}
	if settled != first {
		second = p.other(r, settled)
	}
	if second = p.second(r, settled, second); second >= 0 && p.cost(r, second) < p.cost(r, settled) {
		return second
	}
	return settled
}

// cost of an unknown member is 0 while it is idle, so that it is tried at once, and more than any known one's while the
// first answer isn't there: a new instance gets one request at a time until it is known, not a flood.
func (p *ewma) cost(r *Request, member int) float64 {
	const unknown = 1e15 // ns: eleven days
	load := p.load(member)
	latency := p.targets[member].Latency(r.Now)
	if latency == 0 && load > 0 {
		return unknown * load
	}
	return float64(latency) * (load + 1)
}
