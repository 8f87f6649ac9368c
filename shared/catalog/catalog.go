package catalog

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// View is one service at one moment. It never changes: a change of the service is another View.
type View struct {
	Name       string
	Documented bool              // a Service document exists; else Service holds the defaults
	Service    *model.Service    // never nil
	Instances  []*model.Instance // by address
	// Bans are those made by hand, mostly nil. They may be of addresses that no instance has yet, and may be over already:
	// HandBan.InForce tells.
	Bans     map[netip.AddrPort]*model.HandBan
	Revision int64 // the highest of its records'
}

// Find returns the index of the instance with the address.
func (v *View) Find(address netip.AddrPort) (int, bool) { return find(v.Instances, address) }

// Listener is told of changes: the new views of services that changed, and the names of those that are gone. It is
// called from the writer's goroutine, one call at a time, after readers can see the change.
type Listener func(changed []*View, removed []string)

type key struct {
	kind          model.Kind
	name, address string
}

func keyOf(record *model.Record) key { return key{record.Kind, record.Name, record.Address} }

// Catalog holds the views. Its readers may be many; Replace, Apply, Forget and Confirm come from one goroutine at a time.
type Catalog struct {
	views     atomic.Pointer[map[string]*atomic.Pointer[View]] // the map is immutable, the pointers in it are not
	bans      atomic.Pointer[bans]                             // immutable
	topology  atomic.Pointer[model.Topology]
	revision  atomic.Int64
	contact   atomic.Int64 // unix nanoseconds of the last word of a store; 0: never
	instances atomic.Int64

	mu         sync.Mutex // of what follows
	listeners  []Listener
	rejections rejections
}

// New returns a catalog that was never synced.
func New(logger *slog.Logger) *Catalog {
	c := &Catalog{rejections: newRejections(logger)}
	c.views.Store(&map[string]*atomic.Pointer[View]{})
	c.bans.Store(&bans{})
	c.topology.Store(&model.Topology{})
	return c
}

// Service returns the view of a service, nil if it is unknown. A service is known by its Service document or, with all
// defaults, by having instances. A ban alone makes none known.
func (c *Catalog) Service(name string) *View {
	if view := (*c.views.Load())[name]; view != nil {
		return view.Load()
	}
	return nil
}

// Names returns the names of all services, sorted.
func (c *Catalog) Names() []string { return slices.Sorted(maps.Keys(*c.views.Load())) }

// Topology returns the topology in force; an empty one if there is none.
func (c *Catalog) Topology() *model.Topology { return c.topology.Load() }

// Revision returns etcd's revision that the views stand at.
func (c *Catalog) Revision() int64 { return c.revision.Load() }

// Synced tells whether a store has filled the catalog at all, be it from a snapshot.
func (c *Catalog) Synced() bool { return c.contact.Load() != 0 }

// Records yields every documented service and every instance in force, service by service, then every ban made by hand, and
// the topology if there is one, until yield returns false.
func (c *Catalog) Records(yield func(model.Record) bool) {
	for name, pointer := range *c.views.Load() {
		view := pointer.Load()
		service := model.Record{Kind: model.KindService, Name: name, Revision: view.Revision, Service: view.Service}
		if view.Documented && !yield(service) {
			return
		}
		for _, instance := range view.Instances {
			record := model.Record{
				Kind: model.KindInstances, Name: name, Address: instance.Address.String(), Revision: view.Revision, Instance: instance,
			}
			if !yield(record) {
				return
			}
		}
	}
	if topology := c.topology.Load(); c.bans.Load().records(yield) && !topology.Empty() {
		yield(model.Record{Kind: model.KindTopology, Topology: topology})
	}
}

// AsOf notes that what the last Replace gave was etcd's word at that time, and may not be now.
func (c *Catalog) AsOf(written time.Time) { c.contact.Store(written.UnixNano()) }

// Age returns the time since a store last said that the views are what etcd holds; 0 if none ever did.
func (c *Catalog) Age() time.Duration {
	contact := c.contact.Load()
	if contact == 0 {
		return 0
	}
	return time.Since(time.Unix(0, contact))
}

// Counts returns how many services and instances there are.
func (c *Catalog) Counts() (services, instances int) {
	return len(*c.views.Load()), int(c.instances.Load())
}

// Subscribe adds a listener and tells it of all there is.
func (c *Catalog) Subscribe(listener Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, listener)
	var all []*View
	for _, view := range *c.views.Load() {
		all = append(all, view.Load())
	}
	listener(all, nil)
}
