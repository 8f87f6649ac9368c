package balance

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// Target is what a policy sees of one instance. Its pointer is the instance's identity.
type Target struct {
	_ byte // pointers to distinct zero-size variables may be equal
}

// Request is what a policy sees of one call.
type Request struct {
	Key   string    // what a hashing policy hashes
	Tried []*Target // already used by this call: never chosen again
}

// Policy chooses among targets. It is used by many goroutines at once.
type Policy interface {
	// Pick returns the index of the chosen target, or −1 when there is none that the call hasn't tried.
	Pick(targets []*Target, request *Request) int
}

// RoundRobin takes the targets in turn. A call's further choices, for retries or for several answers, begin at random: did
// they take turns too, calls that take two of four would find the same two in front each time; and did they go on from the
// call's own, the neighbour of a dead target would get all of that one's requests. The turn survives a change of the list.
type RoundRobin struct {
	next atomic.Uint64
}

// Pick implements Policy.
func (p *RoundRobin) Pick(targets []*Target, request *Request) int {
	n := uint64(len(targets))
	if n == 0 {
		return -1
	}
	var start uint64
	if len(request.Tried) == 0 {
		start = p.next.Add(1) - 1
	} else {
		start = rand.Uint64N(n)
	}
	for i := range n {
		index := (start + i) % n
		if !slices.Contains(request.Tried, targets[index]) {
			return int(index)
		}
	}
	return -1
}

// Interface guard.
var _ Policy = (*RoundRobin)(nil)
