package balance

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
)

// mostStripes bounds the size of a Memory, to 2 KiB. What would be one counter for all is one for each core, as far as
// these suffice: a cache line that all cores write costs each of them some 100 ns a write.
const mostStripes = 16

// Memory is what outlives a list of instances: where round robin stands, and how much is in flight in all of the list.
type Memory struct {
	turns   atomic.Uint64 // of round robin, that were given to stripes or callers
	_       [128 - 8]byte
	stripes []stripe // a power of two of them
}

// stripe is padded to two cache lines, as processors fetch lines in pairs.
type stripe struct {
	block    atomic.Uint64 // turns that were given to the stripe: the next one, and in the low bits how many are left
	size     atomic.Uint64 // of the last block
	filled   atomic.Int64  // when it was given
	filling  atomic.Bool
	inFlight atomic.Int64 // alone it means nothing: a request may end on another stripe
	_        [128 - 40]byte
}

// NewMemory returns a Memory with a stripe for each core that Go uses now, at most 16. Round robin begins anywhere: of the
// agents that start together, each would else send its first requests to the same instances: turn is a random number.
func NewMemory(turn uint64) *Memory {
	cores := min(runtime.GOMAXPROCS(0), mostStripes)
	m := &Memory{stripes: make([]stripe, 1<<bits.Len(uint(cores-1)))}
	m.turns.Store(turn >> 32)
	return m
}

func (m *Memory) stripe(n uint32) *stripe { return &m.stripes[n&uint32(len(m.stripes)-1)] }

// Began notes one more request in flight in the list.
func (m *Memory) Began(stripe uint32) { m.stripe(stripe).inFlight.Add(1) }

// Ended notes one less.
func (m *Memory) Ended(stripe uint32) { m.stripe(stripe).inFlight.Add(-1) }

// total is how many requests are in flight in the list.
func (m *Memory) total() int64 {
	var sum int64
	for i := range m.stripes {
		sum += m.stripes[i].inFlight.Load()
	}
	return max(sum, 0)
}

const (
	leftBits = 16 // of stripe.block
	// mostTurns is how many turns a stripe gets at once at the most.
	mostTurns = 64
	// hotTurn is how little time a turn must take, on average, for a stripe to be given more of them at once: then what cores lose
	// by waiting for each other's cache lines begins to count. Below it all stripes take single turns, so that requests
	// that come one by one see the members in their order.
	hotTurn = 20 * time.Microsecond
)

// turn takes a turn. Each turn is given once, whatever the stripe.
func (m *Memory) turn(n uint32, now time.Duration) uint64 {
	s := m.stripe(n)
	for {
		block := s.block.Load()
		if block&(1<<leftBits-1) == 0 {
			return m.fill(s, now)
		}
		if s.block.CompareAndSwap(block, block+1<<leftBits-1) {
			return block >> leftBits
		}
	}
}

// fill gives a stripe that has no turns left a block of them, and returns its first.
func (m *Memory) fill(s *stripe, now time.Duration) uint64 {
	if !s.filling.CompareAndSwap(false, true) {
		return m.turns.Add(1) - 1 // another goroutine does
	}
	defer s.filling.Store(false)
	if s.block.Load()&(1<<leftBits-1) != 0 {
		return m.turns.Add(1) - 1 // another goroutine just has
	}
	size := max(s.size.Load(), 1)
	if now-time.Duration(s.filled.Load()) < hotTurn*time.Duration(size) {
		size = min(2*size, mostTurns)
	} else {
		size = 1
	}
	s.size.Store(size)
	s.filled.Store(int64(now))
	first := m.turns.Add(size) - size
	if size > 1 {
		s.block.Store((first+1)<<leftBits | (size - 1))
	}
	return first
}
