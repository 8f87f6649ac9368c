package embeddedetcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// freeAddress returns an address that was free a moment ago. Its port is under those that systems give to clients, so
// that no connection takes it meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000)))
		if err == nil {
			listener.Close()
			return listener.Addr().String()
		}
	}
}

func provision(t *testing.T, dir, address string) *Server {
	t.Helper()
	server := &Server{Dir: dir, Address: address}
	if err := server.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	return server
}

func run(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
}

func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, server *Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestDataOutliveTheServerAndItsAddress(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "if missing")
	server := provision(t, dir, freeAddress(t))
	begun := time.Now()
	run(t, server)
	t.Logf("first start: %s", time.Since(begun))
	if _, err := connect(t, server).Put(within(t, 5*time.Second), "k", "v"); err != nil {
		t.Fatal(err)
	}
	begun = time.Now()
	stop(t, server)
	t.Logf("stop: %s", time.Since(begun))

	server = provision(t, dir, freeAddress(t))
	begun = time.Now()
	run(t, server)
	t.Logf("second start: %s", time.Since(begun))
	got, err := connect(t, server).Get(within(t, 5*time.Second), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Fatalf("after a restart at another address: %v, %v", got, err)
	}
}

func TestStopDoesNotWaitForWatches(t *testing.T) {
	server := provision(t, t.TempDir(), freeAddress(t))
	run(t, server)
	watch := connect(t, server).Watch(within(t, time.Minute), "k", clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("watch: %v", created)
	}
	begun := time.Now()
	stop(t, server)
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("stopping with a watch open took %s", took)
	}
}

func TestConfigurationsShareOneServer(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	before := provision(t, dir, address)
	run(t, before)
	client := connect(t, before)
	if _, err := client.Put(within(t, 5*time.Second), "k", "v"); err != nil {
		t.Fatal(err)
	}
	after := provision(t, dir, address)
	run(t, after)
	stop(t, before)
	if _, err := client.Get(within(t, 5*time.Second), "k"); err != nil {
		t.Errorf("the server is gone with its first configuration: %v", err)
	}

	moved := provision(t, dir, freeAddress(t))
	err := moved.Open()
	if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "restart") {
		t.Errorf("another address at a reload: %v", err)
	}
	stop(t, moved)
	if _, err := client.Get(within(t, 5*time.Second), "k"); err != nil {
		t.Errorf("a refused configuration took the server along: %v", err)
	}
	stop(t, after)
	if references, running := servers.References(dir); running {
		t.Errorf("%d references are left", references)
	}
}

func TestStartRefuses(t *testing.T) {
	f := func(name string, server *Server, wants ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			err := server.Open()
			if err == nil {
				stop(t, server)
				t.Fatal("it started")
			}
			for _, want := range wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q doesn't say %q", err, want)
				}
			}
			if took := time.Since(begun); took > readyTimeout/2 {
				t.Errorf("refusing took %s", took)
			}
			if _, left := servers.References(server.Dir); left {
				t.Error("the failed server is still in the pool")
			}
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	dir := t.TempDir()
	f("address taken", provision(t, dir, taken), taken, "taken", "etcd embedded "+dir+" ADDRESS")

	used := provision(t, t.TempDir(), freeAddress(t))
	other, err := start(used.Dir, used.address) // as another process would: not by the pool
	if err != nil {
		t.Fatal(err)
	}
	f("directory taken", provision(t, used.Dir, freeAddress(t)), used.Dir, "in use by another etcd")
	if err := other.Destruct(); err != nil {
		t.Fatal(err)
	}

	broken := t.TempDir()
	if err := os.MkdirAll(filepath.Join(broken, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "member", "snap", "db"), []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	f("directory broken", provision(t, broken, freeAddress(t)), broken, "no usable etcd data")

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f("directory is a file", provision(t, file, freeAddress(t)), file, "making the data directory")
}

func TestProvisionTouchesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	server := provision(t, dir, "")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory was made by Provision: %v", err)
	}
	if got := server.Endpoint(); got != "http://127.0.0.1:2379" {
		t.Errorf("default endpoint: %s", got)
	}
	stop(t, server) // without a start
}

func TestAddress(t *testing.T) {
	f := func(address, endpoint string) {
		t.Helper()
		server := &Server{Dir: "x", Address: address}
		err := server.Provision(caddy.Context{})
		if endpoint == "" {
			if err == nil || !strings.Contains(err.Error(), address) {
				t.Errorf("%q: %v, %v", address, server.address, err)
			}
			return
		}
		if err != nil || server.Endpoint() != endpoint {
			t.Errorf("%q: endpoint %v, %v", address, server.Endpoint(), err)
		}
	}
	f("127.0.0.2:12379", "http://127.0.0.2:12379")
	f("localhost:12379", "http://127.0.0.1:12379")
	f("0.0.0.0:2379", "http://127.0.0.1:2379")
	f("[::]:2379", "http://[::1]:2379")
	f("127.0.0.1", "")
	f("127.0.0.1:0", "")
	f("127.0.0.1:65536", "")
	f("example.test:2379", "")
	f("http://127.0.0.1:2379", "")
}

func TestPlaceholders(t *testing.T) {
	t.Setenv("UFC_TEST_DIR", t.TempDir())
	t.Setenv("UFC_TEST_PORT", "1234")
	server := provision(t, "{env.UFC_TEST_DIR}/etcd", "127.0.0.1:{env.UFC_TEST_PORT}")
	if want := filepath.Join(os.Getenv("UFC_TEST_DIR"), "etcd"); server.Dir != want {
		t.Errorf("dir %q, not %q", server.Dir, want)
	}
	if want := "http://127.0.0.1:1234"; server.Endpoint() != want {
		t.Errorf("endpoint %q, not %q", server.Endpoint(), want)
	}
	for _, dir := range []string{"", "{env.UFC_TEST_UNSET}", "{no.such.placeholder}"} {
		if err := (&Server{Dir: dir}).Provision(caddy.Context{}); err == nil {
			t.Errorf("dir %q was accepted", dir)
		}
	}
}

// TestIsNoApp guards against the names of methods by which Caddy would start the server itself.
func TestIsNoApp(t *testing.T) {
	if _, ok := any(new(Server)).(caddy.App); ok {
		t.Error("Caddy takes the module for an app")
	}
}
