package agent

import (
	"fmt"
	"net/netip"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Explanation is the answer to explain^SERVICE[^INSTANCE]: what was decided, and how things stand.
type Explanation struct {
	Service   string            `json:"service"`
	Decisions []health.Decision `json:"decisions"` // the last 100 of the service, the oldest first
	// Instances is the one that was asked for, else those that are banned or under suspicion, at most 100: each is compared
	// with all others.
	Instances []health.Explanation `json:"instances"`
	Fuse      FuseInfo             `json:"fuse"` // of the service as a whole
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
	now := s.awake()
	answer := Explanation{
		Service: s.name, Decisions: s.health.Decisions(of), Instances: []health.Explanation{},
		Fuse: s.fuseInfo(),
	}
	for _, i := range now.instances {
		hand := now.byHand[i.Address]
		if of == i.Address || !of.IsValid() && len(answer.Instances) < mostExplained && (hand != nil || i.health.Suspect()) {
			answer.Instances = append(answer.Instances, explainOne(i, hand))
		}
	}
	if of.IsValid() && len(answer.Instances) == 0 {
		return nil, fmt.Errorf("%w: service %q has no instance %q", ErrSelector, s.name, args[1])
	}
	return answer, nil
}

// explainOne tells how an instance stands. A ban by hand, which package health doesn't know, goes before its own.
func explainOne(i *instance, hand *model.HandBan) health.Explanation {
	explanation := i.health.Explain()
	if hand != nil {
		explanation.State, explanation.Reason, explanation.Until = "banned", health.ByHand, nil
		if !hand.Until.IsZero() {
			explanation.Until = &hand.Until
		}
	}
	return explanation
}
