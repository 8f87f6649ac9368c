package catalog

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// change gathers what a batch of records does to one service.
type change struct {
	service   *model.Service                    // nil: as it was
	undefined bool                              // the Service document is gone
	whole     bool                              // instances are all that there are
	instances []touched                         // in the records' order; of one address, the last counts
	bans      map[netip.AddrPort]*model.HandBan // nil in it: lifted
	revision  int64
}

// Confirm notes that the views are what etcd holds at the revision.
func (c *Catalog) Confirm(revision int64) {
	c.revision.Store(revision)
	c.contact.Store(time.Now().UnixNano())
}

// Apply takes the records that changed since the last call.
func (c *Catalog) Apply(revision int64, records []model.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := map[string]*change{}
	for n := range records {
		c.gather(changes, &records[n])
	}
	c.rejections.summarize()
	c.commit(changes)
	c.Confirm(revision)
}

// Replace makes records all there is. A record that is refused keeps its last good version, and what doesn't stand in
// records any more is gone.
func (c *Catalog) Replace(revision int64, records []model.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := map[string]*change{}
	topology := false
	for n := range records {
		topology = topology || records[n].Kind == model.KindTopology
		c.gather(changes, &records[n])
	}
	c.rejections.retain(records) // keys that are gone
	c.rejections.summarize()
	if !topology {
		c.topology.Store(&model.Topology{})
	}
	c.keepRefused(changes, records)
	c.removeMissing(changes)
	c.commit(changes)
	c.Confirm(revision)
}

// Forget drops services that aren't followed any more: their documents, instances and bans, and what of them is refused.
func (c *Catalog) Forget(services []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := map[string]*change{}
	for _, name := range services {
		service := &change{undefined: true, whole: true}
		for address := range (*c.bans.Load())[name].byAddress {
			service.ban(address, nil)
		}
		changes[name] = service
	}
	for _, name := range services {
		c.rejections.forget(name)
	}
	c.commit(changes)
}

// gather notes one record, in changes or among the refused.
func (c *Catalog) gather(changes map[string]*change, record *model.Record) {
	if record.Err != nil {
		c.rejections.add(record)
		return
	}
	c.rejections.remove(keyOf(record))
	c.collect(changes, record)
}

// collect notes what a record that isn't refused changes.
func (c *Catalog) collect(changes map[string]*change, record *model.Record) {
	if record.Kind == model.KindConfirm { // whoever holds something back has heard it
		return
	}
	if record.Kind == model.KindTopology {
		topology := record.Topology
		if record.Deleted {
			topology = &model.Topology{}
		}
		if !reflect.DeepEqual(topology, c.topology.Load()) {
			c.topology.Store(topology)
		}
		return
	}
	service := changes[record.Name]
	if service == nil {
		service = &change{}
		changes[record.Name] = service
	}
	service.revision = max(service.revision, record.Revision)
	switch {
	case record.Kind == model.KindService && record.Deleted:
		service.service, service.undefined = nil, true
	case record.Kind == model.KindService:
		service.service, service.undefined = record.Service, false
	case record.Kind == model.KindBan:
		if address, ok := addressOf(record); ok {
			service.ban(address, record.Ban) // of a deleted record it is nil
		}
	case record.Deleted:
		if address, ok := addressOf(record); ok {
			service.instances = append(service.instances, touched{address: address})
		}
	default:
		service.instances = append(service.instances, touched{address: record.Instance.Address, instance: record.Instance})
	}
}

// addressOf returns the address of an instance's or a ban's key. A key that writes one in another way, such as 10.0.0.1:080, was
// never an instance's: it must not touch the one that it looks like.
func addressOf(record *model.Record) (netip.AddrPort, bool) {
	address, err := netip.ParseAddrPort(record.Address)
	return address, err == nil && address.String() == record.Address
}

// keepRefused carries the last good version of refused records over a Replace.
func (c *Catalog) keepRefused(changes map[string]*change, records []model.Record) {
	for n := range records {
		record := &records[n]
		if record.Err == nil {
			continue
		}
		if kept, ok := c.lastGood(record); ok {
			c.collect(changes, &kept)
		}
	}
}

// lastGood returns the version in force of a record that was refused; false if there is none, or it is the topology, which
// stays by itself.
func (c *Catalog) lastGood(record *model.Record) (model.Record, bool) {
	kept := model.Record{Kind: record.Kind, Name: record.Name, Address: record.Address}
	address, canonical := addressOf(record)
	if record.Kind == model.KindBan {
		of := (*c.bans.Load())[record.Name]
		kept.Ban, kept.Revision = of.byAddress[address], of.revision
		return kept, canonical && kept.Ban != nil
	}
	view := c.Service(record.Name)
	if view == nil {
		return kept, false
	}
	kept.Revision = view.Revision
	switch record.Kind {
	case model.KindService:
		kept.Service = view.Service
		return kept, view.Documented
	case model.KindInstances:
		index, found := view.Find(address)
		if !canonical || !found {
			return kept, false
		}
		kept.Instance = view.Instances[index]
		return kept, true
	}
	return kept, false
}

// removeMissing turns changes, which hold all there is, into the difference to the present views.
func (c *Catalog) removeMissing(changes map[string]*change) {
	for name := range *c.views.Load() {
		service := changes[name]
		if service == nil {
			service = &change{}
			changes[name] = service
		}
		service.undefined = service.service == nil
		service.whole = true
	}
	for name, of := range *c.bans.Load() {
		service := changes[name]
		if service == nil { // it isn't known, and has bans only
			service = &change{}
			changes[name] = service
		}
		for address := range of.byAddress {
			if _, listed := service.bans[address]; !listed {
				service.ban(address, nil)
			}
		}
	}
}

// commit makes the changes visible and tells the listeners.
func (c *Catalog) commit(changes map[string]*change) {
	present := *c.views.Load()
	inForce := c.applyBans(changes)
	var changed []*View
	var removed []string
	for name, change := range changes {
		var old *View
		if pointer := present[name]; pointer != nil {
			old = pointer.Load()
		}
		view := change.applyTo(name, old, inForce[name])
		switch {
		case view == old: // be it that neither was
		case view == nil:
			removed = append(removed, name)
			c.instances.Add(-int64(len(old.Instances)))
		default:
			changed = append(changed, view)
			c.instances.Add(int64(len(view.Instances)))
			if old != nil {
				c.instances.Add(-int64(len(old.Instances)))
			}
		}
	}
	c.publish(present, changed, removed)
	for _, listener := range c.listeners {
		listener(changed, removed)
	}
}

// publish swaps the views that changed; the map itself is copied only when its names change.
func (c *Catalog) publish(present map[string]*atomic.Pointer[View], changed []*View, removed []string) {
	next := present
	if len(removed) > 0 || slices.ContainsFunc(changed, func(v *View) bool { return present[v.Name] == nil }) {
		next = maps.Clone(present)
		for _, name := range removed {
			delete(next, name)
		}
	}
	for _, view := range changed {
		if next[view.Name] == nil {
			next[view.Name] = &atomic.Pointer[View]{}
		}
		next[view.Name].Store(view)
	}
	c.views.Store(&next)
}

// applyTo returns the view after the change, with the bans that are in force then: nil if nothing is left of the service, and old
// itself if nothing has changed. What hasn't changed is old's own, so that who has made something of it needs only compare
// pointers: after everything was read anew, mostly nothing has.
func (ch *change) applyTo(name string, old *View, bans serviceBans) *View {
	view := &View{Name: name, Revision: max(ch.revision, bans.revision), Bans: bans.byAddress}
	if old != nil {
		view.Instances = old.Instances
		view.Revision = max(view.Revision, old.Revision)
		if !ch.undefined {
			view.Service, view.Documented = old.Service, old.Documented
		}
	}
	if ch.service != nil {
		view.Service, view.Documented = ch.service, true
	}
	if view.Service == nil {
		view.Service = model.DefaultService(name)
	}
	if old != nil && view.Service != old.Service && reflect.DeepEqual(view.Service, old.Service) {
		view.Service = old.Service
	}
	view.Instances = ch.mergeInto(view.Instances)
	if !view.Documented && len(view.Instances) == 0 {
		return nil
	}
	if old != nil && view.same(old) {
		return old
	}
	return view
}

// same tells whether two views of a service, of which the later one was made of the other, hold the same.
func (v *View) same(old *View) bool {
	return v.Service == old.Service && v.Documented == old.Documented && v.Revision == old.Revision &&
		SameInstances(v.Instances, old.Instances) && maps.Equal(v.Bans, old.Bans)
}
