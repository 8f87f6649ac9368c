package store

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// extent is what a Follower follows now. Whoever asks for a service reads it while the Follower's goroutine changes it.
type extent struct {
	wake  chan struct{} // there is something in queue, or the scope is another one
	whole atomic.Bool   // the scope is all, and complete: there is nothing to want. A fast path

	mu       sync.Mutex
	scope    Scope
	named    map[string]bool      // the scope's names
	begun    bool                 // the sink was given something, or is about to be
	changed  bool                 // the scope is another one, which has yet to be put in force
	complete bool                 // the sink has every service there is, as soon as it has anything
	followed map[string]*followed // the services that the sink has
	unknown  map[string]int64     // services that may be asked for and that etcd doesn't have: as of the revision
	asked    map[string]*question // what is yet to be read
	queue    []string             // of asked, the oldest first
	swept    time.Time
}

// followed is one service that the sink has.
type followed struct {
	since int64 // the revision that its keys were read at: older events are known
	uses  uint64
	used  time.Time // when uses was seen to grow
}

// question is what those wait for who ask for the same service.
type question struct {
	done chan struct{} // closed when err is known
	err  error
}

func newExtent() *extent {
	e := &extent{
		wake: make(chan struct{}, 1), followed: map[string]*followed{}, unknown: map[string]int64{}, asked: map[string]*question{},
		swept: time.Now(),
	}
	e.completed(true)
	return e
}

// completed notes whether the sink has every service there is. The lock is held, also after a change of the scope.
func (e *extent) completed(complete bool) {
	e.complete = complete
	e.whole.Store(complete && e.scope.all())
}

// begin says that the scope is in force now.
func (e *extent) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = true
}

// want returns what to wait for; nil: nothing, and the error is the answer.
func (e *extent) want(service string, heard bool, most int) (*question, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, unknown := e.unknown[service]
	switch {
	case len(e.named) > 0 && !e.named[service]:
		return nil, ErrNotFollowed
	case e.complete || unknown || e.followed[service] != nil:
		return nil, nil
	case !heard:
		return nil, ErrNotHeard
	}
	if e.asked[service] == nil {
		if len(e.asked) >= most {
			return nil, ErrNotHeard
		}
		e.ask(service)
		poke(e.wake)
	}
	return e.asked[service], nil
}

// ask has a service read. The lock is held.
func (e *extent) ask(service string) {
	e.asked[service] = &question{done: make(chan struct{})}
	e.queue = append(e.queue, service)
}

// answer ends what was asked about services. What the scope names is asked for again if it couldn't be read.
func (e *extent) answer(services []string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, service := range services {
		e.settle(service, err)
	}
	for _, service := range services {
		if err != nil && e.named[service] {
			e.ask(service)
		}
	}
}

// settle ends what was asked about a service, if it was. The lock is held.
func (e *extent) settle(service string, err error) {
	if q := e.asked[service]; q != nil {
		q.err = err
		close(q.done)
		delete(e.asked, service)
		e.queue = slices.DeleteFunc(e.queue, func(other string) bool { return other == service })
	}
}

// next returns up to count of the services that are to be read. What the sink has got meanwhile isn't read again: in step with
// the events as it is, it would miss those removals that the read came after.
func (e *extent) next(count int) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, service := range slices.Clone(e.queue) {
		if e.followed[service] != nil {
			e.settle(service, nil)
		}
	}
	return slices.Clone(e.queue[:min(count, len(e.queue))])
}

// reading returns the services that a list has to read; all: every one there is. It puts a changed scope in force, since what
// isn't read any more looks removed to the sink, unless that has forgotten what is gone.
func (e *extent) reading() (gone, services []string, all bool) {
	uses := e.usesToNarrow()
	e.mu.Lock()
	defer e.mu.Unlock()
	gone, _ = e.narrow(uses)
	if e.scope.all() {
		return gone, slices.Clone(e.queue), true // those asked for are answered by the way
	}
	wanted := map[string]bool{}
	for _, service := range slices.Concat(e.scope.Names, e.queue) {
		wanted[service] = true
	}
	if e.scope.Used {
		for service := range e.followed {
			wanted[service] = true
		}
	}
	for service := range wanted {
		services = append(services, service)
	}
	slices.Sort(services)
	return gone, services, false
}

// read notes that the sink has what there is of services as of a revision: found are those that there is something of.
func (e *extent) read(services []string, found map[string]bool, revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for service := range found {
		e.follow(service, revision)
	}
	for _, service := range services {
		if !found[service] && e.followed[service] == nil {
			e.miss(service, revision)
		}
	}
}

// readAll is read where the sink has nothing but what was read. complete: that is every service there is. What was followed
// and isn't found stays followed: the sink may hold back that it is gone, and an etcd that came back empty may be restored.
func (e *extent) readAll(services []string, found map[string]bool, revision int64, complete bool) {
	e.mu.Lock()
	for _, one := range e.followed {
		one.since = revision
	}
	clear(e.unknown) // what was known of them was known of the old watch
	e.completed(complete)
	if complete { // who has asked since the list began is answered by it, too
		services = nil
		for service := range e.asked {
			e.settle(service, nil)
		}
	}
	e.mu.Unlock()
	e.read(services, found, revision)
}

// follow notes that the sink has a service as of a revision. The lock is held.
func (e *extent) follow(service string, since int64) {
	delete(e.unknown, service)
	if one := e.followed[service]; one != nil {
		one.since = since
		return
	}
	e.followed[service] = &followed{since: since, used: time.Now()}
}

// miss notes that etcd doesn't have a service. The lock is held.
func (e *extent) miss(service string, revision int64) {
	if len(e.unknown) >= maxUnknown {
		for other := range e.unknown { // whichever comes first
			delete(e.unknown, other)
			break
		}
	}
	e.unknown[service] = revision
}

// takes tells whether an event is the sink's business.
func (e *extent) takes(keys keyspace, key []byte, revision int64) bool {
	service, ofService := keys.serviceOf(key)
	if len(service) > maxShown {
		service = []byte(shorten(string(service))) // as its record is named: keys may be of 1.5 MiB
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !ofService {
		return e.complete || string(key) == keys.topology() || keys.confirms(key)
	}
	if one := e.followed[string(service)]; one != nil {
		return revision > one.since
	}
	since, unknown := e.unknown[string(service)]
	if !e.complete && (!unknown || revision <= since) {
		return false
	}
	e.follow(string(service), 0)
	return true
}

// partial tells whether there may be services that the sink doesn't have.
func (e *extent) partial() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.complete
}

// loads tells whether a service of the snapshot is of use.
func (e *extent) loads(service []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.named) == 0 || e.named[string(service)]
}

// loaded notes what came from a snapshot. A snapshot of the whole mesh tells of a service that isn't in it that there is none.
func (e *extent) loaded(state *snapshotState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = true
	e.completed(e.scope.all() && !state.partial)
	for i := range state.records {
		if name := state.records[i].Name; name != "" {
			e.follow(name, 0)
		}
	}
	if state.partial {
		return
	}
	for _, service := range e.scope.Names {
		if e.followed[service] == nil {
			e.miss(service, 0)
		}
	}
}
