package balance

import (
	"math/bits"
	"runtime"
	"sync/atomic"
)

// mostStripes bounds the size of a Memory, to 2 KiB. What would be one counter for all is one for each core, as far as
// these suffice: a cache line that all cores write costs each of them some 100 ns a write.
const mostStripes = 16

// Memory is what outlives a list of instances: where round robin stands, and how much is in flight in all of the list.
type Memory struct {
	stripes []stripe // a power of two of them
	seats   atomic.Uint64
}

// stripe is padded to two cache lines, as processors fetch lines in pairs.
type stripe struct {
	turns    atomic.Uint64 // round robin's turns taken
	start    atomic.Uint64 // where in round robin's cycle the stripe begins, in 2⁻⁶⁴ of it. 0: not used yet
	inFlight atomic.Int64  // alone it means nothing: a request may end on another stripe
	_        [128 - 24]byte
}

// NewMemory returns a Memory with a stripe for each core that Go uses now, at most 16.
func NewMemory() *Memory {
	cores := min(runtime.GOMAXPROCS(0), mostStripes)
	return &Memory{stripes: make([]stripe, 1<<bits.Len(uint(cores-1)))}
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

// turn takes a stripe's next turn in a cycle of so many, and returns its place in the cycle.
func (m *Memory) turn(stripe uint32, cycle uint64) uint64 {
	s := m.stripe(stripe)
	start := s.start.Load()
	if start == 0 {
		start = m.seat(s)
	}
	return (scaled(start, cycle) + s.turns.Add(1) - 1) % cycle
}

// seat gives a stripe its beginning, when it is first used. The first gets the cycle's, the next its middle, then the
// quarters and so on (the sequence of van der Corput), so that stripes don't crowd the same members. The lowest bit
// says that the stripe has its seat; a cycle is too short to be moved by it.
func (m *Memory) seat(s *stripe) uint64 {
	s.start.CompareAndSwap(0, bits.Reverse64(m.seats.Add(1)-1)|1)
	return s.start.Load()
}
