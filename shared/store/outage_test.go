package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// quick finds a silent watch within half a second instead of half a minute, and gives up a call after one instead of five.
func quick(f *Follower) {
	f.timing.progress, f.timing.silence, f.timing.call = 100*time.Millisecond, 500*time.Millisecond, time.Second
}

func TestEtcdStartsLater(t *testing.T) {
	t.Parallel()
	e := newEtcd(t.TempDir(), "http")
	began := time.Now()
	f, sink := follow(t, configOf(e, DefaultPrefix), quick)
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("starting without etcd took %v, want no wait", took)
	}
	// Long enough without etcd for gRPC's own backoff to be seconds, and for a call to run out of time.
	eventually(t, "an error that says why", 10*time.Second, func() bool {
		text := f.Status().LastError
		return strings.Contains(text, e.front.address) && strings.Contains(text, "connection refused")
	})
	if status := f.Status(); status.Synced || status.Source != SourceNone {
		t.Errorf("status %+v without etcd", status)
	}
	e.start(t)
	t.Cleanup(e.close)
	sink.await("etcd is picked up", 2*time.Second, func() bool { return sink.replaced == 1 })
	eventually(t, "all is well", time.Second, func() bool { return f.Status().Synced && f.Status().LastError == "" })
}

// gRPC's own pauses between two attempts grow to minutes; here there must be one each second at least.
func TestReconnectsOften(t *testing.T) {
	t.Parallel()
	r := newRelay()
	r.target = freeAddress() // where nobody is: each connection breaks at once
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	defer r.cut()
	f, _ := follow(t, Config{Endpoints: []string{"http://" + r.address}, Logger: quiet})
	eventually(t, "the eighth attempt", 6*time.Second, func() bool { // gRPC's own comes after half a minute
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.taken >= 8
	})
	f.Close()
}

func TestEtcdRestarts(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	w.putService("shop")
	w.putService("bag")
	f, sink := follow(t, configOf(e, DefaultPrefix))
	sink.awaitReplace(1)
	e.close()

	// Meanwhile things change: by an etcd with the same data at another address.
	other := newEtcd(e.dir, "http")
	other.start(t)
	elsewhere := newWriter(t, other, DefaultPrefix)
	elsewhere.delete("services/bag")
	last := elsewhere.putInstance("shop", "10.0.0.1:80")
	other.close()

	e.start(t)
	began := time.Now()
	sink.awaitRevision(last)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the changes took %v", took)
	}
	sink.has("Service/shop", "Instances/shop/10.0.0.1:80")
	if sink.replaced != 1 || sink.smallest < 2 {
		t.Errorf("%d lists, want only the first; at least %d records, want 2", sink.replaced, sink.smallest)
	}
	sink.awaitRevision(w.putService("more"))
	eventually(t, "in step again", 5*time.Second, func() bool { return f.Status().Synced })
}

// relayTo stands between one follower and an etcd.
func relayTo(t *testing.T, e *etcd) *relay {
	t.Helper()
	r := newRelay()
	r.target = e.front.target
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cut)
	return r
}

// A watch that was given up goes on where it was, and doesn't read everything again.
func TestSilentWatch(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	r := relayTo(t, common)
	cfg.Endpoints = []string{"http://" + r.address}
	w := newWriter(t, common, cfg.Prefix)
	w.putService("shop")
	f, sink := follow(t, cfg, quick)
	sink.awaitReplace(1)

	r.silence(true)                                                       // the connection stands, and nothing comes
	eventually(t, "the silence is noticed", 10*time.Second, func() bool { // by the call after it
		return strings.Contains(f.Status().LastError, "ask for the revision")
	})
	last := w.putService("bag")
	r.cut()
	r.silence(false)
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	sink.awaitRevision(last)
	sink.has("Service/shop", "Service/bag")
	if sink.replaced != 1 {
		t.Errorf("%d lists, want only the first", sink.replaced)
	}
}

func TestCompactedMeanwhile(t *testing.T) {
	cfg := commonConfig(t)
	r := relayTo(t, common)
	cfg.Endpoints = []string{"http://" + r.address}
	w := newWriter(t, common, cfg.Prefix)
	for _, name := range []string{"a", "b", "c"} {
		w.putService(name)
	}
	_, sink := follow(t, cfg)
	sink.awaitReplace(1)

	r.cut()
	w.delete("services/a")
	w.putService("d")
	last := w.putInstance("b", "10.0.0.1:80")
	if _, err := w.client.Compact(testContext(t), last); err != nil {
		t.Fatal(err)
	}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	sink.awaitReplace(2)
	sink.has("Service/b", "Service/c", "Service/d", "Instances/b/10.0.0.1:80")
	if sink.smallest < 3 {
		t.Errorf("there were only %d records in between", sink.smallest)
	}
	sink.awaitRevision(w.putService("e"))
}

// The first page's revision may be compacted before the last page is read.
func TestCompactedWhileListing(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	for _, name := range []string{"a", "b", "c", "d"} {
		w.putService(name)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	link, err := openLink(t.Context(), &cfg, callTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	pages := 0
	err = link.readPages(testContext(t), newKeyspace(cfg.Prefix).root, 2, func(page) error {
		if pages++; pages == 1 {
			last := w.putService("e")
			if _, err := w.client.Compact(testContext(t), last); err != nil {
				t.Fatal(err)
			}
		}
		return nil
	})
	if !errors.Is(err, rpctypes.ErrCompacted) || pages != 1 {
		t.Errorf("error %v after %d pages, want one of compaction after 1", err, pages)
	}
}

// An etcd that is made anew, or restored from an old copy, has lower revisions.
func TestEtcdMadeAnew(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	for range 20 {
		w.putService("shop")
	}
	_, sink := follow(t, configOf(e, DefaultPrefix), quick)
	sink.awaitReplace(1)
	e.close()
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	e.start(t)
	w = newWriter(t, e, DefaultPrefix)
	w.putService("bag")
	sink.await("the new state", 10*time.Second, func() bool { return sink.replaced >= 2 && len(sink.state) == 1 })
	sink.has("Service/bag")
	sink.awaitRevision(w.putService("more"))
}

// A follower that is closed while etcd is away, or answers nothing, doesn't wait for it.
func TestCloseWithoutEtcd(t *testing.T) {
	e := newEtcd(t.TempDir(), "http")
	f := func(adjust func(*Config)) {
		t.Helper()
		cfg := configOf(e, DefaultPrefix)
		adjust(&cfg)
		follower, _ := follow(t, cfg)
		began := time.Now()
		follower.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("%v: closing took %v", cfg, took)
		}
	}
	f(func(*Config) {})
	f(func(cfg *Config) { cfg.Username, cfg.Password = "root", "secret" })
}

func TestPause(t *testing.T) {
	f := func(failures int, away bool, random float64, want time.Duration) {
		t.Helper()
		if got := pause(failures, away, random); got != want {
			t.Errorf("pause(%d, %v, %v) = %v, want %v", failures, away, random, got, want)
		}
	}
	f(0, false, 0, 50*time.Millisecond)
	f(0, false, 1, 100*time.Millisecond)
	f(3, false, 1, 800*time.Millisecond)
	f(8, false, 0.5, 25600*time.Millisecond*3/4)
	f(1000, false, 1, 30*time.Second)
	f(0, true, 1, 100*time.Millisecond)
	f(1000, true, 0, 250*time.Millisecond)
	f(1000, true, 1, 500*time.Millisecond)
}

// What the watch repeats, since it begins at a revision that is known, isn't told again.
func TestKnownEventsAreSkipped(t *testing.T) {
	sink := newRecorder(t)
	follower, err := NewFollower(Config{Logger: quiet}, sink)
	if err != nil {
		t.Fatal(err)
	}
	event := func(revision int64) *clientv3.Event {
		key := fmt.Sprintf("%s/config/services/s%d", DefaultPrefix, revision)
		return &clientv3.Event{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte(serviceJSON(fmt.Sprintf("s%d", revision))), ModRevision: revision,
		}}
	}
	follower.revision = 5
	follower.apply([]*clientv3.Event{event(4), event(5)})
	sink.has()
	follower.apply([]*clientv3.Event{event(4), event(5), event(6), event(8)})
	sink.has("Service/s6", "Service/s8")
	if follower.revision != 8 || sink.revision != 8 {
		t.Errorf("revision %d, the sink's %d, want 8", follower.revision, sink.revision)
	}
}

func TestAway(t *testing.T) {
	f := func(err error, want bool) {
		t.Helper()
		if got := away((&link{}).explain("ask", err)); got != want {
			t.Errorf("away(%v) = %v", err, got)
		}
	}
	f(context.DeadlineExceeded, true)
	f(status.Error(codes.Unavailable, "connection refused"), true)
	f(rpctypes.ErrNoLeader, true)
	f(rpctypes.ErrAuthFailed, false)
	f(rpctypes.ErrPermissionDenied, false)
	f(rpctypes.ErrCompacted, false)
	f(status.Error(codes.ResourceExhausted, "too large"), false)
	f(errors.New("x"), false)
}

// A watch that its client has resumed after an outage gets no sign of life before somebody writes: calls tell that all is well.
func TestIdleMeshIsHeardAgain(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	r := relayTo(t, e)
	cfg := configOf(e, DefaultPrefix)
	cfg.Endpoints = []string{"http://" + r.address}
	newWriter(t, e, DefaultPrefix).putService("shop")
	f, sink := follow(t, cfg, func(f *Follower) { f.timing.progress, f.timing.silence = 300*time.Millisecond, time.Minute })
	eventually(t, "the watch stands", 20*time.Second, func() bool { return sink.confirmed() > 0 })
	r.cut()
	eventually(t, "etcd is missed", 20*time.Second, func() bool { return !f.Status().Synced })
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "etcd is heard again", 20*time.Second, func() bool { return f.Status().Synced })
}
