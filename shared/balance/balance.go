package balance

import (
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Request is what a policy sees of one call.
type Request struct {
	Hash   uint64        // what consistent hash goes by; random if the request has no key
	Tried  []*Target     // already used by this call: never chosen again
	Seed   uint64        // of what is drawn at random. 0: a random one
	Stripe uint32        // which of the striped counters to use; any value, best one that differs from core to core
	Now    time.Duration // since a fixed moment of the process, by a monotonic clock. Policies never ask a clock themselves
}

// Member is one instance of a list.
type Member struct {
	Target *Target
	Weight int    // its share relative to the others'. 0: none, unless all have 0; then all have the same
	Name   string // its address, the same on all machines: consistent hash hashes it
}

// Policy chooses among the members that it was made for. It is used by many goroutines at once.
type Policy interface {
	// Pick returns the index of the chosen member, or −1 when there is none that the call hasn't tried.
	Pick(r *Request) int
}

// New returns the policy of that name over a list, with the memory of the lists before it. size is the number of all the
// callee's instances, whether they may be chosen now or not: the density of consistent hash's ring goes by it, so that
// it doesn't change with a ban. An unknown name means round robin.
func New(policy model.BalancePolicy, members []Member, size int, memory *Memory) Policy {
	if len(members) == 0 {
		return nobody{}
	}
	switch policy {
	case model.Random:
		return &random{newList(members)}
	case model.LeastRequest:
		return &leastRequest{newTwoChoices(members)}
	case model.EWMA:
		return &ewma{newTwoChoices(members)}
	case model.ConsistentHash:
		return newConsistentHash(members, size, memory)
	default:
		return newRoundRobin(members, memory)
	}
}

// Tracks tells whether a policy wants to know of each request's beginning and end, by Began and Ended of the Target and of
// the Memory.
func Tracks(policy model.BalancePolicy) bool {
	return policy == model.LeastRequest || policy == model.EWMA || policy == model.ConsistentHash
}

// nobody is the policy of an empty list.
type nobody struct{}

// Pick implements Policy.
func (nobody) Pick(*Request) int { return -1 }
