package agent

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// Options are what an agent needs besides the catalog.
type Options struct {
	IDC   string       // physical IDC where it runs. Empty: unknown
	Probe health.Probe // default health.DialProbe
	// Decided is told each decision on an instance or a callee, those of one callee in their order, under no lock. It must
	// not block. Default: nobody is told.
	Decided func(health.Decision)
	// Fetch is asked for a service that the catalog doesn't have. It returns when the catalog has all there is of it, and waits for
	// that, for patience at most; without patience it only asks. From then on the service is kept up to date. The error is
	// ErrNotFollowed, or another one if nobody knows yet whether there is such a service. Default: the catalog has all there is.
	Fetch func(service string, patience time.Duration) error
	// Random returns a random number, for several goroutines at once. Default rand.Uint64; a simulation gives one that can be
	// repeated.
	Random func() uint64
}

// Agent follows a catalog and serves calls. It is used by many goroutines at once.
type Agent struct {
	catalog *catalog.Catalog
	monitor *health.Monitor
	epoch   time.Time // the agent's clock begins here
	place   atomic.Pointer[place]
	tell    func(health.Decision)
	fetch   func(service string, patience time.Duration) error
	random  func() uint64

	services atomic.Pointer[map[string]*service] // the map is immutable
	mu       sync.Mutex                          // of its writers, and of what follows
	// departed are the services that no document names any more, as long as some of their bans stand: if the only instance of a
	// service loses its lease for a moment, it is still banned when it comes back.
	departed map[string]*service
	told     map[string]map[netip.AddrPort]*model.ToldBan // neighbours' bans, by callee
	closed   bool

	duration  *prometheus.HistogramVec
	callbacks counters[callbackKey]
	handouts  handouts
	strangers *line // counts the calls whose callee is unknown
}

// New returns an agent that follows the catalog. Close it.
func New(views *catalog.Catalog, options Options) *Agent {
	if options.Probe == nil {
		options.Probe = health.DialProbe
	}
	if options.Decided == nil {
		options.Decided = func(health.Decision) {}
	}
	if options.Fetch == nil {
		options.Fetch = func(string, time.Duration) error { return nil }
	}
	if options.Random == nil {
		options.Random = rand.Uint64
	}
	a := &Agent{
		catalog:   views,
		monitor:   health.NewMonitor(options.Probe, options.Random),
		epoch:     time.Now(),
		tell:      options.Decided,
		fetch:     options.Fetch,
		random:    options.Random,
		duration:  newDurationHistogram(),
		strangers: newLine(unknown, nil, nil),
		departed:  map[string]*service{},
		told:      map[string]map[netip.AddrPort]*model.ToldBan{},
	}
	a.settle(options.IDC, views.Topology())
	a.services.Store(&map[string]*service{})
	views.Subscribe(a.follow)
	return a
}

// Close ends the agent's probes and timers. Calls may go on; nobody is banned or comes back any more.
func (a *Agent) Close() {
	a.mu.Lock()
	a.closed = true
	for _, s := range *a.services.Load() {
		s.close()
	}
	for _, s := range a.departed {
		s.close()
	}
	a.mu.Unlock()
	a.handouts.close()
	a.monitor.Close()
}

// now is the agent's clock: what one call takes to read it is half of what a time.Time takes.
func (a *Agent) now() time.Duration { return time.Since(a.epoch) }

// SetIDC changes the physical IDC where the agent runs.
func (a *Agent) SetIDC(idc string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(idc, a.catalog.Topology())
}

// settle puts an IDC and a topology in force. Plans of before are made anew when they are next needed.
func (a *Agent) settle(idc string, topology *model.Topology) {
	now := a.place.Load()
	if now != nil && now.idc == idc && now.topology == topology {
		return
	}
	a.place.Store(&place{idc: idc, topology: topology, idcs: route.CompileIDCs(topology)})
	if now == nil || now.topology == topology {
		return
	}
	for _, s := range *a.services.Load() { // the cap counts by logical IDC, and whether bans by hand are obeyed depends on what is drained
		s.follow(s.view.Load())
	}
}

// IDC returns the physical IDC where the agent runs.
func (a *Agent) IDC() string { return a.place.Load().idc }

// Synced tells whether there is any configuration to serve from.
func (a *Agent) Synced() bool { return a.catalog.Synced() }

func (a *Agent) service(name string) *service { return (*a.services.Load())[name] }

// follow is the catalog's listener.
func (a *Agent) follow(changed []*catalog.View, removed []string) {
	for _, s := range a.take(changed, removed) {
		s.endAvalanche()
	}
}

// take puts changes in force, and returns the services that are forgotten.
func (a *Agent) take(changed []*catalog.View, removed []string) (forgotten []*service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.settle(a.IDC(), a.catalog.Topology())
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
			s.gone.Store(true)
			s.follow(&catalog.View{Name: name, Service: s.view.Load().Service})
			a.departed[name] = s
		}
	}
	for _, view := range changed {
		s := next[view.Name]
		if s == nil {
			s = a.departed[view.Name]
			delete(a.departed, view.Name)
		}
		if s == nil {
			s = a.newService(view.Name)
		}
		if next[view.Name] == nil {
			own()
			next[view.Name] = s
		}
		s.gone.Store(false)
		s.follow(view)
		a.obeyAll(s)
	}
	a.services.Store(&next)
	return a.dropDeparted()
}

// dropDeparted forgets the departed services that have no bans left, and returns them.
func (a *Agent) dropDeparted() (dropped []*service) {
	for name, s := range a.departed {
		if s.sleeps() || !s.health.Remembers() {
			s.close()
			a.duration.DeletePartialMatch(prometheus.Labels{"callee": name})
			delete(a.departed, name)
			dropped = append(dropped, s)
		}
	}
	return dropped
}
