package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/protect"
)

// protected is a follower in front of a guard and a catalog, as an agent has them.
type protected struct {
	*Follower
	guard *protect.Guard
	views *catalog.Catalog
}

func followProtected(t *testing.T, cfg Config, share float64) protected {
	t.Helper()
	views := catalog.New(quiet)
	guard := protect.New(views, slog.New(slog.DiscardHandler))
	guard.SetShare(share)
	f, err := NewFollower(cfg, guard)
	if err != nil {
		t.Fatal(err)
	}
	quick(f)
	_ = f.LoadSnapshot() // there may be none
	f.Start()
	t.Cleanup(f.Close)
	return protected{f, guard, views}
}

func (p protected) instances(t *testing.T, service string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d instances of %s", want, service), 20*time.Second, func() bool {
		view := p.views.Service(service)
		return view == nil && want == 0 || view != nil && len(view.Instances) == want
	})
}

// An etcd that comes back empty empties an agent without protect, and none with it, whether it was running or starts
// anew; until somebody confirms, with the only key that is there.
func TestEtcdComesBackEmpty(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, DefaultPrefix)
	for n := range 10 {
		w.putInstance("shop", fmt.Sprintf("10.0.0.%d:80", n))
	}
	w.put("services/shop", `{"kind":"Service","name":"shop","level":1}`)
	w.put("topology", `{"kind":"Topology","idcs":{"bj-a":{"logical":"north"}}}`)
	bare, guarded := followProtected(t, cfg, 0), cfg
	guarded.Snapshot = filepath.Join(t.TempDir(), "agent.snapshot")
	agent := followProtected(t, guarded, 0.5)
	bare.instances(t, "shop", 10)
	agent.instances(t, "shop", 10)

	e.close()
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	e.start(t)
	bare.instances(t, "shop", 0)
	eventually(t, "the agent to have heard", 20*time.Second, func() bool { return agent.guard.Status().Instances == 10 })
	held := func() {
		t.Helper()
		view := agent.views.Service("shop")
		if view == nil || len(view.Instances) != 10 || view.Service.Level != 1 || agent.views.Topology().Empty() {
			t.Fatalf("in force are %+v", view)
		}
	}
	held()
	agent.Close()
	agent = followProtected(t, guarded, 0.5) // from its snapshot
	held()
	eventually(t, "the agent to have heard", 20*time.Second, func() bool { return agent.Status().Synced })
	held()
	w = newWriter(t, e, DefaultPrefix)
	w.putInstance("bag", "10.0.0.1:80") // which goes through
	agent.instances(t, "bag", 1)
	w.delete("instances/bag/10.0.0.1:80")
	eventually(t, "the removal of bag", 20*time.Second, func() bool { return agent.views.Revision() >= 3 })
	held()

	client := openClient(t, cfg)
	remaining, err := client.Remaining(testContext(t), "")
	if err != nil || remaining.Instances != 0 || remaining.Services != 0 {
		t.Fatalf("%+v, %v", remaining, err)
	}
	if err := client.Confirm(testContext(t), "", "me", remaining); err != nil {
		t.Fatal(err)
	}
	agent.instances(t, "shop", 0)
	if status := agent.guard.Status(); status.Instances+status.Services != 0 || status.Topology || !agent.views.Topology().Empty() {
		t.Errorf("held are %+v", status)
	}

	// An agent with an old snapshot finds nothing but the confirmation.
	agent.Close()
	old := sampleAt(1, DefaultPrefix, "instances/shop/10.0.0.1:80", instanceJSON("10.0.0.1:80"), "instances/shop/10.0.0.2:80", instanceJSON("10.0.0.2:80"))
	if err := os.WriteFile(guarded.Snapshot, old, 0o600); err != nil {
		t.Fatal(err)
	}
	agent = followProtected(t, guarded, 0.5)
	if agent.views.Service("shop") == nil {
		t.Fatal("the snapshot wasn't loaded")
	}
	agent.instances(t, "shop", 0)
}

// Etcd dies and comes back while somebody writes all the time.
func TestEtcdDiesUnderLoad(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	_, sink := follow(t, configOf(e, DefaultPrefix), quick)
	sink.awaitReplace(1)
	w := newWriter(t, e, DefaultPrefix)
	w.putService("shop")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			address := fmt.Sprintf("10.0.%d.%d:80", n/250%250, n%250)
			_, _ = w.client.Put(ctx, w.root+"instances/shop/"+address, instanceJSON(address)) // many are refused
			if n%3 == 0 {
				_, _ = w.client.Delete(ctx, w.root+"instances/shop/"+address)
			}
			cancel()
		}
	}()
	for range 3 {
		before := e.server.Server.KV().Rev()
		eventually(t, "some writes", 20*time.Second, func() bool { return e.server.Server.KV().Rev() > before+50 })
		e.close()
		e.start(t)
	}
	close(stop)
	<-done
	sink.awaitRevision(w.putService("last"))
	answer, err := w.client.Get(testContext(t), w.root, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(sink.state) != len(answer.Kvs) || sink.replaced != 1 {
		t.Errorf("%d records after %d lists, etcd has %d", len(sink.state), sink.replaced, len(answer.Kvs))
	}
	for _, kv := range answer.Kvs {
		record := newDecoder(newKeyspace(DefaultPrefix), newWarnings(quiet)).put(kv.Key, kv.Value, kv.ModRevision)
		if got := sink.state[recordKey(&record)]; got.Revision != kv.ModRevision {
			t.Errorf("%s is of revision %d, want %d", kv.Key, got.Revision, kv.ModRevision)
		}
	}
}

// Over a line that is far too slow, everything comes nevertheless, and nothing is given up for being late.
func TestSlowReads(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	owner := strings.Repeat("x", 10<<10)
	for n := range 40 {
		name := fmt.Sprintf("s%d", n)
		w.put("services/"+name, fmt.Sprintf(`{"kind":"Service","name":%q,"owner":%q}`, name, owner))
	}
	r := relayTo(t, common)
	r.mu.Lock()
	r.pace = 20 * time.Millisecond // 200 KB/s
	r.mu.Unlock()
	cfg.Endpoints = []string{"http://" + r.address}
	f, sink := follow(t, cfg, func(f *Follower) { f.timing.page = 5 })
	began := time.Now()
	sink.awaitReplace(1)
	took := time.Since(began)
	if len(sink.last) != 40 || took < time.Second {
		t.Errorf("%d records after %v", len(sink.last), took)
	}
	for n := range 20 {
		sink.awaitRevision(w.put("services/s0", fmt.Sprintf(`{"kind":"Service","name":"s0","owner":"%d%s"}`, n, owner)))
	}
	if status := f.Status(); sink.replaced != 1 || status.LastError != "" || !status.Synced {
		t.Errorf("%d lists, %+v", sink.replaced, status)
	}
}

// A token that has run out costs another sign-in, and nothing else: the watch goes on, calls are made again.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("geheim-geheim-geheim-geheim-geheim"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(kind string, change func(*embed.Config)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := newEtcd(t.TempDir(), "http")
			e.change = change
			e.start(t)
			t.Cleanup(e.close)
			enableUsers(t, newWriter(t, e, DefaultPrefix).client, DefaultPrefix, "agent", "geheim-1")
			cfg := configOf(e, DefaultPrefix)
			cfg.Username, cfg.Password = "agent", "geheim-1"
			follower, sink := follow(t, cfg, quick)
			sink.awaitReplace(1)
			client := openClient(t, cfg)
			for n := range 3 {
				time.Sleep(2500 * time.Millisecond) // over the token's end
				e.front.cut()                       // the watch must be made anew
				if err := e.front.open(); err != nil {
					t.Fatal(err)
				}
				apply(t, client, documents(t, serviceJSON(fmt.Sprintf("s%d", n))))
				sink.await("the change", 20*time.Second, func() bool { return len(sink.state) == n+1 })
			}
			eventually(t, "all well", 20*time.Second, func() bool { return follower.Status().LastError == "" })
			if sink.replaced != 1 {
				t.Errorf("%d lists, want only the first", sink.replaced)
			}
		})
	}
	f("simple", func(cfg *embed.Config) { cfg.AuthTokenTTL = 1 })
	f("jwt", func(cfg *embed.Config) { cfg.AuthToken = "jwt,sign-method=HS256,priv-key=" + secret + ",ttl=2s" })
}

// The authority is renewed: etcd's certificate, the agent's, and then the file by which the agent trusts etcd.
func TestAuthorityIsRenewed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	install := func(from *authority, names ...string) { // as NAME, from NAME of the authority
		t.Helper()
		for i := 0; i < len(names); i += 2 {
			data, err := os.ReadFile(from.file(names[i+1]))
			if err == nil {
				err = os.WriteFile(file(names[i]), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	renew := func(from *authority) {
		t.Helper()
		from.sign(t, "server", serverCertificate())
		from.sign(t, "client", clientCertificate())
		install(from, "etcd.pem", "server.pem", "etcd.key", "server.key", "agents.pem", "ca.pem", "agent.pem", "client.pem", "agent.key", "client.key")
	}
	old, fresh := newAuthority(t), newAuthority(t)
	renew(old)
	install(old, "ca.pem", "ca.pem")
	e := newEtcd(t.TempDir(), "https")
	e.change = func(cfg *embed.Config) {
		cfg.ClientTLSInfo = transport.TLSInfo{
			CertFile: file("etcd.pem"), KeyFile: file("etcd.key"), TrustedCAFile: file("agents.pem"), ClientCertAuth: true,
		}
	}
	e.start(t)
	t.Cleanup(e.close)
	cfg := configOf(e, DefaultPrefix)
	cfg.CA, cfg.Cert, cfg.Key = file("ca.pem"), file("agent.pem"), file("agent.key")
	apply(t, openClient(t, cfg), documents(t, serviceJSON("shop")))
	f, sink := follow(t, cfg, quick)
	sink.awaitReplace(1)

	renew(fresh)
	e.close()
	e.start(t)
	says := func(text string) {
		t.Helper()
		eventually(t, "an error with "+text, 20*time.Second, func() bool { return strings.Contains(f.Status().LastError, text) })
	}
	says("certificate signed by unknown authority")
	if err := os.WriteFile(cfg.CA, []byte("half of a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	says("holds no PEM certificate")
	install(fresh, "ca.pem", "ca.pem")
	eventually(t, "etcd is heard", 20*time.Second, func() bool { return f.Status().LastError == "" })
	apply(t, openClient(t, cfg), documents(t, serviceJSON("bag")))
	sink.await("the change", 20*time.Second, func() bool { return len(sink.state) == 2 })

	// Half of a file is no reason to be without etcd for who has read the whole one.
	if err := os.WriteFile(cfg.CA, []byte("half of a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.front.cut()
	if err := e.front.open(); err != nil {
		t.Fatal(err)
	}
	sink.await("a sign of life", 20*time.Second, func() bool { return f.Status().LastError == "" })
	install(fresh, "ca.pem", "ca.pem")
	apply(t, openClient(t, cfg), documents(t, serviceJSON("box")))
	sink.await("the change", 20*time.Second, func() bool { return len(sink.state) == 3 })
	if sink.replaced != 1 {
		t.Errorf("%d lists, want only the first", sink.replaced)
	}
}

// A role that may only read what is in config/ is enough to follow.
func TestReadOnlyRole(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	admin := newWriter(t, e, DefaultPrefix)
	ctx := testContext(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.client.RoleAdd(ctx, "reader"))
	must(admin.client.RoleGrantPermission(ctx, "reader", DefaultPrefix+"/config/", DefaultPrefix+"/config0", clientv3.PermissionType(clientv3.PermRead)))
	for _, user := range []string{"root", "reader"} {
		must(admin.client.UserAdd(ctx, user, "geheim"))
		must(admin.client.UserGrantRole(ctx, user, user))
	}
	must(admin.client.AuthEnable(ctx))
	cfg := configOf(e, DefaultPrefix)
	cfg.Username, cfg.Password = "root", "geheim"
	root := openClient(t, cfg)
	var log logText
	cfg.Username, cfg.Logger = "reader", log.logger()

	f, sink := follow(t, cfg, quick)
	sink.awaitReplace(1)
	board, err := NewBoard(f, "host", "agent", (&boardRig{t: t, bans: map[string]string{}}).took)
	if err != nil {
		t.Fatal(err)
	}
	board.Start()
	defer board.Close()
	board.Publish("shop", instance(1), banned("never told"))
	eventually(t, "two lines that say so", 20*time.Second, func() bool { return strings.Count(log.String(), "permission denied") >= 2 })
	for n := range 20 {
		apply(t, root, documents(t, serviceJSON(fmt.Sprintf("s%d", n))))
		sink.await("the change", 20*time.Second, func() bool { return len(sink.state) == n+1 })
		time.Sleep(50 * time.Millisecond)
	}
	if got := strings.Count(log.String(), "permission denied"); got != 2 { // of what is written, and of what is heard
		t.Errorf("%d lines:\n%s", got, log.String())
	}
	if status := f.Status(); status.LastError != "" || sink.replaced != 1 {
		t.Errorf("%d lists, %+v", sink.replaced, status)
	}
}
