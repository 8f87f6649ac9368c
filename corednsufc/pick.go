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

// choose begins the call and lets the agent choose as many different instances as one answer holds.
func (u *UFC) choose(t *turn) {
	t.begin(u.idcOf(&t.query))
	t.refusal = u.pick(t)
	if u.config.fused == fusedAnswer && t.refusal != nil && isFused(t.refusal) { // counted as refused all the same
		t.call.Unfused = true
		t.refusal = u.pick(t)
	}
	if t.call.Hashed() {
		t.query.client.used = true
	}
}

func (u *UFC) pick(t *turn) error {
	chosen, brain := t.buffer[:0], t.query.mesh.Agent
	if err := brain.Begin(&t.call); err != nil {
		return err
	}
	for picks := 0; len(chosen) < u.config.answers && picks < maxPicks; picks++ {
		attempt, err := brain.Pick(&t.call)
		if err != nil && len(chosen) == 0 {
			return err
		}
		if err != nil {
			break // there are no more
		}
		if t.query.qtype == dns.TypeSRV || !addressIn(chosen, attempt.Address().Addr()) {
			chosen = append(chosen, attempt)
		}
	}
	t.chosen = chosen
	return nil
}

// addressIn tells whether an address is chosen already, with another port: a set of records holds no record twice.
func addressIn(chosen []*agent.Attempt, address netip.Addr) bool {
	return slices.ContainsFunc(chosen, func(attempt *agent.Attempt) bool { return attempt.Address().Addr() == address })
}
