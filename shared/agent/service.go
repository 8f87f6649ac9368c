package agent

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// instance is one instance as the agent uses it: its document, and what lives on when the document changes.
type instance struct {
	*model.Instance
	hostPort string
	health   *health.Instance
	pulse    *health.Pulse // of health
	target   *balance.Target
}

// hot is what every attempt on an instance writes: one cache line, which the cores that share an agent have to pass to and
// fro.
type hot struct {
	target balance.Target
	pulse  health.Pulse
}

// state is a callee at one moment. It never changes, but for its plan, which is made when it is needed: a change of the
// documents or of a ban makes another state.
type state struct {
	view      *catalog.View
	instances []*instance // in the view's order
	plan      atomic.Pointer[plan]
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

// service is a callee as long as documents know it.
type service struct {
	name     string
	agent    *Agent
	health   *health.Service
	state    atomic.Pointer[state]
	mu       sync.Mutex // of the writers of state
	planning sync.Mutex // of the makers of plans
	memories memories
	gone     atomic.Bool // no document names it now

	lines    copyMap[string, *line]
	attempts tally[[health.Results]atomic.Uint64]
	retries  atomic.Uint64
	budget   bucket // of retries
	hedging  hedging
	bans     counters[health.Reason]
}

// newService returns a service that has yet to follow its view.
func (a *Agent) newService(view *catalog.View) *service {
	s := &service{name: view.Name, agent: a, attempts: newTally[[health.Results]atomic.Uint64]()}
	s.budget.fill()
	s.hedging.budget.fill()
	s.health = a.monitor.NewService(view.Name, &view.Service.Ban, s.verdict)
	return s
}

// follow puts a new view in force.
func (s *service) follow(view *catalog.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.SetPolicy(&view.Service.Ban)
	before := s.state.Load()
	addresses, instances := make([]netip.AddrPort, len(view.Instances)), make([]*instance, len(view.Instances))
	for n, record := range view.Instances {
		addresses[n], instances[n] = record.Address, adopt(before, record)
	}
	for n, found := range s.health.Retain(addresses, func(n int) *health.Pulse { return instances[n].pulse }) {
		if i := instances[n]; i.health == nil {
			i.health, i.pulse = found, found.Pulse // an older one, if he was banned when he left
		}
	}
	s.state.Store(&state{view: view, instances: instances})
}

// adopt returns the instance of a record, with what lives on of the one that had its address before.
func adopt(before *state, record *model.Instance) *instance {
	if before != nil {
		if index, found := before.view.Find(record.Address); found {
			old := before.instances[index]
			if old.Instance == record {
				return old
			}
			return &instance{Instance: record, hostPort: old.hostPort, health: old.health, pulse: old.pulse, target: old.target}
		}
	}
	own := new(hot)
	return &instance{Instance: record, hostPort: record.Address.String(), pulse: &own.pulse, target: &own.target}
}

// verdict is told by package health that an instance was banned or came back.
func (s *service) verdict(of *health.Instance, banned bool, reason health.Reason) {
	if banned {
		s.bans.add(reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	if index, found := now.view.Find(of.Address); found && !banned {
		now.instances[index].target.SlowStart(s.agent.now())
	}
	s.state.Store(&state{view: now.view, instances: now.instances})
}

// panicking tells whether all instances that serve are banned, and one is chosen all the same.
func (st *state) panicking() bool {
	serving := false
	for _, i := range st.instances {
		if i.Serving() {
			serving = true
			if !i.health.Banned() {
				return false
			}
		}
	}
	return serving
}
