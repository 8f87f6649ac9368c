package corednsufc

import (
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

// pick begins the call and asks the agent for as many different instances as one answer holds, appending them to chosen,
// which is empty.
func (u *UFC) pick(q *query, call *agent.Call, chosen []*agent.Attempt) ([]*agent.Attempt, error) {
	if err := q.mesh.Agent.Begin(call); err != nil {
		return nil, err
	}
	for picks := 0; len(chosen) < u.config.answers && picks < maxPicks; picks++ {
		attempt, err := q.mesh.Agent.Pick(call)
		if err != nil && len(chosen) == 0 {
			return nil, err
		}
		if err != nil {
			break // there are no more
		}
		if q.qtype == dns.TypeSRV || !addressIn(chosen, attempt.Address().Addr()) {
			chosen = append(chosen, attempt)
		}
	}
	return chosen, nil
}

// addressIn tells whether an address is chosen already, with another port: a set of records holds no record twice.
func addressIn(chosen []*agent.Attempt, address netip.Addr) bool {
	return slices.ContainsFunc(chosen, func(attempt *agent.Attempt) bool { return attempt.Address().Addr() == address })
}
