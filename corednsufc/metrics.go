package corednsufc

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// exports are the metrics of the agents of this process, where CoreDNS's prometheus plugin and all other plugins have theirs: in the
// default registry. An agent is one, however many server blocks and configurations use it. Two agents have the same metrics, so that
// only one's can be told: those of the one that came first, and when it goes, of the next.
type exports struct {
	mu     sync.Mutex
	agents []*export // in the order they came
}

type export struct {
	agent prometheus.Collector
	users int
}

var exported exports

func init() { prometheus.MustRegister(&exported) }

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
}

// remove undoes one call of add.
func (e *exports) remove(agent prometheus.Collector) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.index(agent)
	if e.agents[i].users--; e.agents[i].users == 0 {
		e.agents = slices.Delete(e.agents, i, i+1)
	}
}

// Describe implements prometheus.Collector. It tells nothing, since which metrics there are depends on what runs.
func (e *exports) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (e *exports) Collect(metrics chan<- prometheus.Metric) {
	e.mu.Lock()
	var first prometheus.Collector
	if len(e.agents) > 0 {
		first = e.agents[0].agent
	}
	e.mu.Unlock()
	if first != nil {
		first.Collect(metrics)
	}
}
