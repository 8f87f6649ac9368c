package corednsufc

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// exports registers the agents' metrics where CoreDNS's prometheus plugin and all other plugins have theirs: the default
// registry. An agent is registered once, however many server blocks and configurations use it. Two agents have the same
// metrics, so that only one can be registered at a time: the one that came first, and when it goes, the next.
type exports struct {
	registerer prometheus.Registerer

	mu     sync.Mutex
	agents []*export // in the order they came; the first is registered
}

type export struct {
	agent prometheus.Collector
	users int
}

var exported = exports{registerer: prometheus.DefaultRegisterer}

func (e *exports) index(agent prometheus.Collector) int {
	return slices.IndexFunc(e.agents, func(x *export) bool { return x.agent == agent })
}

// add exports an agent's metrics until as many calls of remove.
func (e *exports) add(agent prometheus.Collector) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.index(agent); i >= 0 {
		e.agents[i].users++
		return
	}
	e.agents = append(e.agents, &export{agent: agent, users: 1})
	if len(e.agents) == 1 {
		e.register()
	}
}

// remove undoes one call of add.
func (e *exports) remove(agent prometheus.Collector) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.index(agent)
	if e.agents[i].users--; e.agents[i].users > 0 {
		return
	}
	e.agents = slices.Delete(e.agents, i, i+1)
	if i > 0 {
		return
	}
	e.registerer.Unregister(agent)
	if len(e.agents) > 0 {
		e.register()
	}
}

func (e *exports) register() {
	if err := e.registerer.Register(e.agents[0].agent); err != nil {
		log.Warningf("metrics not exported: %v", err)
	}
}
