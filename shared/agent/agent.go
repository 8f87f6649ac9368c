package agent

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
)

// Options are what an agent needs besides the catalog.
type Options struct {
	IDC    string       // physical IDC where it runs. Empty: unknown
	Probe  health.Probe // default health.DialProbe
	Logger *slog.Logger // default slog.Default()
}

// Agent follows a catalog and serves calls. It is used by many goroutines at once.
type Agent struct {
	catalog *catalog.Catalog
	monitor *health.Monitor
	idc     atomic.Pointer[string]

	services atomic.Pointer[map[string]*service] // the map is immutable
	mu       sync.Mutex                          // of its writers
	closed   bool

	duration  *prometheus.HistogramVec
	callbacks counters[callbackKey]
	handouts  handouts
	strangers *line // calls whose callee is unknown
}

// New returns an agent that follows the catalog. Close it.
func New(views *catalog.Catalog, options Options) *Agent {
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	if options.Probe == nil {
		options.Probe = health.DialProbe
	}
	a := &Agent{
		catalog:   views,
		monitor:   health.NewMonitor(options.Probe, options.Logger),
		duration:  newDurationHistogram(),
		strangers: newLine(unknown, nil),
	}
	a.SetIDC(options.IDC)
	a.services.Store(&map[string]*service{})
	views.Subscribe(a.follow)
	return a
}

// Close ends the agent's probes and timers. Calls may go on; nobody is banned or comes back any more.
func (a *Agent) Close() {
	a.mu.Lock()
	a.closed = true
	for _, s := range *a.services.Load() {
		s.health.Close()
	}
	a.mu.Unlock()
	a.monitor.Close()
}

// SetIDC changes the physical IDC where the agent runs.
func (a *Agent) SetIDC(idc string) { a.idc.Store(&idc) }

// IDC returns the physical IDC where the agent runs.
func (a *Agent) IDC() string { return *a.idc.Load() }

// Synced tells whether there is any configuration to serve from.
func (a *Agent) Synced() bool { return a.catalog.Synced() }

// Knows tells whether documents name the service.
func (a *Agent) Knows(service string) bool { return a.service(service) != nil }

func (a *Agent) service(name string) *service { return (*a.services.Load())[name] }

// follow is the catalog's listener.
func (a *Agent) follow(changed []*catalog.View, removed []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	next := *a.services.Load()
	owned := false
	own := func() { // readers have the map: copied before the first write
		if !owned {
			next, owned = maps.Clone(next), true
		}
	}
	for _, name := range removed {
		if s := next[name]; s != nil {
			own()
			delete(next, name)
			s.health.Close()
			a.duration.DeletePartialMatch(prometheus.Labels{"callee": name})
		}
	}
	for _, view := range changed {
		if s := next[view.Name]; s != nil {
			s.follow(view)
			continue
		}
		own()
		next[view.Name] = a.newService(view)
	}
	a.services.Store(&next)
}
