package store

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/protect"
)

// byHand returns a follower in front of a sink that does what the test tells it, and nothing by itself. It has listed once,
// when services were asked for.
func byHand(t *testing.T, cfg Config, sink Sink, scope Scope, services ...string) (*Follower, context.Context) {
	t.Helper()
	f, err := NewFollower(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	f.Follow(scope)
	ctx := testContext(t)
	if f.link, err = openLink(ctx, &f.cfg, f.timing.call); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.link.Close() })
	f.extent.begin()
	ask(t, f, services...)
	list(t, f, ctx)
	return f, ctx
}

// protectedByHand is byHand in front of a guard that holds back the removal of half of what there is.
func protectedByHand(t *testing.T, cfg Config, scope Scope, services ...string) (protected, context.Context) {
	t.Helper()
	views := catalog.New(quiet)
	guard := protect.New(views, slog.New(slog.DiscardHandler))
	guard.SetShare(0.5)
	f, ctx := byHand(t, cfg, guard, scope, services...)
	return protected{f, guard, views}, ctx
}

func list(t *testing.T, f *Follower, ctx context.Context) {
	t.Helper()
	if err := f.list(ctx); err != nil {
		t.Fatal(err)
	}
}

// ask has services asked for, and returns what those wait for who do.
func ask(t *testing.T, f *Follower, services ...string) (questions []*question) {
	t.Helper()
	for _, service := range services {
		q, err := f.extent.want(service, true, maxAsked)
		if q == nil {
			t.Fatalf("%s isn't asked for: %v", service, err)
		}
		questions = append(questions, q)
	}
	return questions
}

// answered checks what those were told who asked.
func answered(t *testing.T, q *question, want error) {
	t.Helper()
	select {
	case <-q.done:
		if !errors.Is(q.err, want) {
			t.Errorf("%v, want %v", q.err, want)
		}
	default:
		t.Error("a question isn't answered")
	}
}

// deleteThree deletes what putThree put.
func (w *writer) deleteThree() {
	w.t.Helper()
	if _, err := w.client.Delete(testContext(w.t), w.root, clientv3.WithPrefix()); err != nil {
		w.t.Fatal(err)
	}
}

// What is used and held while etcd is empty is read when etcd has it again, and followed on.
func TestUsedOutlivesEmptyEtcd(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	p, ctx := protectedByHand(t, cfg, used(), "shop") // with the first list, since a guard holds back nothing of what has just come
	p.instances(t, "shop", 2)

	w.deleteThree()
	list(t, p.Follower, ctx)
	p.instances(t, "shop", 2)
	if held := p.guard.Status().Instances; held != 2 {
		t.Fatalf("%d instances are held, want 2", held)
	}
	w.putThree()
	w.putInstance("shop", "10.0.1.3:80")
	list(t, p.Follower, ctx)
	p.instances(t, "shop", 3)
	if held := p.guard.Status().Instances; held != 0 {
		t.Errorf("%d instances are held, want none", held)
	}
	key := []byte(p.keys.instance("shop", "10.0.1.4:80"))
	if p.extent.takes(p.keys, key, p.revision) || !p.extent.takes(p.keys, key, p.revision+1) {
		t.Error("shop isn't followed from the list on")
	}
}

// A scope that is narrowed takes all else out of the sink, held or not, whenever it comes.
func TestNarrowed(t *testing.T) {
	f := func(what string, narrow func(p protected, w *writer, ctx context.Context)) {
		t.Helper()
		cfg := commonConfig(t)
		w := newWriter(t, common, cfg.Prefix)
		w.putThree()
		p, ctx := protectedByHand(t, cfg, Scope{})
		p.instances(t, "cart", 2)
		narrow(p, w, ctx)
		for _, service := range []string{"cart", "shop-web"} {
			if p.views.Service(service) != nil || p.extent.followed[service] != nil {
				t.Errorf("%s: %s is still in force", what, service)
			}
		}
		p.instances(t, "shop", 2)
		if held := p.guard.Status(); held.Instances > 2 {
			t.Errorf("%s: held are %+v", what, held)
		}
	}
	shop := Scope{Names: []string{"shop"}}
	usedShop := Scope{Used: true, Uses: func(service string) uint64 {
		if service == "shop" {
			return 1
		}
		return 0
	}}
	for _, scope := range []Scope{shop, usedShop} {
		f("with all held", func(p protected, w *writer, ctx context.Context) {
			w.deleteThree()
			list(t, p.Follower, ctx)
			p.instances(t, "cart", 2)
			p.Follow(scope)
			p.rescope()
		})
		f("before a list", func(p protected, _ *writer, ctx context.Context) {
			p.rescope() // the session's
			p.Follow(scope)
			list(t, p.Follower, ctx)
			if p.rescope() {
				t.Error("all is to be read")
			}
		})
	}
}

// What etcd didn't have when it was asked for isn't taken when it comes, once the scope names others.
func TestNarrowedUnknown(t *testing.T) {
	cfg := commonConfig(t)
	f, _ := byHand(t, cfg, newRecorder(t), used(), "cart", "shop")
	key := []byte(f.keys.service("cart"))
	f.Follow(Scope{Names: []string{"shop"}})
	f.rescope()
	if f.extent.takes(f.keys, key, f.revision+1) {
		t.Error("cart is taken")
	}
	if !f.extent.takes(f.keys, []byte(f.keys.service("shop")), f.revision+1) {
		t.Error("shop isn't taken")
	}
}

// onReplace is a recorder that has something done when it is given a list.
type onReplace struct {
	*recorder
	do func()
}

func (r *onReplace) Replace(revision int64, records []model.Record) {
	r.recorder.Replace(revision, records)
	r.do()
}

// What is asked for while all is being read isn't read once more: what was removed in between would come back for good.
func TestWantDuringList(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	sink := &onReplace{newRecorder(t), func() {}}
	f, ctx := byHand(t, cfg, sink, used())
	var questions []*question
	var revision int64
	sink.do = func() {
		questions = ask(t, f, "shop", "absent")
		revision = w.delete("instances/shop/10.0.1.2:80")
	}
	f.Follow(Scope{})
	list(t, f, ctx)
	if err := f.fetch(ctx); err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		answered(t, q, nil)
	}
	gone := mvccpb.KeyValue{Key: []byte(f.keys.instance("shop", "10.0.1.2:80")), ModRevision: revision}
	f.apply([]*clientv3.Event{{Type: mvccpb.Event_DELETE, Kv: &gone}})
	sink.has(slices.Concat(recordsOf("cart", "shop-web"), recordsOf("shop")[:3])...)
}

// What came otherwise than by a read answers those who asked for it.
func TestAskedAndFollowed(t *testing.T) {
	e := newExtent()
	e.ask("shop")
	e.ask("cart")
	q := e.asked["shop"]
	e.loaded(&snapshotState{partial: true, records: []model.Record{{Kind: model.KindService, Name: "shop"}}})
	if got := e.next(9); !slices.Equal(got, []string{"cart"}) {
		t.Errorf("%q are to be read", got)
	}
	answered(t, q, nil)
}

// A read that is cut since the watch ends tells nobody that etcd isn't heard: the next watch has it read.
func TestFetchIsCut(t *testing.T) {
	cfg := commonConfig(t)
	newWriter(t, common, cfg.Prefix).putThree()
	sink := newRecorder(t)
	f, ctx := byHand(t, cfg, sink, used())
	q := ask(t, f, "shop")[0]
	fetch := func(ctx context.Context) {
		t.Helper()
		if err := f.fetch(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cut, cancel := context.WithCancel(ctx)
	cancel()
	fetch(cut)
	select {
	case <-q.done:
		t.Fatalf("it is answered by %v", q.err)
	default:
	}
	fetch(ctx)
	answered(t, q, nil)
	sink.has(recordsOf("shop")...)
}

// An endpoint that hangs is left when a read of single services shows it.
func TestFetchFindsHanging(t *testing.T) {
	relays, cfg := inOrder(t, commonConfig(t), common, 2)
	cfg.pilot.home = time.Hour
	f, ctx := byHand(t, cfg, newRecorder(t), used())
	time.Sleep(cfg.pilot.settle)
	relays[0].silence(true)
	f.timing.fetch = 100 * time.Millisecond
	q := ask(t, f, "shop")[0]
	if err := f.fetch(ctx); err != nil {
		t.Fatal(err)
	}
	answered(t, q, ErrNotHeard)
	eventually(t, "the next endpoint", 5*time.Second, func() bool { return f.link.pilot.endpoint() == cfg.Endpoints[1] })
}

// A key that is far too long to be a service's takes little memory, whether it was listed or came later; and it can be forgotten.
func TestFollowedLongNames(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putService(strings.Repeat("a", 1<<18))
	f, _ := byHand(t, cfg, newRecorder(t), Scope{})
	name := strings.Repeat("b", 1<<18)
	key := []byte(f.keys.service(name))
	if !f.extent.takes(f.keys, key, f.revision+1) {
		t.Error("it isn't taken")
	}
	record := f.decoder.deleted(key, f.revision+1)
	if len(f.extent.followed) != 2 || f.extent.followed[record.Name] == nil {
		t.Errorf("%d are followed, and not by the names of their records", len(f.extent.followed))
	}
	for service := range f.extent.followed {
		if len(service) > maxShown {
			t.Errorf("a name of %d bytes is kept", len(service))
		}
	}
	f.Follow(Scope{Names: []string{"shop"}})
	if gone, _ := f.extent.rescope(); !slices.Contains(gone, record.Name) {
		t.Errorf("%d are forgotten, and not what was taken", len(gone))
	}
}

// To count uses takes a while, for which nobody who wants a service is to wait.
func TestUsesAreCountedUnlocked(t *testing.T) {
	cfg := commonConfig(t)
	newWriter(t, common, cfg.Prefix).putThree()
	f, ctx := byHand(t, cfg, newRecorder(t), Scope{})
	var counted int
	scope := Scope{Used: true, Uses: func(string) uint64 {
		counted++
		if !f.extent.mu.TryLock() {
			t.Fatal("the extent is locked")
		}
		f.extent.mu.Unlock()
		return 1
	}}
	count := func(what string, do func()) {
		t.Helper()
		counted = 0
		do()
		if counted != 3 || len(f.extent.followed) != 3 {
			t.Errorf("%s: of 3 services, %d were counted and %d stay", what, counted, len(f.extent.followed))
		}
	}
	f.Follow(scope)
	count("rescope", func() { f.rescope() })
	count("sweep", func() { f.extent.sweep(time.Now(), 0, time.Hour) })
	f.Follow(Scope{})
	list(t, f, ctx)
	f.Follow(scope)
	count("list", func() { list(t, f, ctx) })

	// A scope that changes while uses are counted is the one that is put in force.
	f.Follow(Scope{})
	list(t, f, ctx)
	f.Follow(Scope{Used: true, Uses: func(string) uint64 { f.Follow(Scope{Names: []string{"shop"}}); return 0 }})
	f.rescope()
	if followed := f.extent.followed; len(followed) != 1 || followed["shop"] == nil {
		t.Errorf("followed are %v", followed)
	}
}
