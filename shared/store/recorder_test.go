package store

import (
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// recorder is a Sink that keeps what it was told, as the catalog does, and a Source. It checks the contract of the calls.
type recorder struct {
	t testing.TB

	mu        sync.Mutex
	busy      bool
	changed   chan struct{} // closed at the next call
	state     map[string]model.Record
	refused   map[string]error
	revision  int64
	replaced  int // calls of Replace
	applied   int
	confirms  int
	written   time.Time
	smallest  int // the fewest records there ever were after the first Replace
	last      []model.Record
	forgotten []string
	held      *model.Holds
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, changed: make(chan struct{}), state: map[string]model.Record{}, refused: map[string]error{}}
}

func recordKey(r *model.Record) string {
	switch r.Kind {
	case model.KindTopology:
		return "Topology"
	case model.KindBan:
		return "Ban/" + r.Name + "/" + r.Address
	case model.KindInstances:
		return "Instances/" + r.Name + "/" + r.Address
	default:
		return string(r.Kind) + "/" + r.Name
	}
}

func (r *recorder) call(revision int64, records []model.Record, f func()) {
	r.mu.Lock()
	if r.busy {
		r.t.Error("the sink was called from two goroutines at a time")
	}
	r.busy = true
	f()
	for i := range records {
		record := &records[i]
		key := recordKey(record)
		switch {
		case record.Err != nil:
			r.refused[key] = record.Err
			continue
		case record.Deleted:
			delete(r.state, key)
		default:
			r.state[key] = *record
		}
		delete(r.refused, key)
	}
	r.revision, r.last = revision, records
	r.smallest = min(r.smallest, len(r.state))
	close(r.changed)
	r.changed = make(chan struct{})
	r.busy = false
	r.mu.Unlock()
}

func (r *recorder) Replace(revision int64, records []model.Record) {
	r.call(revision, records, func() {
		listed := map[string]bool{}
		for i := range records {
			listed[recordKey(&records[i])] = true
		}
		for key := range r.state {
			if !listed[key] {
				delete(r.state, key)
			}
		}
		clear(r.refused)
		if r.replaced++; r.replaced == 1 {
			r.smallest = len(records)
		}
	})
}

func (r *recorder) Apply(revision int64, records []model.Record) {
	r.call(revision, records, func() {
		if revision < r.revision || len(records) == 0 { // a service that is followed from now on comes at the last revision
			r.t.Errorf("Apply at revision %d of %d records, after %d", revision, len(records), r.revision)
		}
		r.applied++
	})
}

func (r *recorder) Forget(services []string) {
	r.call(r.revision, nil, func() {
		for _, service := range services {
			maps.DeleteFunc(r.state, func(_ string, record model.Record) bool { return record.Name == service })
		}
		r.forgotten = append(r.forgotten, services...)
	})
}

// confirmed returns how often Confirm was called.
func (r *recorder) confirmed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.confirms
}

func (r *recorder) Confirm(revision int64) {
	r.call(revision, nil, func() {
		if revision < r.revision {
			r.t.Errorf("Confirm at revision %d, after %d", revision, r.revision)
		}
		r.confirms++
	})
}

func (r *recorder) AsOf(written time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = written
}

func (r *recorder) Held() *model.Holds { return r.held }

func (r *recorder) Resume(held *model.Holds) { r.held = held }

func (r *recorder) Records(yield func(model.Record) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.state {
		if !yield(record) {
			return
		}
	}
}

// await waits until the condition holds, which is looked at after each call.
func (r *recorder) await(what string, limit time.Duration, condition func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		met, changed := condition(), r.changed
		r.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s: not after %v; revision %d, %d records, refused %v", what, limit, r.revision, len(r.state), r.refused)
		}
	}
}

// awaitRevision waits until everything up to the revision was told.
func (r *recorder) awaitRevision(revision int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("revision %d", revision), 30*time.Second, func() bool { return r.revision >= revision })
}

// awaitReplace waits for the first Replace or a further one.
func (r *recorder) awaitReplace(calls int) {
	r.t.Helper()
	r.await("the list", 30*time.Second, func() bool { return r.replaced >= calls })
}

func (r *recorder) has(keys ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(keys) != len(r.state) {
		r.t.Errorf("%d records, want %d", len(r.state), len(keys))
	}
	for _, key := range keys {
		if _, ok := r.state[key]; !ok {
			r.t.Errorf("no record %q", key)
		}
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after %v", what, limit)
		}
	}
}

// follow starts a follower that tells a recorder, and stops it with the test.
func follow(t testing.TB, cfg Config, adjust ...func(*Follower)) (*Follower, *recorder) {
	t.Helper()
	sink := newRecorder(t)
	f, err := NewFollower(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range adjust {
		change(f)
	}
	f.Start()
	t.Cleanup(f.Close)
	return f, sink
}
