package store

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// shortestRest is how long changes wait after the last ones. The first change after a quiet time waits for nothing; where a
	// thousand a second come, each by itself, thirty are taken at once.
	shortestRest = 30 * time.Millisecond
	// restFor is for how many times the time that the last changes took the next ones wait, so that changes take a tenth of a core
	// at most. Where one takes over 5 ms, as in a callee with 200,000 instances, whose list is copied for each change, it is more.
	restFor     = 9
	longestRest = 50 * time.Millisecond
)

// batch gathers the responses of a watch that come shortly after each other.
type batch struct {
	take    func([]clientv3.WatchResponse) error
	waiting []clientv3.WatchResponse
	rest    *time.Timer
	resting bool // rest runs
}

func newBatch(take func([]clientv3.WatchResponse) error) *batch {
	b := &batch{take: take, rest: time.NewTimer(time.Hour)}
	b.rest.Stop()
	return b
}

func (b *batch) stop() { b.rest.Stop() }

// add takes a response, now or when the last ones have rested.
func (b *batch) add(response *clientv3.WatchResponse) error {
	b.waiting = append(b.waiting, *response)
	if b.resting {
		return nil
	}
	return b.flush()
}

// rested takes what waits, when the time of rest is over.
func (b *batch) rested() error {
	b.resting = false
	return b.flush()
}

// flush takes what waits.
func (b *batch) flush() error {
	if len(b.waiting) == 0 {
		return nil
	}
	begun := time.Now()
	err := b.take(b.waiting)
	clear(b.waiting) // what they hold may go
	b.waiting = b.waiting[:0]
	b.rest.Reset(min(max(restFor*time.Since(begun), shortestRest), longestRest))
	b.resting = true
	return err
}

// takeAll takes responses in their order, those that hold changes together.
func (f *Follower) takeAll(responses []clientv3.WatchResponse) error {
	var events []*clientv3.Event
	apply := func() {
		if len(events) > 0 {
			f.apply(events)
		}
		events = nil
	}
	for n := range responses {
		response := &responses[n]
		if err := response.Err(); err != nil {
			apply()
			return err
		}
		if len(response.Events) > 0 {
			events = append(events, response.Events...)
			continue
		}
		apply()
		if err := f.take(response); err != nil {
			return err
		}
	}
	apply()
	return nil
}
