package mesh

import (
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/notify"
)

// decisions passes on what the agent decides: to the log, to webhooks, to the other agents of the machine, and to who
// listens. Those three first take it at once, listeners one after another in a goroutine of its own, so that a slow one
// holds nobody up.
type decisions struct {
	logger   *notify.Logger
	webhooks *notify.Webhooks
	tell     *teller
	queue    chan health.Decision
	done     chan struct{}

	mu        sync.Mutex
	closed    bool
	listeners []*listener // the newest last
}

type listener struct{ hear func(health.Decision) }

// queueSize is how many decisions wait for listeners. What comes on top is lost to them: they show what happens, and decide
// nothing.
const queueSize = 1024

func newDecisions(a *attachment, tell *teller, logger *slog.Logger) *decisions {
	policy := func(service string) *model.Webhook {
		if view := a.Catalog.Service(service); view != nil {
			return view.Service.Ban.Webhook
		}
		return nil
	}
	identity := func() notify.Identity {
		c := a.settings.Load()
		return notify.Identity{Agent: c.AgentID, Host: c.Host, IDC: c.IDC}
	}
	d := &decisions{
		logger: notify.NewLogger(logger), webhooks: notify.NewWebhooks(policy, identity, logger), tell: tell,
		queue: make(chan health.Decision, queueSize), done: make(chan struct{}),
	}
	go d.run()
	return d
}

// take is the agent's.
func (d *decisions) take(of health.Decision) {
	d.logger.Take(&of)
	d.webhooks.Take(&of)
	d.tell.decided(of)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.listeners) == 0 {
		return
	}
	select {
	case d.queue <- of:
	default:
	}
}

func (d *decisions) run() {
	defer close(d.done)
	for of := range d.queue {
		d.mu.Lock()
		var newest *listener
		if n := len(d.listeners); n > 0 {
			newest = d.listeners[n-1]
		}
		d.mu.Unlock()
		if newest != nil {
			newest.hear(of)
		}
	}
}

func (d *decisions) close() {
	d.mu.Lock()
	d.closed = true
	close(d.queue)
	d.mu.Unlock()
	<-d.done
	d.webhooks.Close()
}

// Listen has hear told each decision, in a goroutine that it may hold up, until it listens no more. Of several listeners the
// newest is told: while a configuration replaces another, each decision is told once.
func (m *Mesh) Listen(hear func(health.Decision)) (stop func()) {
	d, l := m.decisions, &listener{hear}
	d.mu.Lock()
	d.listeners = append(d.listeners, l)
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for n := range d.listeners {
			if d.listeners[n] == l {
				d.listeners = append(d.listeners[:n:n], d.listeners[n+1:]...)
				return
			}
		}
	}
}

// Metrics returns the collector of all metrics of the attachment, the same for all holds on it.
func (m *Mesh) Metrics() prometheus.Collector { return m.attachment }

// Describe implements prometheus.Collector.
func (a *attachment) Describe(descs chan<- *prometheus.Desc) {
	a.Agent.Describe(descs)
	a.decisions.webhooks.Describe(descs)
}

// Collect implements prometheus.Collector.
func (a *attachment) Collect(metrics chan<- prometheus.Metric) {
	a.Agent.Collect(metrics)
	a.decisions.webhooks.Collect(metrics)
}
