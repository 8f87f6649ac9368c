package corednsufc

import "github.com/ufc-mesh/ufc/shared/agent"

// srvRank is an instance's place in an answer of type SRV (RFC 2782): clients go to the lowest priority that they can reach, and
// among several of one priority choose by weight.
type srvRank struct{ priority, weight uint16 }

// rankSRV returns the ranks of the instances of one answer. The agent's choice begins with the data centre whose turn it is by the
// table of the topology, mostly the caller's own. Its instances have priority 0, those of the next one that the choice comes to
// have 1, and so on. Weights are those in force, which slow start and slowness lower.
func rankSRV(chosen []*agent.Attempt) (ranks [maxAnswers]srvRank) {
	if len(chosen) == 1 {
		ranks[0].weight = srvWeight(chosen[0].Weight(), chosen[0].Weight())
		return ranks
	}
	var weights [maxAnswers]int
	highest, next := 0, uint16(0)
	for n, attempt := range chosen {
		weights[n] = int(float64(attempt.Weight()) * attempt.Share())
		highest = max(highest, weights[n])
		known := false
		for before := range n {
			if known = attempt.Beside(chosen[before]); known {
				ranks[n].priority = ranks[before].priority
				break
			}
		}
		if !known {
			ranks[n].priority = next
			next++
		}
	}
	for n := range chosen {
		ranks[n].weight = srvWeight(weights[n], highest)
	}
	return ranks
}

// srvWeight returns an instance's weight, scaled down if the highest of those beside it doesn't fit. It isn't 0 for an
// instance that was chosen: some clients never use such a one (RFC 2782: "a very small chance").
func srvWeight(weight, highest int) uint16 {
	if highest > 65535 {
		weight = weight * 65535 / highest
	}
	return uint16(max(weight, 1))
}
