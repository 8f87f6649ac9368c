package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// TestMain stops the etcd that tests share, and then finds what any of them left running.
func TestMain(m *testing.M) {
	code := m.Run()
	if common != nil {
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
	scheme string
	front  *relay // at its address
	change func(*embed.Config)
	server *embed.Etcd
}

func newEtcd(dir, scheme string) *etcd { return &etcd{dir: dir, scheme: scheme, front: newRelay()} }

func (e *etcd) endpoint() string { return e.scheme + "://" + e.front.address }

// freeAddress returns an address to listen at, more than once. It is below the ports that the system gives to outgoing
// connections, since one of those might take it in between, or even connect to itself.
func freeAddress() string {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	panic("no free port")
}

// open starts the server and waits until it leads.
func (e *etcd) open() error {
	cfg := embed.NewConfig()
	cfg.Dir = e.dir
	client, peer := url.URL{Scheme: e.scheme, Host: "127.0.0.1:0"}, url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
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
	e.front.target = server.Clients[0].Addr().String()
	return e.front.open()
}

// close stops the server as a crash does: its clients' connections break, and it doesn't wait for them to go.
func (e *etcd) close() {
	e.front.cut()
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
	common     *etcd
	commonOnce sync.Once
	commonUses atomic.Int64
)

// commonConfig returns a configuration with the common server and a new prefix.
func commonConfig(t testing.TB) Config {
	t.Helper()
	commonOnce.Do(func() {
		dir, err := os.MkdirTemp("", "ufc-store-") //nolint:usetesting // it outlives the test
		if err != nil {
			t.Fatal(err)
		}
		common = newEtcd(dir, "http")
		common.start(t)
	})
	prefix := fmt.Sprintf("/%s-%d", strings.NewReplacer("/", "_", "#", "_").Replace(t.Name()), commonUses.Add(1))
	return configOf(common, prefix)
}

func configOf(e *etcd, prefix string) Config {
	return Config{Endpoints: []string{e.endpoint()}, Prefix: prefix, Logger: quiet}
}

// writer writes raw keys below PREFIX/config/, as anybody may.
type writer struct {
	t      testing.TB
	root   string
	client *clientv3.Client
}

func newWriter(t testing.TB, e *etcd, prefix string) *writer {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.endpoint()}, Logger: zap.NewNop()})
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

var quiet = slog.New(slog.DiscardHandler)
