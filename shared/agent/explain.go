package agent

import (
	"fmt"
	"net/netip"

	"github.com/ufc-mesh/ufc/shared/health"
)

// Explanation is the answer to explain^SERVICE[^INSTANCE]: what was decided, and how things stand.
type Explanation struct {
	Service   string            `json:"service"`
	Decisions []health.Decision `json:"decisions"` // the last 100 of the service, the oldest first
	// Instances is the one that was asked for, else those that are banned or under suspicion, at most 100: each is compared
	// with all others.
	Instances []health.Explanation `json:"instances"`
}

const mostExplained = 100

func (a *Agent) explain(args []string) (any, error) {
	s, err := a.known("explain", args)
	if err != nil {
		return nil, err
	}
	var of netip.AddrPort
	if len(args) > 1 {
		if of, err = netip.ParseAddrPort(args[1]); err != nil {
			return nil, fmt.Errorf("%w: %q is not an address of the form IP:PORT", ErrSelector, args[1])
		}
	}
	answer := Explanation{Service: s.name, Decisions: s.health.Decisions(of), Instances: []health.Explanation{}}
	for _, i := range s.state.Load().instances {
		if of == i.Address || !of.IsValid() && len(answer.Instances) < mostExplained && i.health.Suspect() {
			answer.Instances = append(answer.Instances, i.health.Explain())
		}
	}
	if of.IsValid() && len(answer.Instances) == 0 {
		return nil, fmt.Errorf("%w: service %q has no instance %q", ErrSelector, s.name, args[1])
	}
	return answer, nil
}
