package protect

import (
	"github.com/ufc-mesh/ufc/shared/model"
)

// confirm lets go of what a record confirms.
func (g *Guard) confirm(r *model.Record) {
	if r.Confirm == nil || len(g.held) == 0 || !g.honest(r) {
		return
	}
	gone := g.drop(func(k key, revision int64) bool {
		return revision <= r.Confirm.Revision && (r.Name == "" || k.name == r.Name)
	})
	if len(gone) == 0 {
		return
	}
	g.remove(gone)
	g.alarm.logger.Info("removal confirmed: what was held back is gone", "service", r.Name, "records", len(gone),
		"revision", r.Confirm.Revision, "by", r.Confirm.By)
	g.accept(r.Name)
}

// honest tells whether a confirmation was made for this etcd: whoever confirms looks at a revision, and writes the key at a
// later one.
func (g *Guard) honest(r *model.Record) bool {
	if r.Confirm.Revision < r.Revision {
		return true
	}
	g.alarm.logger.Warn("confirmation ignored: it is of another etcd, since it is older than what it confirms", "service", r.Name,
		"confirms", r.Confirm.Revision, "revision", r.Revision)
	return false
}

// accept takes what is in force for what should be: of a service and the mesh, or of all services without a name.
func (g *Guard) accept(service string) {
	g.acceptMesh()
	for name, s := range g.services {
		if service == "" || name == service {
			s.confirmed(g.instances(name))
		}
	}
}

// acceptMesh is accept for the mesh as a whole.
func (g *Guard) acceptMesh() {
	_, instances := g.views.Counts()
	g.mesh.confirmed(instances)
	g.documents.confirmed(g.documented())
}

// restamp takes all that is held for removed at a list's revision at the latest. It is lower than that of a removal when etcd
// was restored; then its revisions mean something else, and an old confirmation must not meet them.
func (g *Guard) restamp(revision int64) {
	for k, removed := range g.held {
		g.held[k] = min(removed, revision)
	}
}

// cover looks in a list for confirmations that were made since etcd was last heard. Nobody can tell then whether what is
// missing went before that or after; if etcd has about as much as was confirmed, it is taken for meant.
func (g *Guard) cover(b *batch, records []model.Record) {
	for n := range records {
		r := &records[n]
		if r.Confirm == nil || r.Confirm.Revision <= g.revision || !g.honest(r) {
			continue
		}
		lacks := func(from, to int) bool { return over(g.limit(), from, to, least) }
		if r.Name != "" {
			if d := g.delta(b, r.Name); !lacks(r.Confirm.Instances, d.left) {
				d.accepted()
				g.drop(func(k key, _ int64) bool { return k.name == r.Name })
				g.of(r.Name).end()
			}
			continue
		}
		if lacks(r.Confirm.Instances, b.mesh.left) || lacks(r.Confirm.Services, b.documents.left) {
			continue
		}
		for _, d := range b.services {
			d.accepted()
		}
		b.mesh.accepted()
		b.documents.accepted()
		g.drop(func(key, int64) bool { return true })
		for _, s := range g.services {
			s.end()
		}
		g.mesh.end()
		g.documents.end()
	}
}

// accepted takes what is left for what there always was.
func (d *delta) accepted() { d.inForce, d.gone = d.left, 0 }
