package protect

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
)

// rig is an etcd in memory that tells a guard, and beside it a catalog without one. Keys are what etcd's are below
// PREFIX/config/, in short: "shop" is a Service document, "shop/1" an instance, "shop!1" a ban by hand, "~" the topology.
type rig struct {
	t        *testing.T
	guard    *Guard
	views    *catalog.Catalog
	plain    *catalog.Catalog // without a guard
	etcd     map[string]model.Record
	revision int64
	log      bytes.Buffer
}

func newRig(t *testing.T, share float64) *rig {
	r := &rig{t: t, plain: catalog.New(slog.New(slog.DiscardHandler)), etcd: map[string]model.Record{}}
	r.restart(share)
	return r
}

// restart begins with a new guard.
func (r *rig) restart(share float64) {
	logger := slog.New(slog.NewTextHandler(&r.log, nil))
	r.views = catalog.New(logger)
	r.guard = New(r.views, logger)
	r.guard.SetShare(share)
}

func record(name string) model.Record {
	service, number, instance := strings.Cut(name, "/")
	address := func() netip.AddrPort { return netip.MustParseAddrPort("10.0.0." + number + ":80") }
	switch {
	case name == "~":
		return model.Record{Kind: model.KindTopology, Topology: &model.Topology{IDCs: map[string]model.IDC{"a": {Logical: "north"}}}}
	case instance:
		i := model.DefaultInstance()
		i.Address = address()
		return model.Record{Kind: model.KindInstances, Name: service, Address: i.Address.String(), Instance: &i}
	case strings.Contains(name, "!"):
		service, number, _ = strings.Cut(name, "!")
		return model.Record{Kind: model.KindBan, Name: service, Address: address().String(), Ban: &model.HandBan{By: "me"}}
	}
	return model.Record{Kind: model.KindService, Name: name, Service: model.DefaultService(name)}
}

// some names instances from..to of a service.
func some(service string, from, to int) (names []string) {
	for n := from; n <= to; n++ {
		names = append(names, fmt.Sprintf("%s/%d", service, n))
	}
	return names
}

// put and gone change etcd with one transaction, and return what the watch tells of it.
func (r *rig) put(names ...string) (records []model.Record) {
	r.revision++
	for _, name := range names {
		record := record(name)
		record.Revision = r.revision
		r.etcd[name] = record
		records = append(records, record)
	}
	return records
}

func (r *rig) gone(names ...string) (records []model.Record) {
	r.revision++
	for _, name := range names {
		if _, there := r.etcd[name]; there {
			delete(r.etcd, name)
			record := record(name)
			records = append(records, model.Record{
				Kind: record.Kind, Name: record.Name, Address: record.Address, Revision: r.revision, Deleted: true,
			})
		}
	}
	return records
}

// tell tells a change.
func (r *rig) tell(records ...model.Record) {
	if len(records) == 0 {
		r.quiet()
		return
	}
	r.plain.Apply(r.revision, slices.Clone(records))
	r.guard.Apply(r.revision, slices.Clone(records))
}

// quiet is a sign of life.
func (r *rig) quiet() {
	r.plain.Confirm(r.revision)
	r.guard.Confirm(r.revision)
}

// list tells of all there is.
func (r *rig) list() {
	var records []model.Record
	for _, record := range r.etcd {
		records = append(records, record)
	}
	r.plain.Replace(r.revision, slices.Clone(records))
	r.guard.Replace(r.revision, records)
}

// confirm writes a confirmation of what there is now, and returns its record.
func (r *rig) confirm(service string) model.Record {
	at := &model.Confirmation{Revision: max(r.revision, 1)}
	for name := range r.etcd {
		record := record(name)
		if service != "" && record.Name != service {
			continue
		}
		switch record.Kind {
		case model.KindService:
			at.Services++
		case model.KindInstances:
			at.Instances++
		}
	}
	r.revision = max(r.revision, 1) + 1
	return model.Record{Kind: model.KindConfirm, Name: service, Revision: r.revision, Confirm: at}
}

// inForce checks how many instances of a service are in force; -1: it is unknown.
func (r *rig) inForce(service string, want int) {
	r.t.Helper()
	got := -1
	if view := r.views.Service(service); view != nil {
		got = len(view.Instances)
	}
	if got != want {
		r.t.Errorf("%d instances of %s are in force, want %d", got, service, want)
	}
}

// holds checks how many records are held.
func (r *rig) holds(want int) {
	r.t.Helper()
	status := r.guard.Status()
	got := status.Instances + status.Services + status.Bans
	if status.Topology {
		got++
	}
	if got != want {
		r.t.Errorf("%d records are held, want %d: %+v", got, want, status)
	}
}

// same checks that what is in force is what etcd has.
func (r *rig) same() {
	r.t.Helper()
	if got, want := contents(r.views), contents(r.plain); !reflect.DeepEqual(got, want) {
		r.t.Errorf("in force are %v, want %v", got, want)
	}
	r.holds(0)
}

// contents returns what a catalog gives back, without revisions.
func contents(c *catalog.Catalog) map[key]model.Record {
	all := map[key]model.Record{}
	c.Records(func(r model.Record) bool {
		r.Revision = 0
		all[keyOf(&r)] = r
		return true
	})
	return all
}
