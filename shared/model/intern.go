package model

import "sync"

// shared keeps one copy of values that many instances have in common, so that 200,000 of them in ten IDCs don't hold
// 200,000 copies of ten names. A table of maps saves more: one small map takes 300 bytes.
//
// It is bounded: when it is full it begins anew, so that values that differ in every instance cost no more than the
// table itself. The standard library's unique package would need a string made of every value before it can look.
type shared[V any] struct {
	mu     sync.RWMutex
	values map[string]V
}

// Bounds of a table: about 1 MiB at worst.
const (
	maxShared    = 2048
	maxSharedKey = 256 // bytes
)

// get returns the shared value of a key.
func (s *shared[V]) get(key []byte) (V, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok := s.values[string(key)]
	return value, ok
}

// put shares a value, which nobody may change from then on.
func (s *shared[V]) put(key []byte, value V) {
	if len(key) > maxSharedKey {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil || len(s.values) >= maxShared {
		s.values = make(map[string]V)
	}
	s.values[string(key)] = value
}

var (
	sharedIDCs   shared[string]
	sharedLabels shared[map[string]string] // by their JSON, as written
)
