package chaos

import (
	"sync"
	"time"
)

// stalls are the times in which this machine stood still: this program wanted to run, and couldn't. A virtual machine that
// is paused, or one with too much to do, looks like a mesh that breaks all its promises of time.
type stalls struct {
	mu   sync.Mutex
	list []stall
}

type stall struct {
	ended time.Time
	took  time.Duration
}

// The watch looks each tick; what is late by more than atLeast is a stall.
const (
	tick    = 10 * time.Millisecond
	atLeast = 250 * time.Millisecond
)

// watch looks for stalls until the returned function is called.
func (s *stalls) watch() (stop func()) {
	stopping := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for last := time.Now(); ; {
			select {
			case <-stopping:
				return
			case <-time.After(tick):
			}
			now := time.Now()
			s.note(now, now.Sub(last))
			last = now
		}
	})
	return func() {
		close(stopping)
		running.Wait()
	}
}

// note notes a look at a time, so long after the last.
func (s *stalls) note(now time.Time, since time.Duration) {
	if since < atLeast {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, stall{now, since})
}

// longest returns the longest stall that ended after a time; 0: there was none.
func (s *stalls) longest(after time.Time) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.list {
		if one.ended.After(after) {
			longest = max(longest, one.took)
		}
	}
	return longest
}
