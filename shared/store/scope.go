package store

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Scope says which services a Follower follows: their documents, instances and bans by hand. The topology it follows always.
// The zero value is all services there are.
//
// Whatever the scope, all of PREFIX/config/ is watched as one range, and the events of other services are passed over before
// their values are decoded. A watch of each followed service's own three ranges would spare an agent those events. They are
// few, since what is in config/ changes by deployments: 200,000 instances that change once a day are half a kilobyte a
// second, and 2 µs of CPU each to receive one and pass it over, half of what following it takes. But etcd would hold 350
// bytes for each range, 500 MB for 10,000 agents with 50 callees each; a gRPC proxy, which merges watches of the same range
// only, would merge none; and a change of two services would come in either order. One watch has one revision, and so a
// service that etcd doesn't have is known not to be there until an event says otherwise: nobody has to ask again.
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

// usesOf asks for the uses of services, which takes a while: the extent isn't to be locked meanwhile.
func (s *Scope) usesOf(services []string) map[string]uint64 {
	uses := make(map[string]uint64, len(services))
	for _, service := range services {
		uses[service] = 0
		if s.Uses != nil {
			uses[service] = s.Uses(service)
		}
	}
	return uses
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

// rescope returns what isn't followed any more, and asks for what is missing. all: everything has to be read.
func (e *extent) rescope() (gone []string, all bool) {
	uses := e.usesToNarrow()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.narrow(uses)
}

// usesToNarrow returns the uses that narrow needs, and nil if it needs none.
func (e *extent) usesToNarrow() map[string]uint64 {
	e.mu.Lock()
	if !e.changed || !e.scope.Used || !e.complete {
		e.mu.Unlock()
		return nil
	}
	scope, services := e.scope, slices.Collect(maps.Keys(e.followed))
	e.mu.Unlock()
	return scope.usesOf(services)
}

// narrow is rescope with the uses that were counted before. The lock is held.
func (e *extent) narrow(uses map[string]uint64) (gone []string, all bool) {
	if !e.changed {
		return nil, false
	}
	e.changed = false
	if e.scope.all() {
		return nil, !e.complete
	}
	knewAll := e.complete
	e.completed(false)
	for service := range e.followed {
		keep := e.named[service]
		if e.scope.Used {
			n, counted := uses[service] // not if the scope has just changed once more: the sweep drops it
			keep = !knewAll || !counted || n > 0
		}
		if !keep {
			delete(e.followed, service)
			gone = append(gone, service)
		}
	}
	if len(e.named) > 0 {
		e.dropUnnamed()
	}
	for _, service := range e.scope.Names {
		_, unknown := e.unknown[service]
		switch {
		case e.followed[service] != nil || unknown || e.asked[service] != nil:
		case knewAll:
			e.miss(service, 0)
		default:
			e.ask(service) // beyond maxAsked, too: it is the operator's wish
		}
	}
	slices.Sort(gone)
	return gone, false
}

// dropUnnamed lets go of what was asked about services that the scope doesn't name: of them, no event is to be taken either.
// The lock is held.
func (e *extent) dropUnnamed() {
	for service := range e.asked {
		if !e.named[service] {
			e.settle(service, ErrNotFollowed)
		}
	}
	maps.DeleteFunc(e.unknown, func(service string, _ int64) bool { return !e.named[service] })
}

// sweep returns the services that have been unused for long, and follows them no more.
func (e *extent) sweep(now time.Time, every, unused time.Duration) (gone []string) {
	e.mu.Lock()
	if !e.scope.Used || now.Sub(e.swept) < every {
		e.mu.Unlock()
		return nil
	}
	e.swept = now
	scope, services := e.scope, slices.Collect(maps.Keys(e.followed))
	e.mu.Unlock()
	uses := scope.usesOf(services)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.scope.Used {
		return nil
	}
	for service, one := range e.followed { // nobody else changes them
		if uses[service] != one.uses {
			one.uses, one.used = uses[service], now
		} else if now.Sub(one.used) >= unused {
			delete(e.followed, service)
			gone = append(gone, service)
		}
	}
	slices.Sort(gone)
	return gone
}
