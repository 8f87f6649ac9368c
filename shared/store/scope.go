package store

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Scope says which services a Follower follows: their documents, instances and bans by hand. The topology it follows always.
// The zero value is all services there are.
//
// Whatever the scope, all of PREFIX/config/ is watched as one range, and the events of other services are passed over before
// their values are decoded. A watch of each followed service's own three ranges would spare an agent those events. They are
// few, since what is in config/ changes by deployments: 200,000 instances that change once a day are half a kilobyte a
// second, and passing one over takes 30 ns. But etcd would hold 350 bytes for each range, 500 MB for 10,000 agents with
// 50 callees each; a gRPC proxy, which merges watches of the same range only, would merge none; and a change of two services
// would come in either order. One watch has one revision, and so a service that etcd doesn't have is known not to be there
// until an event says otherwise: nobody has to ask again.
type Scope struct {
	// Names are the services to follow. None, and not Used: all.
	Names []string
	// Used follows those that Want asks for, from then on until they haven't been used for an hour.
	Used bool
	// Uses returns a number that differs from the last one if the service was used in between, and is 0 before its first
	// use. It is asked each 10 minutes, by the Follower's goroutine. nil: nothing is ever used.
	Uses func(service string) uint64
}

func (s *Scope) all() bool { return !s.Used && len(s.Names) == 0 }

func (s *Scope) uses(service string) uint64 {
	if s.Uses == nil {
		return 0
	}
	return s.Uses(service)
}

var (
	// ErrNotFollowed says that the scope names services, and not this one.
	ErrNotFollowed = errors.New("the service isn't among those that are followed")
	// ErrNotHeard says that etcd, which alone knows whether there is such a service, hasn't answered.
	ErrNotHeard = errors.New("etcd hasn't told yet whether there is such a service")
)

const (
	// keepUnused is how long a service is followed that nobody uses. A program that calls it each hour, as many jobs do,
	// finds it with all that was learnt of it; one that calls it each day waits some milliseconds for its first call.
	keepUnused = time.Hour
	sweepEvery = 10 * time.Minute
	// maxUnknown is how many services are remembered that etcd doesn't have, some 100 bytes each. Beyond, one of them is
	// forgotten for each new one.
	maxUnknown = 4096
	// maxAsked is how many services may wait to be read. Beyond, Want fails at once; without patience it fails beyond half of
	// that, so that strangers who name ever new callers keep no callee out.
	maxAsked = 1024
	// fetchRate and fetchBurst bound the reads of single services, of up to serviceBatch each: a stranger who asks for ever
	// new names makes an agent ask etcd ten times a second, and no more.
	fetchRate  = 10
	fetchBurst = 20
	// fetchTimeout bounds one such read, for which the watch waits.
	fetchTimeout = callTimeout
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

// Follow changes the scope. Before LoadSnapshot and Start it says what they read; later it takes what isn't followed any
// more out of the sink, and reads what is missing. It doesn't wait.
func (f *Follower) Follow(scope Scope) {
	e := f.extent
	e.mu.Lock()
	defer e.mu.Unlock()
	same := e.scope.Used == scope.Used && slices.Equal(e.scope.Names, scope.Names)
	e.scope, e.named = scope, map[string]bool{}
	for _, service := range scope.Names {
		e.named[service] = true
	}
	if e.begun {
		e.completed(e.complete)
	} else {
		e.completed(scope.all())
	}
	if e.begun && !same {
		e.changed = true
		poke(e.wake)
	}
}

// begin says that the scope is in force now.
func (e *extent) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = true
}

// Want returns nil when the sink has all that etcd has of a service, which may be nothing. It waits for that, for patience at
// most; without patience it only asks. Those that want the same service share one read. The error is ErrNotFollowed or
// ErrNotHeard.
func (f *Follower) Want(service string, patience time.Duration) error {
	if f.extent.whole.Load() || model.CheckName(service) != nil { // no key has an odd name
		return nil
	}
	most := maxAsked
	if patience <= 0 {
		most = maxAsked / 2
	}
	q, err := f.extent.want(service, f.hears(), most)
	if q == nil {
		return err
	}
	if patience <= 0 {
		return ErrNotHeard
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-q.done:
		return q.err
	case <-timer.C:
		return ErrNotHeard
	}
}

// hears tells whether etcd is heard, or is being called for the first time.
func (f *Follower) hears() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status.Synced || f.status.LastError == ""
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

// next returns up to count of the services that are to be read.
func (e *extent) next(count int) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.queue[:min(count, len(e.queue))])
}

// reading returns the services that a list has to read; all: every one there is.
func (e *extent) reading() (services []string, all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scope.all() {
		return slices.Clone(e.queue), true // those asked for are answered by the way
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
	return services, false
}

// read notes that the sink has what there is of services as of a revision: found are those that there is something of. Of
// others that were followed, there is nothing any more.
func (e *extent) read(services []string, found map[string]bool, revision int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for service := range found {
		e.follow(service, revision)
	}
	for _, service := range services {
		if !found[service] {
			delete(e.followed, service)
			e.miss(service, revision)
		}
	}
}

// readAll is read where the sink has nothing but what was read. complete: that is every service there is.
func (e *extent) readAll(services []string, found map[string]bool, revision int64, complete bool) {
	e.mu.Lock()
	for service := range e.followed {
		if !found[service] {
			delete(e.followed, service)
		}
	}
	clear(e.unknown) // what was known of them was known of the old watch
	e.completed(complete)
	e.mu.Unlock()
	if complete {
		services = nil
	}
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
