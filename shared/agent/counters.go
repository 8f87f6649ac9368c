package agent

import (
	"maps"
	"sync"
	"sync/atomic"
)

// copyMap is a map that is read at every request and hardly ever grows: reading takes no lock.
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
