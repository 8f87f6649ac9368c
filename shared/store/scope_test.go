package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 20 * time.Second // of Want, in tests

func scoped(scope Scope, adjust ...func(*Follower)) func(*Follower) {
	return func(f *Follower) {
		f.Follow(scope)
		for _, change := range adjust {
			change(f)
		}
	}
}

func used() Scope { return Scope{Used: true} }

// putThree registers three services, of two instances and a ban each, and the topology.
func (w *writer) putThree() (revision int64) {
	for n, service := range []string{"cart", "shop", "shop-web"} {
		w.putService(service)
		for i := range 2 {
			w.putInstance(service, fmt.Sprintf("10.0.%d.%d:80", n, i+1))
		}
		w.put(fmt.Sprintf("bans/%s/10.0.%d.1:80", service, n), `{"by":"me"}`)
	}
	return w.put("topology", `{"kind":"Topology","idcs":{"bj-a":{"logical":"north"}}}`)
}

// recordsOf are the keys of services of putThree.
func recordsOf(services ...string) (records []string) {
	for _, service := range services {
		n := slices.Index([]string{"cart", "shop", "shop-web"}, service)
		records = append(records, "Service/"+service, fmt.Sprintf("Ban/%s/10.0.%d.1:80", service, n))
		for i := range 2 {
			records = append(records, fmt.Sprintf("Instances/%s/10.0.%d.%d:80", service, n, i+1))
		}
	}
	return append(records, "Topology")
}

func wants(t testing.TB, f *Follower, service string, want error) {
	t.Helper()
	if err := f.Want(service, patience); !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Errorf("%s: %v, want %v", service, err, want)
	}
}

func TestFollowNames(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	f, sink := follow(t, cfg, scoped(Scope{Names: []string{"shop", "absent"}}))
	sink.awaitReplace(1)
	sink.has(recordsOf("shop")...)

	applied := sink.applied
	w.putInstance("shop-web", "10.9.9.9:80")
	w.delete("services/cart")
	w.put("unheard-of", "{}")
	sink.awaitRevision(w.delete("bans/cart/10.0.0.1:80"))
	if sink.applied != applied {
		t.Errorf("the sink was told of %+v", sink.last)
	}
	sink.awaitRevision(w.delete("instances/shop/10.0.1.2:80"))
	sink.awaitRevision(w.put("bans/shop/10.0.1.7:80", "{}"))
	sink.awaitRevision(w.delete("topology"))
	sink.has("Service/shop", "Instances/shop/10.0.1.1:80", "Ban/shop/10.0.1.1:80", "Ban/shop/10.0.1.7:80")
	wants(t, f, "shop", nil)
	wants(t, f, "cart", ErrNotFollowed)
	wants(t, f, "absent", nil)
	sink.awaitRevision(w.putInstance("absent", "10.0.0.1:80")) // it comes later
	sink.has("Service/shop", "Instances/shop/10.0.1.1:80", "Ban/shop/10.0.1.1:80", "Ban/shop/10.0.1.7:80", "Instances/absent/10.0.0.1:80")
}

func TestFollowUsed(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	f, sink := follow(t, cfg, scoped(used(), func(f *Follower) { f.timing.page = 1 })) // and so each folder comes in pages
	sink.awaitReplace(1)
	sink.has("Topology")
	wants(t, f, "shop", nil)
	sink.has(recordsOf("shop")...)
	if err := f.Want("shop-web", 0); !errors.Is(err, ErrNotHeard) {
		t.Errorf("without patience: %v", err)
	}
	wants(t, f, "shop-web", nil)
	sink.has(recordsOf("shop", "shop-web")...)
	for _, absent := range []string{"absent", "no/name", "Shop", ""} {
		wants(t, f, absent, nil)
	}
	if unknown := f.extent.unknown; len(unknown) != 1 {
		t.Errorf("unknown are %v", unknown)
	}

	w.delete("services/shop-web")
	w.putService("nobodys")
	sink.awaitRevision(w.putInstance("absent", "10.0.0.1:80")) // whoever asked for it needn't ask again
	sink.has(slices.Concat(recordsOf("shop"), recordsOf("shop-web")[1:4], []string{"Instances/absent/10.0.0.1:80"})...)
}

func TestWantSharesOneRead(t *testing.T) {
	cfg := commonConfig(t)
	newWriter(t, common, cfg.Prefix).putThree()
	f, sink := follow(t, cfg, scoped(used()))
	sink.awaitReplace(1)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { wants(t, f, "shop", nil) })
	}
	all.Wait()
	if sink.applied != 1 {
		t.Errorf("%d reads", sink.applied)
	}
}

// What is read while it changes all the time ends as etcd has it, whatever was told when.
func TestWantUnderChange(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	const services = 20
	stop := make(chan struct{})
	var writers sync.WaitGroup
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			service, address := fmt.Sprintf("s%02d", n*7%services), fmt.Sprintf("10.0.0.%d:80", n%5+1)
			if n%3 == 0 {
				w.delete("instances/" + service + "/" + address)
			} else {
				w.putInstance(service, address)
			}
		}
	})
	f, sink := follow(t, cfg, scoped(used()))
	sink.awaitReplace(1)
	for n := range services {
		wants(t, f, fmt.Sprintf("s%02d", n), nil)
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	writers.Wait()
	sink.awaitRevision(w.put("topology", "{}"))
	_, whole := follow(t, cfg)
	whole.awaitReplace(1)
	var want []string
	for key := range whole.state {
		want = append(want, key)
	}
	sink.has(want...)
}

func TestUnusedIsForgotten(t *testing.T) {
	cfg := commonConfig(t)
	cfg.Snapshot = filepath.Join(t.TempDir(), "x.snapshot")
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	var count atomic.Uint64
	scope := Scope{Used: true, Uses: func(service string) uint64 {
		if service == "shop" {
			return count.Add(1)
		}
		return 0
	}}
	f, sink := follow(t, cfg, scoped(scope, func(f *Follower) {
		f.timing.progress, f.timing.sweep, f.timing.unused = 20*time.Millisecond, 30*time.Millisecond, 200*time.Millisecond
	}))
	sink.awaitReplace(1)
	wants(t, f, "shop", nil)
	wants(t, f, "cart", nil)
	sink.await("cart is forgotten", 20*time.Second, func() bool { return len(sink.forgotten) > 0 })
	sink.has(recordsOf("shop")...)
	if !slices.Equal(sink.forgotten, []string{"cart"}) {
		t.Errorf("forgotten are %q", sink.forgotten)
	}
	sink.awaitRevision(w.put("topology", "{}"))
	applied := sink.applied
	sink.awaitRevision(w.putService("cart"))
	if sink.applied != applied {
		t.Error("what is forgotten is followed")
	}
	wants(t, f, "cart", nil) // and comes back
	sink.has(recordsOf("shop", "cart")...)
}

func TestScopeChanges(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.has(recordsOf("cart", "shop", "shop-web")...)
	holds := func(services ...string) {
		t.Helper()
		want := recordsOf(services...)
		sink.await(fmt.Sprintf("%q", services), 20*time.Second, func() bool {
			missing := slices.ContainsFunc(want, func(key string) bool { return sink.state[key].Kind == "" })
			return !missing && len(sink.state) == len(want)
		})
		sink.has(want...)
	}
	uses := func(service string) uint64 { return uint64(len(service) - len("shop")) } // only shop-web is used
	f.Follow(Scope{Names: []string{"shop", "cart"}})
	holds("cart", "shop")
	f.Follow(Scope{Names: []string{"shop", "shop-web", "absent"}})
	holds("shop", "shop-web")
	f.Follow(Scope{Used: true, Uses: uses}) // what was followed stays for a while
	wants(t, f, "cart", nil)
	holds("cart", "shop", "shop-web")
	if sink.replaced != 1 {
		t.Errorf("all was read %d times", sink.replaced)
	}
	f.Follow(Scope{})
	sink.awaitReplace(2)
	holds("cart", "shop", "shop-web")
	w.putService("new")
	sink.awaitRevision(w.delete("services/new"))
	f.Follow(Scope{Used: true, Uses: uses})
	holds("shop-web")
	wants(t, f, "shop", nil)
	holds("shop", "shop-web")
}

// Without etcd, what the snapshot has is served, and of what it hasn't, nobody says that it doesn't exist.
func TestScopeWithoutEtcd(t *testing.T) {
	server := startEtcd(t)
	cfg := configOf(server, "/x")
	newWriter(t, server, cfg.Prefix).putThree()
	whole, some := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "some")
	write := func(path string, scope Scope, services ...string) {
		cfg := cfg
		cfg.Snapshot = path
		f, sink := follow(t, cfg, scoped(scope))
		sink.awaitReplace(1)
		for _, service := range services {
			wants(t, f, service, nil)
		}
		f.Close()
	}
	write(whole, Scope{})
	write(some, used(), "shop")
	server.close()

	load := func(path string, scope Scope, holds ...string) *Follower {
		t.Helper()
		cfg := cfg
		cfg.Snapshot = path
		sink := newRecorder(t)
		f, err := NewFollower(cfg, sink)
		if err != nil {
			t.Fatal(err)
		}
		f.Follow(scope)
		f.timing.call = 100 * time.Millisecond
		if err := f.LoadSnapshot(); err != nil {
			t.Fatal(err)
		}
		f.Start()
		t.Cleanup(f.Close)
		sink.has(recordsOf(holds...)...)
		eventually(t, "etcd is away", 20*time.Second, func() bool { return f.Status().LastError != "" })
		return f
	}
	f := load(whole, Scope{}, "cart", "shop", "shop-web")
	wants(t, f, "absent", nil)
	f = load(whole, Scope{Names: []string{"shop", "absent"}}, "shop")
	wants(t, f, "absent", nil)
	wants(t, f, "cart", ErrNotFollowed)
	f = load(whole, used(), "cart", "shop", "shop-web")
	wants(t, f, "absent", ErrNotHeard)
	for _, scope := range []Scope{{}, used(), {Names: []string{"shop", "cart"}}} {
		f = load(some, scope, "shop")
		wants(t, f, "shop", nil)
		wants(t, f, "cart", ErrNotHeard)
	}

	// And when it is back the rest is read.
	server.start(t)
	eventually(t, "etcd is back", 20*time.Second, func() bool { return f.Status().Synced })
	wants(t, f, "cart", nil)
	f.sink.(*recorder).has(recordsOf("shop", "cart")...)
}

// A service that was asked for in vain is read when etcd is back, for whoever asks then.
func TestWantOutlivesEtcd(t *testing.T) {
	server := startEtcd(t)
	cfg := configOf(server, "/x")
	newWriter(t, server, cfg.Prefix).putThree()
	f, sink := follow(t, cfg, scoped(used(), func(f *Follower) { f.timing.fetch = 100 * time.Millisecond }))
	sink.awaitReplace(1)
	wants(t, f, "shop", nil)
	wants(t, f, "absent", nil)
	server.close()
	began := time.Now()
	wants(t, f, "cart", ErrNotHeard)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("etcd's absence was told after %v", took)
	}
	wants(t, f, "shop", nil)
	wants(t, f, "absent", nil) // it wasn't there
	server.start(t)
	eventually(t, "cart is there", 20*time.Second, func() bool { return f.Want("cart", time.Second) == nil })
	sink.has(recordsOf("shop", "cart")...)
}

// Whatever a stranger asks for, it takes bounded memory, and etcd is asked at a bounded rate.
func TestStrangers(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.putThree()
	f, sink := follow(t, cfg, scoped(used()))
	sink.awaitReplace(1)
	began := time.Now()
	for n := range 3 * maxUnknown {
		_ = f.Want(fmt.Sprintf("stranger-%d", n), 0)
	}
	most := int(serviceBatch * (fetchBurst + fetchRate*time.Since(began).Seconds()))
	f.extent.mu.Lock()
	asked, unknown := len(f.extent.asked), len(f.extent.unknown)
	f.extent.mu.Unlock()
	if asked > maxAsked || unknown > most+serviceBatch {
		t.Errorf("%d wait, %d are unknown after %v", asked, unknown, time.Since(began))
	}
	eventually(t, "they are answered", 60*time.Second, func() bool {
		f.extent.mu.Lock()
		defer f.extent.mu.Unlock()
		return len(f.extent.asked) == 0
	})
	wants(t, f, "shop", nil)
	e := newExtent()
	for n := range 2 * maxUnknown {
		e.miss(fmt.Sprint(n), 1)
	}
	if len(e.unknown) != maxUnknown || len(e.followed) != 0 {
		t.Errorf("%d unknown", len(e.unknown))
	}
}

func TestServiceOf(t *testing.T) {
	keys := newKeyspace("/x")
	f := func(key, want string, ok bool) {
		t.Helper()
		if got, found := keys.serviceOf([]byte(key)); string(got) != want || found != ok {
			t.Errorf("%q: %q, %v", key, got, found)
		}
	}
	f(keys.service("shop"), "shop", true)
	f(keys.instance("shop", "10.0.0.1:80"), "shop", true)
	f(keys.ban("shop", "10.0.0.1:80"), "shop", true)
	f(keys.service("a/b"), "a/b", true)
	f(keys.topology(), "", false)
	f("/x/config/instances/shop", "shop", false)
	f("/x/config/more", "", false)
	f("/y/config/services/shop", "", false)
}

// What the scope names is read in the end, whatever fails meanwhile; what nobody may ask for any more isn't.
func TestQuestionsOutliveFailures(t *testing.T) {
	e := newExtent()
	e.begun, e.scope, e.named = true, Scope{Names: []string{"shop"}}, map[string]bool{"shop": true}
	e.completed(false)
	asked := func(what string, want ...string) {
		t.Helper()
		if got := e.next(9); !slices.Equal(got, want) || len(e.asked) != len(want) {
			t.Errorf("%s: %q of %d are to be read, want %q", what, got, len(e.asked), want)
		}
	}
	q, err := e.want("shop", true, 1)
	if q == nil || err != nil {
		t.Fatal(err)
	}
	asked("wanted", "shop")
	e.answer([]string{"shop"}, ErrNotHeard)
	<-q.done
	asked("failed", "shop")
	e.read([]string{"shop"}, nil, 7)
	e.answer([]string{"shop"}, nil)
	asked("read")
	e.ask("cart")
	q = e.asked["cart"]
	e.changed = true
	e.rescope()
	<-q.done
	if asked("not named"); !errors.Is(q.err, ErrNotFollowed) {
		t.Error(q.err)
	}
	if _, err := e.want("shop", true, 0); err != nil {
		t.Errorf("what isn't there: %v", err)
	}
}
