package mesh

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/notify"
)

// decisions passes on what the agent decides: to webhooks and the other agents of the machine at once, which only take a
// lock, and to the log and who listens in a goroutine of its own, so that a slow disk or listener holds no judge up, and no
// call.
type decisions struct {
	tell     *teller // nil: no other agent is told
	logger   *notify.Logger
	webhooks *notify.Webhooks
	warnings *slog.Logger
	changed  chan struct{} // with room for one: there is something in the queue, or it is closed
	done     chan struct{}

	mu        sync.Mutex
	queue     []health.Decision // the oldest first
	lost      int               // since the last one was taken out
	closed    bool
	listeners []*listener   // the newest last
	call      chan struct{} // the busy of the last one called; nil: none was
}

type listener struct {
	hear func(health.Decision)
	busy chan struct{} // closed when the last call ends; nil: there was none. Guarded by decisions.mu
}

// queueSize is how many decisions wait for the log and listeners. Of more, the oldest are lost to them, which show what
// happens and decide nothing: what it looks like now matters more to people than how it began.
const queueSize = 4096

func newDecisions(a *attachment, tell *teller, logger *slog.Logger) *decisions {
	d := &decisions{
		tell: tell, logger: notify.NewLogger(logger), warnings: logger,
		webhooks: notify.NewWebhooks(notify.Options{
			Policy: a.webhook, Listed: a.listed, Identity: a.identity, Logger: logger,
		}),
		changed: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go d.run()
	return d
}

// webhook returns a service's; nil if it has none.
func (a *attachment) webhook(service string) *model.Webhook {
	if view := a.Catalog.Service(service); view != nil {
		return view.Service.Ban.Webhook
	}
	return nil
}

// listed tells whether an instance is in its service's list.
func (a *attachment) listed(service string, instance netip.AddrPort) bool {
	view := a.Catalog.Service(service)
	if view == nil {
		return false
	}
	_, found := view.Find(instance)
	return found
}

func (a *attachment) identity() notify.Identity {
	c := a.settings.Load()
	return notify.Identity{Agent: c.AgentID, Host: c.Host, IDC: c.IDC}
}

// take is the agent's.
func (d *decisions) take(of health.Decision) {
	d.webhooks.Take(&of)
	if d.tell != nil {
		d.tell.decided(of)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if len(d.queue) == queueSize {
		d.queue = d.queue[1:]
		d.lost++
	}
	d.queue = append(d.queue, of)
	d.wake()
}

func (d *decisions) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run ends when all is closed, and what waited is passed on.
func (d *decisions) run() {
	defer close(d.done)
	for range d.changed {
		for {
			of, newest, lost, left := d.next()
			if lost > 0 {
				d.warnings.Warn("decisions lost to the log and to events, which are too slow", "decisions", lost)
			}
			if !left {
				break
			}
			d.logger.Take(&of)
			if newest != nil {
				newest.hear(of)
				close(newest.busy)
			}
		}
		if d.ended() {
			return
		}
	}
}

// next takes the oldest decision out of the queue, for the newest listener, and how many older ones were lost.
func (d *decisions) next() (of health.Decision, newest *listener, lost int, left bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lost, d.lost = d.lost, 0
	if len(d.queue) == 0 {
		d.queue = nil // its array may be large
		return of, nil, lost, false
	}
	of, d.queue = d.queue[0], d.queue[1:]
	if n := len(d.listeners); n > 0 {
		newest = d.listeners[n-1]
		newest.busy = make(chan struct{})
		d.call = newest.busy
	}
	return of, newest, lost, true
}

func (d *decisions) ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed && len(d.queue) == 0
}

func (d *decisions) close() {
	d.mu.Lock()
	d.closed = true
	d.wake()
	d.mu.Unlock()
	d.await()
	d.logger.Close()
	d.webhooks.Close()
}

// await waits until what is queued is passed on, or a call takes too long.
func (d *decisions) await() {
	for before := (chan struct{})(nil); ; {
		select {
		case <-d.done:
			return
		case <-time.After(stopPatience):
		}
		d.mu.Lock()
		call := d.call
		d.mu.Unlock()
		if call != nil && call == before {
			return
		}
		before = call
	}
}

// stopPatience is how long to wait for a call that is under way when its listener stops, or all ends. No longer, since what
// it does may be what waits for that, such as a reload.
const stopPatience = 2 * time.Second

// Listen has hear told each decision, in a goroutine that it may hold up, until it listens no more. Of several listeners the
// newest is told: while a configuration replaces another, each decision is told once. stop waits for a call that is under
// way, but not for more than two seconds; the last Release waits for those to come, too, but for none for longer than four.
func (m *Mesh) Listen(hear func(health.Decision)) (stop func()) {
	d, l := m.decisions, &listener{hear: hear}
	d.mu.Lock()
	d.listeners = append(d.listeners, l)
	d.mu.Unlock()
	return func() {
		d.mu.Lock()
		d.listeners = slices.DeleteFunc(d.listeners, func(other *listener) bool { return other == l })
		busy := l.busy
		d.mu.Unlock()
		if busy == nil {
			return
		}
		select {
		case <-busy:
		case <-time.After(stopPatience):
		}
	}
}

var (
	toldDesc   = prometheus.NewDesc("ufc_bans_told", "Bans of this agent's that etcd has, for the other agents of the machine.", nil, nil)
	waitDesc   = prometheus.NewDesc("ufc_bans_waiting", "Bans and returns of this agent's that etcd doesn't have yet.", nil, nil)
	heardDesc  = prometheus.NewDesc("ufc_bans_heard", "Bans by the other agents of the machine.", nil, nil)
	leasesDesc = prometheus.NewDesc("ufc_ban_leases_lost_total", "Leases that ended while bans were told under them.", nil, nil)
)

// Metrics returns the collector of all metrics of the attachment, the same for all holds on it.
func (m *Mesh) Metrics() prometheus.Collector { return m.attachment }

// Describe implements prometheus.Collector.
func (a *attachment) Describe(descs chan<- *prometheus.Desc) {
	a.Agent.Describe(descs)
	a.decisions.webhooks.Describe(descs)
	a.guard.Describe(descs)
	for _, d := range []*prometheus.Desc{toldDesc, waitDesc, heardDesc, leasesDesc} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (a *attachment) Collect(metrics chan<- prometheus.Metric) {
	a.Agent.Collect(metrics)
	a.decisions.webhooks.Collect(metrics)
	a.guard.Collect(metrics)
	board := a.board.Status()
	gauge := func(d *prometheus.Desc, value int) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value))
	}
	gauge(toldDesc, board.Told)
	gauge(waitDesc, board.Waiting)
	gauge(heardDesc, board.Heard)
	metrics <- prometheus.MustNewConstMetric(leasesDesc, prometheus.CounterValue, float64(board.LeasesLost))
}
