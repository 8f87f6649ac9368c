package agent

import (
	"net/netip"
	"slices"
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
	target   *balance.Target
}

// state is a callee at one moment. It never changes: a change of the documents or of a ban makes another one.
type state struct {
	view      *catalog.View
	instances []*instance // in the view's order
	subsets   [families]subset
}

// subset is the instances that a call may go to.
type subset struct {
	// candidates are those of them that may be chosen, and targets the same in the same order, for the policy.
	candidates []*instance
	targets    []*balance.Target
	panic      bool // all that serve are banned; candidates are the least bad of them
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
	name   string
	agent  *Agent
	health *health.Service
	policy [families]balance.Policy // by subset: one turn for all would be spoilt by questions for A and AAAA in turn
	state  atomic.Pointer[state]
	mu     sync.Mutex // of the writers of state

	lines    copyMap[string, *line]
	attempts [health.Results]atomic.Uint64
	retries  atomic.Uint64
	bans     counters[health.Reason]
}

// newService returns a service that has yet to follow its view.
func (a *Agent) newService(view *catalog.View) *service {
	s := &service{name: view.Name, agent: a}
	for family := range s.policy {
		s.policy[family] = newPolicy(view.Service.Balance)
	}
	s.health = a.monitor.NewService(view.Name, &view.Service.Ban, s.verdict)
	return s
}

// newPolicy returns the policy that a callee's instances are balanced by.
func newPolicy(model.Balance) balance.Policy { return &balance.RoundRobin{} }

// follow puts a new view in force.
func (s *service) follow(view *catalog.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.SetPolicy(&view.Service.Ban)
	addresses := make([]netip.AddrPort, len(view.Instances))
	for n, record := range view.Instances {
		addresses[n] = record.Address
	}
	healths := s.health.Retain(addresses)
	before := s.state.Load()
	instances := make([]*instance, len(view.Instances))
	for n, record := range view.Instances {
		instances[n] = adopt(before, record, healths[n])
	}
	s.state.Store(newState(view, instances))
}

// adopt returns the instance of a record, with what lives on of the one that had its address before.
func adopt(before *state, record *model.Instance, verdict *health.Instance) *instance {
	if before != nil {
		if index, found := before.view.Find(record.Address); found {
			old := before.instances[index]
			if old.Instance == record && old.health == verdict {
				return old
			}
			return &instance{Instance: record, hostPort: old.hostPort, health: verdict, target: old.target}
		}
	}
	return &instance{Instance: record, hostPort: record.Address.String(), health: verdict, target: &balance.Target{}}
}

// verdict is told by package health that an instance was banned or came back.
func (s *service) verdict(_ *health.Instance, banned bool, reason health.Reason) {
	if banned {
		s.bans.add(reason)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.state.Load()
	s.state.Store(newState(now.view, now.instances))
}

func newState(view *catalog.View, instances []*instance) *state {
	next := &state{view: view, instances: instances}
	next.subsets[AnyFamily] = newSubset(instances, AnyFamily)
	for family := IPv4; family < families; family++ {
		if slices.ContainsFunc(instances, func(i *instance) bool { return !family.has(i) }) {
			next.subsets[family] = newSubset(instances, family)
		} else { // nearly all services have one family: they share one list
			next.subsets[family] = next.subsets[AnyFamily]
		}
	}
	return next
}

// newSubset settles who may be chosen: who serves and isn't banned. If all who serve are banned, a wrong choice is still
// better than none: the suspects, and if all are proven dead, everybody.
func newSubset(instances []*instance, family Family) subset {
	var chosen subset
	var serving, suspects []*instance
	for _, i := range instances {
		if !i.Serving() || !family.has(i) {
			continue
		}
		serving = append(serving, i)
		ban, banned := i.health.Ban()
		if !banned {
			chosen.candidates = append(chosen.candidates, i)
		} else if ban.Reason != health.ByProof {
			suspects = append(suspects, i)
		}
	}
	if len(chosen.candidates) == 0 && len(serving) > 0 {
		chosen.panic = true
		if chosen.candidates = suspects; len(suspects) == 0 {
			chosen.candidates = serving
		}
	}
	chosen.targets = make([]*balance.Target, len(chosen.candidates))
	for n, i := range chosen.candidates {
		chosen.targets[n] = i.target
	}
	return chosen
}
