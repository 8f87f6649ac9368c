package integration

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// guarded is a mesh whose etcd wants certificates, and lets nobody do more than he must.
type guarded struct {
	*mesh
	authority *authority
	etcd      *etcd
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{mesh: newMesh(t), authority: newAuthority(t, "etcd"), etcd: newEtcd(t)}
	g.authority.issue("server", nil, net.IPv4(127, 0, 0, 1))
	g.etcd.certs, g.mesh.etcd = g.authority.folder, g.etcd.port
	g.etcd.start()
	g.authority.issue("root", nil)
	return g
}

func (g *guarded) endpoint() string { return fmt.Sprintf("https://127.0.0.1:%d", g.etcd.port) }

func (g *guarded) file(name string) string { return g.authority.folder + "/" + name }

// script runs examples/etcd-rbac.sh as root; a password makes users have that one.
func (g *guarded) script(arguments ...string) { g.scriptWith("", arguments...) }

func (g *guarded) scriptWith(password string, arguments ...string) {
	g.t.Helper()
	mustRun(g.t, []string{
		"PASSWORD=" + password, "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=" + g.endpoint(), "ETCDCTL_CACERT=" + g.file("ca.pem"),
		"ETCDCTL_CERT=" + g.file("root.pem"), "ETCDCTL_KEY=" + g.file("root.key"),
	}, "", append([]string{"examples/etcd-rbac.sh"}, arguments...)...)
}

// options are the lines of an ufc block for a user.
func (g *guarded) options(user string) string {
	return fmt.Sprintf("etcd %s\ntls %s %s %s", g.endpoint(), g.file(user+".pem"), g.file(user+".key"), g.file("ca.pem"))
}

// as runs the CLI as a user.
func (g *guarded) as(user, stdin string, arguments ...string) (output string, code int) {
	g.t.Helper()
	command := append([]string{"bin/caddy", "ufc"}, arguments...)
	return run(g.t, time.Minute, g.environment(), stdin, append(command, "--etcd", g.endpoint(),
		"--cert", g.file(user+".pem"), "--key", g.file(user+".key"), "--cacert", g.file("ca.pem"))...)
}

// client is etcd's own client for a user.
func (g *guarded) client(user string) *clientv3.Client {
	g.t.Helper()
	pair, err := tls.LoadX509KeyPair(g.file(user+".pem"), g.file(user+".key"))
	if err != nil {
		g.t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(g.authority.cert)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{g.endpoint()}, TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: trusted},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { client.Close() })
	return client
}

// startBoth starts the agent and the DNS as a user.
func (g *guarded) startBoth(user string) {
	g.t.Helper()
	g.startCaddy(externalEtcd, replace(g.t, "etcd http://127.0.0.1:{$UFC_ETCD_PORT}", g.options(user)))
	g.startCoreDNS(replace(g.t, "etcd http://127.0.0.1:{$UFC_ETCD_PORT:2379}", g.options(user)))
}

// With the roles of examples/etcd-rbac.sh, agents follow the documents and tell their bans, operators write, and nobody
// can do anything else.
func TestRoles(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t)
	for _, user := range []string{host, "alice", "stranger", "rack"} {
		g.authority.issue(user, nil)
	}
	g.script("init")
	g.script("operator", "alice")
	g.script("host", host, host, host, "dns-1")
	g.script("host", "elsewhere")
	g.script("group", "bj-a.r12.", "rack")
	g.script("enable")
	g.script("init") // again, and now as a user
	g.script("host", host, host, host, "dns-1")

	g.startBoth(host)
	one, dead := newBackend(t, "one"), newBackend(t, "dead")
	dead.stop()
	if output, code := g.as("alice", service("shop", "ban: {duration: 1m}", one, dead), "apply", "-f", "-"); code != 0 {
		t.Fatalf("the operator can't apply: %s", output)
	}
	eventually(t, 15*time.Second, func() error { _, err := g.lookupOK("shop"); return err })
	eventually(t, 15*time.Second, func() error { _, err := g.lookup("shop"); return err })

	// The agent bans the dead instance, tells so in etcd, the DNS beside it hears it, and the operator sees it.
	eventually(t, 20*time.Second, func() error {
		g.mustGet("shop", "/")
		return g.bannedAt(g.callback, "shop", dead.address)
	})
	if output, code := g.as("alice", "", "get", "bans"); code != 0 || !strings.Contains(output, dead.address) || !strings.Contains(output, host) {
		t.Errorf("the operator sees of bans: %d %s", code, output)
	}
	if output, code := g.as("alice", "", "ban", "shop", one.address, "--for", "1s"); code != 0 {
		t.Errorf("the operator can't ban: %s", output)
	}
	// Changes are followed by a watch, for which the permission is asked once more.
	if output, code := g.as("alice", documents("late", "", "127.0.0.9:9"), "apply", "-f", "-"); code != 0 {
		t.Fatal(output)
	}
	within(t, 5*time.Second, "a change", func() error { _, err := g.lookup("late"); return err })

	refused := func(user, want string, arguments ...string) {
		t.Helper()
		if output, code := g.as(user, documents("shop", ""), arguments...); code == 0 || !contains(output, want) {
			t.Errorf("%s: caddy ufc %q: exit code %d, want %q in %s", user, arguments, code, want, output)
		}
	}
	refused(host, "permission denied", "apply", "-f", "-")
	refused(host, "permission denied", "delete", "service", "shop")
	refused(host, "permission denied", "ban", "shop", one.address)
	refused("stranger", "permission denied", "get", "services")
	refused("stranger", "permission denied", "apply", "-f", "-")
	g.mayWrite(host)
}

// mayWrite checks key by key who may write what.
func (g *guarded) mayWrite(host string) {
	g.t.Helper()
	f := func(user, key string, may bool) {
		g.t.Helper()
		ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
		defer cancel()
		_, err := g.client(user).Put(ctx, "/ufc/v1/"+key, "{}")
		if may && err != nil || !may && !errors.Is(err, rpctypes.ErrPermissionDenied) {
			g.t.Errorf("%s writes %s: %v", user, key, err)
		}
	}
	f(host, "agents/"+host, true)
	f(host, "agents/dns-1", true)
	f(host, "bans/"+host+"/shop/10.0.0.1:80", true)
	f(host, "bans/elsewhere/shop/10.0.0.1:80", false)
	f(host, "bans/"+host+"x/shop/10.0.0.1:80", false)
	f(host, "agents/elsewhere", false)
	f(host, "agents/"+host+"x", false)
	f(host, "config/bans/shop/10.0.0.1:80", false)
	f(host, "config/instances/shop/10.0.0.1:80", false)
	f(host, "config/topology", false)
	f(host, "x", false)
	f("rack", "bans/bj-a.r12.web-1/shop/10.0.0.1:80", true)
	f("rack", "agents/bj-a.r12.web-1", true)
	f("rack", "bans/bj-a.r13.web-1/shop/10.0.0.1:80", false)
	f("rack", "config/topology", false)
	f("alice", "bans/elsewhere/shop/10.0.0.1:80", false)
	f("alice", "x", false)
	f("stranger", "agents/stranger", false)
}
