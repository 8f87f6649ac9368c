package agent

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/fuse"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// instance is one instance as the agent uses it: its document, and what lives on when the document changes. What every
// attempt needs is in here, even if it is copied from the document: so an attempt reads one cache line, of 64 bytes.
type instance struct {
	*hot
	pulse    *health.Pulse // that of health
	health   *health.Instance
	hostPort string
	idc      string // physical

	*model.Instance
}

func newInstance(record *model.Instance) *instance {
	own := new(hot)
	return &instance{hot: own, hostPort: record.Address.String(), pulse: &own.own, Instance: record, idc: record.IDC}
}

// with returns the instance under another document.
func (i *instance) with(record *model.Instance) *instance {
	next := *i
	next.Instance, next.idc = record, record.IDC
	return &next
}

// hot is what every attempt on an instance writes. It is one cache line, since the cores that share an agent have to pass each
// line that they write to each other.
type hot struct {
	target balance.Target
	own    health.Pulse // the instance's, unless it was banned when it left the list and came back
	aside  atomic.Int32 // attempts in flight that the fuse doesn't count as under way
	_      [4]byte      // to 64 bytes: allocations of that size are aligned to it
}

// state is a callee at one moment. It never changes, but for its plan, which is made when it is needed: a change of the
// documents or of a ban makes another state.
type state struct {
	view      *catalog.View
	idcs      *route.IDCs // of the topology that it was made under
	instances []*instance // in the view's order
	byHand    handBans    // mostly nil
	plan      atomic.Pointer[plan]
	outdated  *plan // of the same documents, made before bans changed; nil: none
}

// again returns the same state without a plan, to be put in force when bans have changed.
func (st *state) again() *state {
	next := &state{view: st.view, idcs: st.idcs, instances: st.instances, byHand: st.byHand, outdated: st.plan.Load()}
	if next.outdated == nil {
		next.outdated = st.outdated
	}
	return next
}

// Family is an IP version, for callers that can use an address of one only.
type Family uint8

// The families.
const (
	AnyFamily Family = iota
	IPv4
	IPv6
	families
)

func (f Family) has(i *instance) bool {
	return f == AnyFamily || (f == IPv4) == i.Address.Addr().Is4()
}

// service is a callee, as long as a document names it or a ban of its instances stands. It sleeps until somebody wants it: an
// agent knows a thousand callees and calls a few, and what it keeps of an instance that it may call is four times what the
// instance's document takes.
type service struct {
	state atomic.Pointer[state] // nil: it sleeps
	// firstLine is the line that was made first: the only one where a single program has the agent to itself, and it takes no
	// hashing to find.
	firstLine atomic.Pointer[line]
	// fuse, reporting and health are there from when it wakes.
	fuse      *fuse.Fuse
	reporting reporting // hand-outs need its begin
	health    *health.Service

	name     string
	agent    *Agent
	view     atomic.Pointer[catalog.View] // what the documents say
	ticking  ticking
	mu       sync.Mutex // of the writers of view and state, and of closed
	closed   bool       // it isn't judged any more
	planning sync.Mutex // held while a plan is made
	memories memories
	gone     atomic.Bool // no document names it now
	handEnds *time.Timer // until the first end of a ban by hand; nil: none has an end

	lines   copyMap[string, *line]
	retries atomic.Uint64
	budget  bucket // of retries
	hedging hedging
	bans    counters[health.Reason]
	capped  counters[health.Reason] // of the bans that the cap didn't allow
}

// newService returns a service that has yet to follow its view.
func (a *Agent) newService(name string) *service {
	s := &service{name: name, agent: a}
	s.budget.fill()
	s.hedging.budget.fill()
	return s
}

// awake returns the present state, of a callee that from now on doesn't sleep.
func (s *service) awake() *state {
	if now := s.state.Load(); now != nil {
		return now // fast path
	}
	return s.wake()
}

func (s *service) wake() *state {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.state.Load(); now != nil {
		return now
	}
	view := s.view.Load()
	s.reporting.init()
	s.health = s.agent.monitor.NewService(s.name, banPolicy(view.Service), s.verdict, s.heard)
	s.fuse = fuse.New(fusePolicy(view.Service), s.underWay)
	s.put(view)
	if s.closed {
		s.health.Close()
	}
	return s.state.Load()
}

// sleeps tells whether nobody has wanted the callee yet.
func (s *service) sleeps() bool { return s.state.Load() == nil }

// follow puts a new view in force.
func (s *service) follow(view *catalog.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.Store(view)
	if !s.sleeps() {
		s.put(view)
	}
}

// put puts a view in force. The lock is held.
func (s *service) put(view *catalog.View) {
	before, idcs := s.state.Load(), s.agent.place.Load().idcs
	if before != nil && view.Service != before.view.Service {
		s.health.SetPolicy(banPolicy(view.Service))
		s.fuse.SetPolicy(fusePolicy(view.Service))
	}
	next := &state{view: view, idcs: idcs}
	var ends time.Time
	next.byHand, ends = byHand(view, idcs, time.Now())
	s.awaitEnd(view, ends)
	moved := next.adopt(before)
	if moved || before.idcs != idcs || !maps.Equal(before.byHand, next.byHand) {
		s.retain(next.instances, next.byHand, idcs)
	} else if catalog.SameInstances(view.Instances, before.view.Instances) && view.Service == before.view.Service {
		next.plan.Store(before.plan.Load()) // the revision is all that is new
		next.outdated = before.outdated
	}
	s.state.Store(next)
}

// close ends the callee's timers. Its instances are neither banned nor come back any more.
func (s *service) close() {
	s.mu.Lock()
	s.closed = true
	s.awaitEnd(nil, time.Time{})
	sleeps := s.sleeps()
	s.mu.Unlock()
	if !sleeps {
		s.health.Close()
	}
	s.endTicking()
}

// banPolicy is what package health goes by.
func banPolicy(document *model.Service) *health.Policy {
	return &health.Policy{
		Ban: document.Ban, Hashes: document.Balance.Policy == model.ConsistentHash,
		TrialTimeout: document.Timeouts.Normal.Total.Std(), Check: document.Check,
	}
}

// retain tells package health which instances the callee has now.
func (s *service) retain(instances []*instance, hand handBans, idcs *route.IDCs) {
	members := make([]health.Member, len(instances))
	for n, i := range instances {
		members[n] = health.Member{Address: i.Address, IDC: idcs.Logical(i.IDC), Serving: hand.leave(i.Instance, idcs)}
	}
	for n, found := range s.health.Retain(members, func(n int) *health.Pulse { return instances[n].pulse }) {
		if i := instances[n]; i.health == nil {
			i.health, i.pulse = found, found.Pulse // those of before, if it was banned when it left the list
		}
	}
}

// adopt fills in the instances: those that had their addresses before, if any, under their new documents. It tells whether
// anything has changed that package health is to know: their addresses, IDCs, and whether they serve.
func (st *state) adopt(before *state) (moved bool) {
	var known []*instance
	var old []*model.Instance // theirs
	if before != nil {
		known, old = before.instances, before.view.Instances
		if catalog.SameInstances(st.view.Instances, old) {
			st.instances = known
			return false
		}
	}
	st.instances = make([]*instance, len(st.view.Instances))
	moved = len(old) != len(st.instances) || before == nil
	next := 0 // index into known and old
	for n, record := range st.view.Instances {
		if next < len(old) && old[next] == record {
			st.instances[n] = known[next]
			next++
			continue // fast path, without a look at it
		}
		for next < len(old) && old[next].Address.Compare(record.Address) < 0 {
			next++
		}
		if next == len(old) || old[next].Address != record.Address {
			st.instances[n], moved = newInstance(record), true
			continue
		}
		moved = moved || old[next].IDC != record.IDC || old[next].Serving() != record.Serving()
		if st.instances[n] = known[next]; old[next] != record {
			st.instances[n] = known[next].with(record)
		}
		next++
	}
	return moved
}

// verdict is the service's health.Listener: it counts a decision, puts it in force and tells it to the agent's listener.
func (s *service) verdict(of *health.Instance, d *health.Decision) {
	switch d.Kind {
	case health.Banned, health.Relapsed:
		s.bans.add(d.Reason)
	case health.Capped:
		s.capped.add(d.Reason)
	}
	switch {
	case of != nil:
		s.apply(of, d)
	case d.Kind == health.PanicOver:
		s.warmUp(d.IDC)
	}
	s.agent.tell(*d)
}

// apply puts a decision on an instance in force.
func (s *service) apply(of *health.Instance, d *health.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	index, found := now.view.Find(of.Address)
	if !found || d.Same { // a new plan takes milliseconds, and the probes of the dead go on for long
		return
	}
	switch target := &now.instances[index].target; d.Kind {
	case health.Capped:
		return
	case health.Slowed:
		target.Cut(s.agent.now(), 1/d.Inputs["ratio"])
		return
	case health.Reopened, health.Lifted:
		if !s.fuse.Avalanche() { // then all are needed
			target.SlowStart(s.agent.now())
		}
	}
	s.state.Store(now.again())
}

// warmUp begins the slow start of an IDC that was in panic: its traffic had gone elsewhere, and so the instances that weren't
// banned are as cold as the others.
func (s *service) warmUp(idc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, idcs := s.state.Load(), s.agent.place.Load().idcs
	for _, i := range now.instances {
		if i.pulse.State() == health.Up && idcs.Logical(i.IDC) == idc {
			i.target.SlowStart(s.agent.now())
		}
	}
	s.state.Store(now.again())
}
