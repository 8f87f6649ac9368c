package store

import (
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// agile makes a pilot's minutes tenths of a second.
var agile = pilotTiming{
	patience: 200 * time.Millisecond, jitter: 20 * time.Millisecond, settle: 300 * time.Millisecond,
	home: 300 * time.Millisecond, probe: 200 * time.Millisecond,
}

// inOrder returns relays to the etcd, and a configuration that names them in their order.
func inOrder(t *testing.T, cfg Config, e *etcd, count int) ([]*relay, Config) {
	t.Helper()
	relays := make([]*relay, count)
	cfg.Endpoints, cfg.pilot = nil, agile
	for i := range relays {
		relays[i] = relayTo(t, e)
		cfg.Endpoints = append(cfg.Endpoints, e.scheme+"://"+relays[i].address)
	}
	return relays, cfg
}

func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

func (r *relay) reopen(t *testing.T) {
	t.Helper()
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
}

func uses(t *testing.T, f *Follower, endpoint string) {
	t.Helper()
	eventually(t, "the use of "+endpoint, 20*time.Second, func() bool {
		status := f.Status()
		return status.Endpoint == endpoint && status.Synced && status.LastError == ""
	})
}

// Of endpoints that all work, the first is used, and no other is asked for anything.
func TestFirstEndpoint(t *testing.T) {
	relays, cfg := inOrder(t, commonConfig(t), common, 3)
	w := newWriter(t, common, cfg.Prefix)
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.awaitRevision(w.putService("shop"))
	uses(t, f, cfg.Endpoints[0])
	client := openClient(t, cfg)
	if _, err := client.Get(testContext(t), model.KindService, ""); err != nil {
		t.Error(err)
	}
	if relays[0].connections() == 0 || relays[1].connections()+relays[2].connections() > 0 {
		t.Errorf("%d, %d and %d connections", relays[0].connections(), relays[1].connections(), relays[2].connections())
	}
}

// A dead endpoint is left for the next, and is returned to; the watch goes on where it was.
func TestEndpointDies(t *testing.T) {
	t.Parallel()
	relays, cfg := inOrder(t, commonConfig(t), common, 3)
	w := newWriter(t, common, cfg.Prefix)
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	for range 2 {
		relays[0].cut()
		sink.awaitRevision(w.putService("shop"))
		uses(t, f, cfg.Endpoints[1])
		relays[1].cut()
		sink.awaitRevision(w.putService("bag"))
		uses(t, f, cfg.Endpoints[2])
		relays[0].reopen(t)
		uses(t, f, cfg.Endpoints[0])
		relays[1].reopen(t)
		relays[2].silence(true) // nothing is on it any more
		last := w.putService("box")
		sink.await("the change, sooner than a silence is noticed", 10*time.Second, func() bool { return sink.revision >= last })
		relays[2].silence(false)
		relays[2].cut()
		relays[2].reopen(t)
	}
	for _, r := range relays { // all at once, for longer than a round takes
		r.cut()
	}
	last := w.putService("last")
	eventually(t, "an error", 20*time.Second, func() bool { return f.Status().LastError != "" })
	relays[1].reopen(t)
	sink.awaitRevision(last)
	if sink.replaced != 1 {
		t.Errorf("%d lists, want only the first", sink.replaced)
	}
}

// One that hangs takes connections, as the system does for a stopped process, and answers nothing.
func TestEndpointHangs(t *testing.T) {
	t.Parallel()
	relays, cfg := inOrder(t, commonConfig(t), common, 2)
	w := newWriter(t, common, cfg.Prefix)
	f, sink := follow(t, cfg, quick)
	sink.awaitReplace(1)
	relays[0].silence(true)
	last := w.putService("shop")
	sink.await("the change, sooner than the keepalive notices", 10*time.Second, func() bool { return sink.revision >= last })
	uses(t, f, cfg.Endpoints[1])
	for range 20 { // it is asked again and again, and never taken
		sink.awaitRevision(w.putService("bag"))
		time.Sleep(50 * time.Millisecond)
		if got := f.Status().Endpoint; got != cfg.Endpoints[1] {
			t.Fatalf("%s is in use", got)
		}
	}
	relays[0].silence(false)
	uses(t, f, cfg.Endpoints[0])
	relays[1].cut()
	sink.awaitRevision(w.putService("box"))
	if sink.replaced != 1 {
		t.Errorf("%d lists, want only the first", sink.replaced)
	}
}

// Whoever starts finds the one that works, with a user to sign in and without.
func TestStartsAtTheNextEndpoint(t *testing.T) {
	e := startEtcd(t)
	f := func(name string, silent bool, user string) {
		t.Run(name, func(t *testing.T) {
			relays, cfg := inOrder(t, configOf(e, DefaultPrefix), e, 2)
			if silent {
				relays[0].silence(true)
			} else {
				relays[0].cut()
			}
			if user != "" {
				cfg.Username, cfg.Password = user, "geheim-1"
			}
			client, err := newClient(cfg, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Get(testContext(t), model.KindService, ""); err != nil {
				t.Error(err)
			}
			_, sink := follow(t, cfg)
			sink.awaitReplace(1)
		})
	}
	f("dead", false, "")
	f("silent", true, "")
	enableUsers(t, newWriter(t, e, DefaultPrefix).client, DefaultPrefix, "agent", "geheim-1")
	f("dead, with a user", false, "agent")
	f("silent, with a user", true, "agent")
}

// A Board's streams follow, too: they share the follower's connection.
func TestBoardMovesAlong(t *testing.T) {
	t.Parallel()
	relays, cfg := inOrder(t, commonConfig(t), common, 2)
	a, b := newBoard(t, cfg, "host", "a"), newBoard(t, cfg, "host", "b")
	a.ban(1, "one")
	b.told("shop 10.0.0.1:80 a: one")
	relays[0].cut()
	a.ban(2, "two")
	b.told("shop 10.0.0.1:80 a: one", "shop 10.0.0.2:80 a: two")
	relays[0].reopen(t)
	uses(t, a.follower, cfg.Endpoints[0])
	uses(t, b.follower, cfg.Endpoints[0])
	relays[1].silence(true) // nothing is on it any more
	a.back(1)
	b.told("shop 10.0.0.2:80 a: two") // sooner than a Board notices a silence
	relays[1].silence(false)
	relays[1].cut()
	relays[1].reopen(t)
	relays[0].silence(true)
	a.ban(3, "three")
	b.told("shop 10.0.0.2:80 a: two", "shop 10.0.0.3:80 a: three")
}
