package protect

import (
	"net/netip"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// batch is what a call of the store would do to the sets, and what of it is to be held.
type batch struct {
	services  map[string]*delta // those that gain or lose instances; in a list all that lose any
	mesh      delta             // all instances
	documents delta
	there     map[key]bool // of an Apply: what is there after it, and what isn't
	few       bool         // the mesh's instances or documents are too few
}

// delta is what becomes of a set.
type delta struct {
	inForce int // before
	left    int // in etcd, after
	gone    int // in force, not held, and not there any more; of a list at least so many
	held    bool
}

// newBatch returns a batch that changes nothing. The documents are counted only if they are among the records.
func (g *Guard) newBatch(documents bool) *batch {
	_, instances := g.views.Counts()
	b := &batch{
		services: map[string]*delta{}, there: map[key]bool{}, mesh: delta{inForce: instances, left: instances - g.mesh.held},
	}
	if documents {
		inForce := g.documented()
		b.documents = delta{inForce: inForce, left: inForce - g.documents.held}
	}
	return b
}

// delta returns that of a service.
func (g *Guard) delta(b *batch, service string) *delta {
	d := b.services[service]
	if d == nil {
		inForce := g.instances(service)
		d = &delta{inForce: inForce, left: inForce}
		if s := g.services[service]; s != nil {
			d.left -= s.held
		}
		b.services[service] = d
	}
	return d
}

// changed counts what changes. Of a key that changes more than once, the last value counts that can be read.
func (g *Guard) changed(records []model.Record) *batch {
	b := g.newBatch(slices.ContainsFunc(records, func(r model.Record) bool { return r.Kind == model.KindService }))
	for n := range records {
		if records[n].Err == nil {
			b.there[keyOf(&records[n])] = !records[n].Deleted
		}
	}
	for k, there := range b.there {
		_, held := g.held[k]
		before := !held && g.inForce(k)
		switch k.kind {
		case model.KindInstances:
			g.delta(b, k.name).move(before, there)
			b.mesh.move(before, there)
		case model.KindService:
			b.documents.move(before, there)
		}
	}
	for k, there := range b.there {
		if there {
			g.release(k)
		}
	}
	return b
}

// move counts one record.
func (d *delta) move(before, after bool) {
	switch {
	case before && !after:
		d.left--
		d.gone++
	case after && !before:
		d.left++
	}
}

// listed counts what a list leaves. A refused value counts where there is a last good one.
func (g *Guard) listed(records []model.Record) *batch {
	b := g.newBatch(true)
	b.mesh.left, b.documents.left = 0, 0
	for _, name := range g.views.Names() {
		g.delta(b, name).left = 0
	}
	for n := range records {
		k := keyOf(&records[n])
		if records[n].Err == nil {
			g.release(k)
		} else if _, held := g.held[k]; held || !g.inForce(k) {
			continue
		}
		switch k.kind {
		case model.KindInstances:
			g.delta(b, k.name).left++
			b.mesh.left++
		case model.KindService:
			b.documents.left++
		}
	}
	g.includeListed(b, records)
	b.mesh.lost()
	b.documents.lost()
	for _, d := range b.services {
		d.lost()
	}
	return b
}

// includeListed takes the services of a list that weren't known before for services that were there all the time: a list that was
// made since more is followed tells of them first.
func (g *Guard) includeListed(b *batch, records []model.Record) {
	instances, documents := 0, 0
	for name, d := range b.services {
		if d.inForce == 0 && g.views.Service(name) == nil {
			d.inForce = d.left
			instances += d.left
		}
	}
	for n := range records {
		if r := &records[n]; r.Kind == model.KindService && r.Err == nil && g.views.Service(r.Name) == nil {
			documents++
		}
	}
	g.mesh.include(instances)
	g.documents.include(documents)
	b.mesh.inForce += instances
	b.documents.inForce += documents
}

// lost counts what a list lacks; where it has others instead, less than that.
func (d *delta) lost() { d.gone = max(d.inForce-d.left, 0) }

// judge decides which removals of a batch are held, and notes what was in force before it.
func (g *Guard) judge(now time.Time, b *batch) {
	g.judgeSet(now, &g.mesh, &b.mesh, least)
	g.judgeSet(now, &g.documents, &b.documents, least)
	b.few = g.mesh.hold != nil || g.documents.hold != nil
	for name, d := range b.services {
		g.judgeSet(now, g.of(name), d, g.smallest())
	}
}

// judgeSet decides for one set. Of a set that is on hold something may go for as long as the rest is as much as before: what
// came after the hold had begun.
func (g *Guard) judgeSet(now time.Time, s *set, d *delta, smallest int) {
	reference := s.reference(now, d.inForce)
	d.held = d.gone > 0 && over(g.limit(), reference, d.left, smallest) && (s.hold == nil || d.inForce-d.gone < reference)
	switch {
	case d.held:
		s.begin(now, reference)
	case s.hold == nil && d.inForce != d.left:
		s.change(now, d.inForce)
	}
}

// holdsAny tells whether any removal is held.
func (b *batch) holdsAny() bool {
	for _, d := range b.services {
		if d.held {
			return true
		}
	}
	return b.few || b.documents.held
}

// holdsBack tells whether the removal of a record in force is held.
func (b *batch) holdsBack(g *Guard, k key) bool {
	d := b.services[k.name]
	now := d != nil && d.held
	switch k.kind {
	case model.KindInstances, model.KindBan:
		return now
	case model.KindService:
		return now || b.documents.held || g.services[k.name] != nil && g.services[k.name].hold != nil
	case model.KindTopology:
		return b.few
	}
	return false
}

// pass returns the records of an Apply but for the removals that are held, and notes these.
func (g *Guard) pass(b *batch, records []model.Record) []model.Record {
	return slices.DeleteFunc(slices.Clone(records), func(r model.Record) bool {
		k := keyOf(&r)
		if r.Err != nil || !r.Deleted || b.there[k] {
			return false
		}
		if _, already := g.held[k]; already {
			return true
		}
		if !g.inForce(k) || !b.holdsBack(g, k) {
			return false
		}
		g.hold(k, r.Revision)
		return true
	})
}

// keep returns what is in force, missing in a list, and held, and notes it.
func (g *Guard) keep(revision int64, b *batch, records []model.Record) (kept []model.Record) {
	if len(g.held) == 0 && !b.holdsAny() { // as always when nothing is wrong: don't touch 200,000 keys
		return nil
	}
	listed := make(map[key]bool, len(records))
	for n := range records {
		listed[keyOf(&records[n])] = true
	}
	g.views.Records(func(r model.Record) bool {
		k := keyOf(&r)
		if _, already := g.held[k]; !listed[k] && (already || b.holdsBack(g, k)) {
			g.hold(k, revision)
			kept = append(kept, r)
		}
		return true
	})
	return kept
}

// inForce tells whether the catalog has a record.
func (g *Guard) inForce(k key) bool {
	if k.kind == model.KindTopology {
		return !g.views.Topology().Empty()
	}
	view := g.views.Service(k.name)
	if view == nil {
		return false
	}
	switch k.kind {
	case model.KindService:
		return view.Documented
	case model.KindInstances, model.KindBan:
		address, err := netip.ParseAddrPort(k.address)
		if err != nil || address.String() != k.address {
			return false
		}
		_, found := view.Find(address)
		if k.kind == model.KindBan {
			found = view.Bans[address] != nil
		}
		return found
	}
	return false
}
