package corednsufc

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// maxPicks bounds the search for further addresses where many instances share one.
const maxPicks = 64

// familyOf returns the addresses that a type of record can hold; an SRV target is a name, of either.
func familyOf(qtype uint16) agent.Family {
	switch qtype {
	case dns.TypeA:
		return agent.IPv4
	case dns.TypeAAAA:
		return agent.IPv6
	}
	return agent.AnyFamily
}

// choose begins the call and lets the agent choose as many different instances as one answer holds.
func (u *UFC) choose(q *query) {
	q.call = agent.Call{
		Callee: q.service, Caller: q.caller, Class: agent.DefaultClass, HandOut: true, Family: familyOf(q.qtype),
		IDC: u.idcOf(q), Client: q.asker(),
	}
	u.pick(q)
	if u.config.fused == fusedAnswer && q.isFused() { // counted as refused all the same
		q.call.Unfused = true
		u.pick(q)
	}
	if q.call.Hashed() {
		q.client.dependsOnClient = true
	}
}

// isFused tells whether the call is refused although there may be instances for it.
func (q *query) isFused() bool {
	return q.refusal != nil && (q.refusal.Reason == agent.ReasonFused || q.refusal.Reason == agent.ReasonDropped)
}

func (u *UFC) pick(q *query) {
	q.chosen, q.refusal = q.room[:0], nil
	brain := q.mesh.Agent
	err := brain.Begin(&q.call)
	for picks := 0; err == nil && len(q.chosen) < u.config.answers && picks < maxPicks; picks++ {
		var attempt *agent.Attempt
		if attempt, err = brain.Pick(&q.call); err == nil && (q.qtype == dns.TypeSRV || !addressIn(q.chosen, attempt.Address().Addr())) {
			q.chosen = append(q.chosen, attempt)
		}
	}
	if len(q.chosen) == 0 { // else there are no more
		q.refusal, _ = errors.AsType[*agent.Refusal](err)
	}
}

// addressIn tells whether an address is chosen already, with another port: a set of records holds no record twice.
func addressIn(chosen []*agent.Attempt, address netip.Addr) bool {
	return slices.ContainsFunc(chosen, func(attempt *agent.Attempt) bool { return attempt.Address().Addr() == address })
}
