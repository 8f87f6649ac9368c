package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// world is the whole mesh, and who has to be in it.
type world struct {
	t       *testing.T
	started time.Time
	folder  string
	etcd    *cluster
	sites   []*site
	members *members
	ledger  *ledger
	stalls  stalls

	backends []*backend // those that are registered
	homes    map[string]*site
	made     int // backends so far
	changes  int
}

// documents are what the mesh is set up with. Time limits and bans are shorter than by default, so that a fault and what
// comes after it take seconds.
const documents = `
kind: Topology
idcs: {bj-a: {logical: north}, gz-a: {logical: south}}
routes:
  north: [{to: north, weight: 100}, {to: south, weight: 0}]
  south: [{to: south, weight: 100}, {to: north, weight: 0}]
---
kind: Service
name: shop
timeouts: {normal: {connect: 300ms, read: 2s, total: 6s}}
ban: {duration: 1s, probe: {timeout: 200ms}}
---
kind: Service
name: lame
ban: {duration: 10m}
---
kind: Instances
service: lame
instances: [{address: "127.0.0.1:1"}, {address: "127.0.0.1:2"}]
`

const backendsPerSite = 3

// newWorld starts it all, and returns when it is steady, without load.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, started: time.Now(), folder: t.TempDir(), members: newMembers(), ledger: newLedger(), homes: map[string]*site{}}
	whenInterrupted(func() { _ = os.RemoveAll(filepath.Dir(w.folder)) }) // the test's own, as TempDir makes them
	w.etcd = newCluster(t, w.folder)
	w.apply(documents)
	for _, name := range []string{"bj-a", "gz-a"} {
		s := newSite(t, w.folder, name, w.etcd)
		if *all {
			s.useSmallDisk()
		}
		w.sites = append(w.sites, s)
		for n := range backendsPerSite {
			w.register(w.newBackend(s, n == 0), s)
		}
	}
	for _, s := range w.sites {
		s.startAgent()
		s.startDNS()
	}
	return w
}

// apply registers documents by the CLI.
func (w *world) apply(documents string) {
	w.t.Helper()
	mustUntil(w.t, 30*time.Second, "apply", func() error {
		_, err := run(w.t, w.cli(), documents, "bin/caddy", "ufc", "apply", "-f", "-")
		return err
	})
}

// cli is the environment of the CLI.
func (w *world) cli() []string {
	var endpoints []string
	for _, m := range w.etcd.members {
		endpoints = append(endpoints, "http://"+m.spec.Client)
	}
	return []string{"UFC_ETCD=" + strings.Join(endpoints, ","), "XDG_DATA_HOME=" + w.folder, "XDG_CONFIG_HOME=" + w.folder}
}

// newBackend starts a backend at a site, which isn't registered yet.
func (w *world) newBackend(s *site, linked bool) *backend {
	w.t.Helper()
	w.made++
	name := fmt.Sprintf("%s-%d", s.name, w.made)
	b := newBackend(w.t, w.folder, name, fmt.Sprintf("127.7.%d.%d", slices.Index(w.sites, s)+2, w.made), linked)
	w.homes[name] = s
	return b
}

// register puts an instance into etcd, as it would do itself, and returns etcd's revision.
func (w *world) register(b *backend, s *site) int64 {
	w.t.Helper()
	w.members.add(b.name, b.ip())
	w.backends = append(w.backends, b)
	return w.etcd.write(clientv3.OpPut(b.key(), b.document(s.name)))
}

// deregister takes an instance out of etcd, and returns etcd's revision. The sites have to know within known.
func (w *world) deregister(b *backend, known time.Duration, sites ...*site) int64 {
	w.t.Helper()
	revision := w.etcd.write(clientv3.OpDelete(b.key()))
	w.backends = slices.DeleteFunc(w.backends, func(other *backend) bool { return other == b })
	w.mustKnow(b, known, sites...)
	return revision
}

// mustKnow says that sites have to know within known that an instance is deregistered.
func (w *world) mustKnow(b *backend, known time.Duration, sites ...*site) {
	for _, s := range sites {
		w.members.remove(b.name, s.name, time.Now().Add(known))
	}
}

// at returns a site's backends that are registered.
func (w *world) at(s *site) (list []*backend) {
	for _, b := range w.backends {
		if w.homes[b.name] == s {
			list = append(list, b)
		}
	}
	return list
}

// change writes a document that concerns nobody, and returns etcd's revision.
func (w *world) change() int64 {
	w.t.Helper()
	w.changes++
	value := fmt.Sprintf(`{"kind": "Service", "name": "changing", "owner": "change %d"}`, w.changes)
	return w.etcd.write(clientv3.OpPut(prefix+"/config/services/changing", value))
}

// knows is nil when the agents and the DNSs of the sites have taken up a revision.
func knows(revision int64, sites ...*site) error {
	for _, s := range sites {
		for name, face := range s.faces() {
			at, err := face.metric("ufc_config_revision")
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if int64(at) < revision {
				return fmt.Errorf("%s is at revision %.0f, not %d", name, at, revision)
			}
		}
	}
	return nil
}

// ban is what an agent tells of one.
type ban struct {
	Backend string
	Since   time.Time
}

// bans asks for the bans of a service.
func (f face) bans(service string) ([]ban, error) {
	answer := map[string][]ban{}
	err := f.ask("ban_info^"+service, &answer)
	return answer[service], err
}

// steadyWithin bounds how long the mesh takes to be as if nothing had been. The longest is a watch on an etcd that falls silent.
const steadyWithin = 60 * time.Second

// untilSteady waits until all parts are there and agree, nobody is banned, and for a second every request was answered, and
// every backend asked. It fails the whole test if that doesn't come. It returns how long it took, and what was waited for.
func (w *world) untilSteady() string {
	w.t.Helper()
	var last error
	took, err := until(steadyWithin, func() (err error) {
		defer func() {
			if err != nil {
				last = err
			}
		}()
		if err := w.agree(); err != nil {
			time.Sleep(200 * time.Millisecond) // debug queries are limited
			return err
		}
		began := time.Now()
		time.Sleep(time.Second)
		bad, by := w.ledger.recent(began)
		if len(bad) > 0 {
			return fmt.Errorf("%d bad samples, the first: %s at %s: %s", len(bad), bad[0].kind, bad[0].site, bad[0].why)
		}
		for _, b := range w.backends {
			if by[b.name] == 0 {
				return fmt.Errorf("%s is not asked", b.name)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatalf("the mesh does not come back: %v", err)
	}
	if last == nil {
		return "steady after " + rounded(took)
	}
	return fmt.Sprintf("steady after %s; before: %v", rounded(took), last)
}

// agree is nil if all parts are there and agree, and nobody is banned.
func (w *world) agree() error {
	if err := w.etcd.whole(); err != nil {
		return err
	}
	for _, s := range w.sites {
		for name, face := range s.faces() {
			var sync struct {
				Synced   bool
				Revision int64
				Error    string `json:"last_error"`
			}
			if err := face.ask("sync_info", &sync); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !sync.Synced || sync.Revision < w.etcd.written {
				return fmt.Errorf("%s is at revision %d of %d, synced %t: %s", name, sync.Revision, w.etcd.written, sync.Synced, sync.Error)
			}
			if bans, err := face.bans("shop"); err != nil || len(bans) > 0 {
				return fmt.Errorf("%s bans %v, %v", name, bans, err)
			}
		}
	}
	return nil
}
