package store

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/ufc-mesh/ufc/shared/model"
)

// TestMain stops the etcd that tests share, and then finds what any of them left running.
func TestMain(m *testing.M) {
	code := m.Run()
	if common.server != nil {
		common.close()
		os.RemoveAll(common.dir)
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// etcd is a real server in this process, which can be stopped and started again with its data and its address.
type etcd struct {
	dir    string
	client url.URL // port 0 until it was started once
	peer   url.URL
	change func(*embed.Config) // nil: nothing
	server *embed.Etcd
}

func newEtcd(dir, scheme string) *etcd {
	return &etcd{dir: dir, client: url.URL{Scheme: scheme, Host: "127.0.0.1:0"}, peer: url.URL{Scheme: "http", Host: "127.0.0.1:0"}}
}

// open starts the server and waits until it leads.
func (e *etcd) open() error {
	cfg := embed.NewConfig()
	cfg.Dir = e.dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{e.client}, []url.URL{e.client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{e.peer}, []url.URL{e.peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.BcryptCost = 4
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if e.change != nil {
		e.change(cfg)
	}
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(20 * time.Second):
		server.Close()
		return fmt.Errorf("etcd isn't ready after 20 s")
	}
	e.server = server
	e.client.Host = server.Clients[0].Addr().String()
	return nil
}

func (e *etcd) close() {
	e.server.Close()
	e.server = nil
}

func (e *etcd) start(t testing.TB) {
	t.Helper()
	if err := e.open(); err != nil {
		t.Fatalf("start etcd: %v", err)
	}
}

// startEtcd starts a server of the test's own.
func startEtcd(t testing.TB) *etcd {
	t.Helper()
	e := newEtcd(t.TempDir(), "http")
	e.start(t)
	t.Cleanup(func() {
		if e.server != nil {
			e.close()
		}
	})
	return e
}

// common is the server of all tests that don't stop it; each has a prefix of its own.
var (
	common     = newEtcd("", "http")
	commonOnce sync.Once
)

// commonConfig returns a configuration with the common server and a new prefix.
func commonConfig(t testing.TB) Config {
	t.Helper()
	commonOnce.Do(func() {
		dir, err := os.MkdirTemp("", "ufc-store-")
		if err != nil {
			t.Fatal(err)
		}
		common.dir = dir
		common.start(t)
	})
	prefix := "/" + strings.NewReplacer("/", "_", "#", "_").Replace(t.Name())
	return configOf(common, prefix)
}

func configOf(e *etcd, prefix string) Config {
	return Config{Endpoints: []string{e.client.String()}, Prefix: prefix, Logger: slog.New(slog.DiscardHandler)}
}

// writer writes raw keys below PREFIX/config/, as anybody may.
type writer struct {
	t      testing.TB
	root   string
	client *clientv3.Client
}

func newWriter(t testing.TB, e *etcd, prefix string) *writer {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.client.String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return &writer{t, prefix + "/config/", client}
}

func (w *writer) put(key, value string, options ...clientv3.OpOption) int64 {
	w.t.Helper()
	answer, err := w.client.Put(testContext(w.t), w.root+key, value, options...)
	if err != nil {
		w.t.Fatalf("put %s: %v", key, err)
	}
	return answer.Header.Revision
}

func (w *writer) delete(key string) int64 {
	w.t.Helper()
	answer, err := w.client.Delete(testContext(w.t), w.root+key)
	if err != nil {
		w.t.Fatalf("delete %s: %v", key, err)
	}
	return answer.Header.Revision
}

// get returns a value and whether it is under a lease; nil: there is none.
func (w *writer) get(key string) (value []byte, leased bool) {
	w.t.Helper()
	answer, err := w.client.Get(testContext(w.t), w.root+key)
	if err != nil {
		w.t.Fatalf("get %s: %v", key, err)
	}
	if len(answer.Kvs) == 0 {
		return nil, false
	}
	return answer.Kvs[0].Value, answer.Kvs[0].Lease != 0
}

func (w *writer) putService(name string) int64 { return w.put("services/"+name, serviceJSON(name)) }

func (w *writer) putInstance(service, address string) int64 {
	return w.put("instances/"+service+"/"+address, instanceJSON(address))
}

func serviceJSON(name string) string { return fmt.Sprintf(`{"kind":"Service","name":%q}`, name) }

func instanceJSON(address string) string { return fmt.Sprintf(`{"address":%q,"idc":"bj-a"}`, address) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// recorder is a Sink that keeps what it was told, as the catalog does, and a Source. It checks the contract of the calls.
type recorder struct {
	t testing.TB

	mu       sync.Mutex
	busy     bool
	changed  chan struct{} // closed at the next call
	state    map[string]model.Record
	refused  map[string]error
	revision int64
	replaced int // calls of Replace
	applied  int
	confirms int
	smallest int // the fewest records there ever were after the first Replace
	last     []model.Record
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, changed: make(chan struct{}), state: map[string]model.Record{}, refused: map[string]error{}}
}

func recordKey(r *model.Record) string {
	switch r.Kind {
	case model.KindTopology:
		return "Topology"
	case model.KindInstances:
		return "Instances/" + r.Name + "/" + r.Address
	default:
		return string(r.Kind) + "/" + r.Name
	}
}

func (r *recorder) call(revision int64, records []model.Record, f func()) {
	r.mu.Lock()
	if r.busy {
		r.t.Error("the sink was called from two goroutines at a time")
	}
	r.busy = true
	f()
	for i := range records {
		record := &records[i]
		key := recordKey(record)
		switch {
		case record.Err != nil:
			r.refused[key] = record.Err
			continue
		case record.Deleted:
			delete(r.state, key)
		default:
			r.state[key] = *record
		}
		delete(r.refused, key)
	}
	r.revision, r.last = revision, records
	r.smallest = min(r.smallest, len(r.state))
	close(r.changed)
	r.changed = make(chan struct{})
	r.busy = false
	r.mu.Unlock()
}

func (r *recorder) Replace(revision int64, records []model.Record) {
	r.call(revision, records, func() {
		listed := map[string]bool{}
		for i := range records {
			listed[recordKey(&records[i])] = true
		}
		for key := range r.state {
			if !listed[key] {
				delete(r.state, key)
			}
		}
		clear(r.refused)
		if r.replaced++; r.replaced == 1 {
			r.smallest = len(records)
		}
	})
}

func (r *recorder) Apply(revision int64, records []model.Record) {
	r.call(revision, records, func() {
		if revision <= r.revision || len(records) == 0 {
			r.t.Errorf("Apply at revision %d of %d records, after %d", revision, len(records), r.revision)
		}
		r.applied++
	})
}

func (r *recorder) Confirm(revision int64) {
	r.call(revision, nil, func() {
		if revision < r.revision {
			r.t.Errorf("Confirm at revision %d, after %d", revision, r.revision)
		}
		r.confirms++
	})
}

func (r *recorder) Records(yield func(model.Record) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.state {
		if !yield(record) {
			return
		}
	}
}

// await waits until the condition holds, which is looked at after each call.
func (r *recorder) await(what string, limit time.Duration, condition func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		met, changed := condition(), r.changed
		r.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			r.mu.Lock()
			defer r.mu.Unlock()
			r.t.Fatalf("%s: not after %v; revision %d, %d records, refused %v", what, limit, r.revision, len(r.state), r.refused)
		}
	}
}

// awaitRevision waits until everything up to the revision was told.
func (r *recorder) awaitRevision(revision int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("revision %d", revision), 10*time.Second, func() bool { return r.revision >= revision })
}

// awaitReplace waits for the first Replace or a further one.
func (r *recorder) awaitReplace(calls int) {
	r.t.Helper()
	r.await("the list", 10*time.Second, func() bool { return r.replaced >= calls })
}

func (r *recorder) has(keys ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(keys) != len(r.state) {
		r.t.Errorf("%d records, want %d", len(r.state), len(keys))
	}
	for _, key := range keys {
		if _, ok := r.state[key]; !ok {
			r.t.Errorf("no record %q", key)
		}
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, limit time.Duration, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not after %v", what, limit)
		}
	}
}

// follow starts a follower that tells a recorder, and stops it with the test.
func follow(t testing.TB, cfg Config, adjust ...func(*Follower)) (*Follower, *recorder) {
	t.Helper()
	sink := newRecorder(t)
	f, err := NewFollower(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range adjust {
		change(f)
	}
	f.Start()
	t.Cleanup(f.Close)
	return f, sink
}

// relay stands between a follower and an etcd, and can be cut.
type relay struct {
	target string
	listen string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	mute     bool // connections stand, but nothing passes
	wg       sync.WaitGroup
}

func newRelay(t testing.TB, e *etcd) *relay {
	t.Helper()
	r := &relay{target: e.client.Host, listen: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	r.open(t)
	t.Cleanup(r.cut)
	return r
}

func (r *relay) endpoint() string { return "http://" + r.listen }

func (r *relay) open(t testing.TB) {
	t.Helper()
	listener, err := net.Listen("tcp", r.listen)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener, r.listen = listener, listener.Addr().String()
	r.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(conn) })
		}
	})
}

func (r *relay) serve(client net.Conn) {
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	r.conns[client], r.conns[server] = true, true
	r.mu.Unlock()
	r.wg.Go(func() { r.copy(client, server) })
	r.copy(server, client)
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.mu.Lock()
		mute := r.mute
		r.mu.Unlock()
		if mute && err == nil {
			continue
		}
		if _, werr := to.Write(buffer[:n]); werr != nil || err != nil {
			if err != nil && err != io.EOF {
				return
			}
			return
		}
	}
}

// cut closes everything; connections are refused until open.
func (r *relay) cut() {
	r.mu.Lock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for conn := range r.conns {
		conn.Close()
	}
	clear(r.conns)
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *relay) silence(mute bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = mute
}
