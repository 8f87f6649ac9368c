package agent

import (
	"maps"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// copyMap is a map that is read at every request and hardly ever grows. Reading takes no lock; adding copies the map.
type copyMap[K comparable, V any] struct {
	entries atomic.Pointer[map[K]V]
	mu      sync.Mutex // of the writers
}

// get returns the entry of a key, made by create if it is new.
func (m *copyMap[K, V]) get(key K, create func() V) V {
	if entries := m.entries.Load(); entries != nil {
		if value, ok := (*entries)[key]; ok {
			return value
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	present := m.all()
	if value, ok := present[key]; ok {
		return value
	}
	next := make(map[K]V, len(present)+1)
	maps.Copy(next, present)
	next[key] = create()
	m.entries.Store(&next)
	return next[key]
}

// all returns the entries, which must not be changed.
func (m *copyMap[K, V]) all() map[K]V {
	if entries := m.entries.Load(); entries != nil {
		return *entries
	}
	return nil
}

// counters counts by key.
type counters[K comparable] struct {
	copyMap[K, *atomic.Uint64]
}

func (c *counters[K]) add(key K) {
	c.get(key, func() *atomic.Uint64 { return new(atomic.Uint64) }).Add(1)
}

// stripes is how many cells each hot counter is spread over, a power of two. Cores that write to the same cache line wait for
// each other longer than the whole rest of a call takes.
var stripes = 1 << bits.Len(uint(min(runtime.GOMAXPROCS(0), 16)-1))

// seats gives each core a stripe of its own, nearly always: a pool gives back to a core what the core has put in last.
var seats = sync.Pool{New: func() any {
	seat := seated.Add(1)
	return &seat
}}

var seated atomic.Uint32

// takeStripe returns the stripe of the core that this runs on. Any stripe is right; another core's is only slower.
func takeStripe() uint32 {
	seat := seats.Get().(*uint32)
	defer seats.Put(seat)
	return *seat
}

// tally is a value for each stripe.
type tally[T any] []struct {
	value T
	_     [128]byte // keeps values two cache lines apart, since processors fetch lines in pairs
}

func newTally[T any]() tally[T] { return make(tally[T], stripes) }

// at returns the value of a stripe.
func (t tally[T]) at(stripe uint32) *T { return &t[int(stripe)&(len(t)-1)].value }

// sum adds up a counter's stripes.
func sum(count tally[atomic.Uint64]) (total uint64) {
	for n := range count {
		total += count[n].value.Load()
	}
	return total
}
