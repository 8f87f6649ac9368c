package protect

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
)

// key names a record.
type key struct {
	kind          model.Kind
	name, address string
}

func keyOf(r *model.Record) key { return key{r.Kind, r.Name, r.Address} }

// Guard is the store's Sink and Source in front of a catalog. Its methods may be called from several goroutines.
type Guard struct {
	views *catalog.Catalog
	share atomic.Uint64 // the bits of a float64

	mu        sync.Mutex // of what follows, and held over the catalog's calls
	revision  int64
	held      map[key]int64   // what is held, and the revision at which it was removed
	services  map[string]*set // those that changed lately, or are on hold
	mesh      set             // all instances
	documents set             // all Service documents
	alarm     alarm
}

// New returns a guard that holds nothing back until SetShare.
func New(views *catalog.Catalog, logger *slog.Logger) *Guard {
	return &Guard{views: views, held: map[key]int64{}, services: map[string]*set{}, alarm: alarm{logger: logger}}
}

// SetShare sets the share that may go at once, over 0 and at most 1; 0: nothing is held back. It comes into force with the
// store's next call, and lets go then of what is held without it.
func (g *Guard) SetShare(share float64) { g.share.Store(math.Float64bits(share)) }

func (g *Guard) limit() float64 { return math.Float64frombits(g.share.Load()) }

// Replace passes on all there is, and what is held.
func (g *Guard) Replace(revision int64, records []model.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.views.Synced() || g.idle() {
		g.views.Replace(revision, records)
	} else {
		g.restamp(revision)
		b := g.listed(records)
		g.cover(b, records)
		g.judge(now, b)
		g.views.Replace(revision, append(records, g.keep(revision, b, records)...))
	}
	g.finish(now, revision, records)
}

// Apply passes on what changed, but for removals that are held. At the revision of the last call it gives services that are followed
// from now on: they were there before, and so they make up for nothing that is gone.
func (g *Guard) Apply(revision int64, records []model.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	switch {
	case g.idle():
		g.views.Apply(revision, records)
	case revision == g.revision:
		g.include(revision, records)
	default:
		b := g.changed(records)
		g.judge(now, b)
		if passed := g.pass(b, records); len(passed) > 0 {
			g.views.Apply(revision, passed)
		} else {
			g.views.Confirm(revision)
		}
	}
	g.finish(now, revision, records)
}

// include takes what there is of services that are followed from now on.
func (g *Guard) include(revision int64, records []model.Record) {
	_, instances := g.views.Counts()
	documents := g.documented()
	for n := range records {
		if records[n].Err == nil {
			g.release(keyOf(&records[n]))
		}
	}
	g.views.Apply(revision, records)
	_, now := g.views.Counts()
	g.mesh.include(now - instances)
	g.documents.include(g.documented() - documents)
}

// Confirm passes it on, and looks whether something is to be let go.
func (g *Guard) Confirm(revision int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.views.Confirm(revision)
	g.finish(now, revision, nil)
	for name, s := range g.services {
		if s.forget(now) {
			delete(g.services, name)
		}
	}
	g.mesh.forget(now)
	g.documents.forget(now)
}

// Forget passes it on. What isn't followed any more isn't missed.
func (g *Guard) Forget(services []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	forgotten := map[string]bool{}
	for _, name := range services {
		forgotten[name] = true
	}
	g.drop(func(k key, _ int64) bool { return forgotten[k.name] })
	for name := range forgotten {
		delete(g.services, name)
	}
	g.views.Forget(services)
	g.acceptMesh()
}

// Records gives back all that is in force, what is held included, so that a snapshot has it too.
func (g *Guard) Records(yield func(model.Record) bool) { g.views.Records(yield) }

// AsOf passes on how old a snapshot is.
func (g *Guard) AsOf(written time.Time) { g.views.AsOf(written) }

// Held returns what was there before the holds; nil: there are none.
func (g *Guard) Held() *model.Holds {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.held) == 0 {
		return nil
	}
	reference := func(s *set) int {
		if s.hold == nil {
			return 0
		}
		return s.hold.reference
	}
	held := &model.Holds{Services: map[string]int{}, Instances: reference(&g.mesh), Documents: reference(&g.documents)}
	for name, s := range g.services {
		if s.hold != nil {
			held.Services[name] = s.hold.reference
		}
	}
	return held
}

// Resume begins the holds again, before etcd's first list says what is missing. What it doesn't lack ends them.
func (g *Guard) Resume(held *model.Holds) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if held == nil {
		return
	}
	now := time.Now()
	for name, reference := range held.Services {
		g.of(name).begin(now, reference)
	}
	if held.Instances > 0 {
		g.mesh.begin(now, held.Instances)
	}
	if held.Documents > 0 {
		g.documents.begin(now, held.Documents)
	}
}

// idle tells that nothing is protected, and nothing left of a time when it was. The lock is held, as in all that follows.
func (g *Guard) idle() bool { return g.limit() == 0 && len(g.held) == 0 }

// finish takes confirmations, lets go of what isn't to be held any more, and tells of what is.
func (g *Guard) finish(now time.Time, revision int64, records []model.Record) {
	g.revision = revision
	for n := range records {
		g.confirm(&records[n])
	}
	g.remove(g.settle(now))
	g.tell(now)
}

// of returns the set of a service.
func (g *Guard) of(service string) *set {
	s := g.services[service]
	if s == nil {
		s = &set{}
		g.services[service] = s
	}
	return s
}

// hold notes a record as held, or as held no more.
func (g *Guard) hold(k key, revision int64) {
	if _, known := g.held[k]; !known {
		g.held[k] = revision
		g.count(k, 1)
	}
}

func (g *Guard) release(k key) {
	if _, known := g.held[k]; known {
		delete(g.held, k)
		g.count(k, -1)
	}
}

// count counts a held record in its sets.
func (g *Guard) count(k key, by int) {
	switch k.kind {
	case model.KindInstances:
		g.of(k.name).held += by
		g.mesh.held += by
	case model.KindService:
		g.documents.held += by
	}
}

// settle looks at all holds, and returns the removals of what none of them holds any more.
func (g *Guard) settle(now time.Time) []model.Record {
	_, instances := g.views.Counts()
	ended := g.settleSet(now, &g.mesh, instances, least)
	if g.documents.hold != nil && g.settleSet(now, &g.documents, g.documented(), least) {
		ended = true
	}
	for name, s := range g.services {
		if s.hold != nil && g.settleSet(now, s, g.instances(name), g.smallest()) {
			ended = true
		}
	}
	if !ended {
		return nil
	}
	return g.drop(func(k key, _ int64) bool { return !g.holds(k) })
}

// remove takes out of force what was let go.
func (g *Guard) remove(gone []model.Record) {
	if len(gone) > 0 {
		g.views.Apply(g.revision, gone)
	}
}

// settleSet tells whether the set's hold has ended.
func (g *Guard) settleSet(now time.Time, s *set, inForce, smallest int) bool {
	if s.hold == nil {
		return false
	}
	if left := inForce - s.held; g.limit() == 0 {
		s.end()
	} else {
		s.settle(now, left, over(g.limit(), s.hold.reference, left, smallest))
	}
	return s.hold == nil
}

// drop releases what is held and chosen, and returns its removals.
func (g *Guard) drop(chosen func(key, int64) bool) []model.Record {
	var gone []model.Record
	for k, revision := range g.held {
		if chosen(k, revision) {
			gone = append(gone, model.Record{Kind: k.kind, Name: k.name, Address: k.address, Revision: revision, Deleted: true})
			g.release(k)
		}
	}
	return gone
}

// holds tells whether there is still a reason to hold something.
func (g *Guard) holds(k key) bool {
	few := g.mesh.hold != nil || g.documents.hold != nil
	service := g.services[k.name]
	on := service != nil && service.hold != nil
	switch k.kind {
	case model.KindTopology:
		return few
	case model.KindService:
		return on || g.documents.hold != nil
	}
	return on
}

// smallest is the least loss of a service that is held now.
func (g *Guard) smallest() int {
	if g.mesh.hold != nil || g.documents.hold != nil {
		return leastOfFew
	}
	return least
}

func (g *Guard) instances(service string) int {
	if view := g.views.Service(service); view != nil {
		return len(view.Instances)
	}
	return 0
}

// documented returns how many Service documents are in force.
func (g *Guard) documented() int {
	count := 0
	for _, name := range g.views.Names() {
		if view := g.views.Service(name); view != nil && view.Documented {
			count++
		}
	}
	return count
}
