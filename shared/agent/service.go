package agent

import (
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
// attempt needs is in here, even if it is copied from the document: so an attempt reads one cache line.
type instance struct {
	target   *balance.Target
	pulse    *health.Pulse // that of health
	aside    *atomic.Int32 // attempts in flight that the fuse doesn't count as under way
	health   *health.Instance
	hostPort string
	idc      string // physical

	*model.Instance
}

func newInstance(record *model.Instance) *instance {
	own := new(hot)
	return (&instance{hostPort: record.Address.String(), pulse: &own.pulse, target: &own.target, aside: &own.aside}).with(record)
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
	pulse  health.Pulse
	aside  atomic.Int32
	_      [4]byte // to 64 bytes: allocations of that size are aligned to it
}

// state is a callee at one moment. It never changes, but for its plan, which is made when it is needed: a change of the
// documents or of a ban makes another state.
type state struct {
	view      *catalog.View
	instances []*instance // in the view's order
	byHand    handBans    // mostly nil
	plan      atomic.Pointer[plan]
	outdated  *plan // of the same documents, made before bans changed; nil: none
}

// again returns the same state without a plan, to be put in force when bans have changed.
func (st *state) again() *state {
	next := &state{view: st.view, instances: st.instances, byHand: st.byHand, outdated: st.plan.Load()}
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

// service is a callee, as long as a document names it or a ban of its instances stands.
type service struct {
	state atomic.Pointer[state]
	// firstLine is the line that was made first: the only one where a single program has the agent to itself, and it takes no
	// hashing to find.
	firstLine atomic.Pointer[line]
	fuse      *fuse.Fuse
	reporting reporting // hand-outs need its begin

	name     string
	agent    *Agent
	health   *health.Service
	ticking  ticking
	mu       sync.Mutex // of the writers of state
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
func (a *Agent) newService(view *catalog.View) *service {
	s := &service{name: view.Name, agent: a, reporting: newReporting()}
	s.budget.fill()
	s.hedging.budget.fill()
	s.health = a.monitor.NewService(view.Name, banPolicy(view.Service), s.verdict, s.heard)
	s.fuse = fuse.New(fusePolicy(view.Service), s.underWay)
	return s
}

// follow puts a new view in force.
func (s *service) follow(view *catalog.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(view)
}

// put puts a view in force. The lock is held.
func (s *service) put(view *catalog.View) {
	s.health.SetPolicy(banPolicy(view.Service))
	s.fuse.SetPolicy(fusePolicy(view.Service))
	before := s.state.Load()
	instances := make([]*instance, len(view.Instances))
	for n, record := range view.Instances {
		instances[n] = adopt(before, record)
	}
	idcs := s.agent.place.Load().idcs
	hand, ends := byHand(view, idcs, time.Now())
	s.awaitEnd(view, ends)
	s.retain(instances, hand, idcs)
	s.state.Store(&state{view: view, instances: instances, byHand: hand})
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

// adopt returns the instance of a record: the one that had its address before, if any, under the new document.
func adopt(before *state, record *model.Instance) *instance {
	if before != nil {
		if index, found := before.view.Find(record.Address); found {
			old := before.instances[index]
			if old.Instance == record {
				return old
			}
			return old.with(record)
		}
	}
	return newInstance(record)
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
	switch target := now.instances[index].target; d.Kind {
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
