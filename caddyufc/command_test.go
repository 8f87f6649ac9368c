package caddyufc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
)

// mesh runs commands on one prefix of the tests' etcd.
type mesh struct {
	*testing.T
	prefix string
}

func (m mesh) run(stdin string, args ...string) (stdout, stderr string, err error) {
	m.Helper()
	return cli(m.T, stdin, append(args, "--etcd", etcdEndpoint, "--prefix", m.prefix)...)
}

// ok runs a command that must succeed, and returns what it prints.
func (m mesh) ok(stdin string, args ...string) string {
	m.Helper()
	stdout, stderr, err := m.run(stdin, args...)
	if err != nil || stderr != "" {
		m.Fatalf("%v: %v\n%s", args, err, stderr)
	}
	return stdout
}

// fails runs a command that must fail, and returns what it writes to the standard error.
func (m mesh) fails(stdin string, args ...string) string {
	m.Helper()
	stdout, stderr, err := m.run(stdin, args...)
	if err == nil {
		m.Fatalf("%v succeeded: %s", args, stdout)
	}
	return stderr
}

// put writes a key as something else than this program might, under a lease if wanted.
func (m mesh) put(key, value string, leased bool) {
	m.Helper()
	m.putKey("/config/"+key, value, leased)
}

// putKey is put for any key below the prefix.
func (m mesh) putKey(key, value string, leased bool) {
	m.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdEndpoint}, Logger: zap.NewNop()})
	if err != nil {
		m.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(m.Context(), timeLimit)
	defer cancel()
	var options []clientv3.OpOption
	if leased {
		lease, err := client.Grant(ctx, 60)
		if err != nil {
			m.Fatal(err)
		}
		options = append(options, clientv3.WithLease(lease.ID))
	}
	if _, err := client.Put(ctx, m.prefix+key, value, options...); err != nil {
		m.Fatal(err)
	}
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got\n%s\nnot\n%s", got, want)
	}
}

const documents = `kind: Topology
idcs: {bj-a: {logical: north}, gz-a: {logical: south}}
routes:
  north: [{to: north, weight: 100}]
  south: [{to: south, weight: 90}, {to: north, weight: 10}]
drained: [gz-a]
---
kind: Service
name: shop-web
owner: "on"                # text, although it looks like a switch
level: 2
---
kind: Service
name: redis
protocol: tcp
---
kind: Instances
service: shop-web
instances:
  - {address: "10.0.0.2:8080", idc: bj-a, weight: 50, labels: {version: v2, zone: "1"}}
  - {address: "10.0.0.1:8080", state: drain}
`

func TestApply(t *testing.T) {
	m := mesh{t, newPrefix()}
	same(t, m.ok(documents, "apply", "-f", "-", "--dry-run"), `create    topology
create    service  shop-web
create    service  redis
create    instance shop-web 10.0.0.1:8080
create    instance shop-web 10.0.0.2:8080
5 created, 0 updated, 0 deleted, 0 unchanged; nothing was written: dry run
`)
	same(t, m.ok("", "get", "services"), "NAME  PROTOCOL  LEVEL  WORKLOAD  BALANCE  OWNER  REVISION\n")
	if got := m.ok(documents, "apply", "-f", "-"); !strings.HasSuffix(got, "\n5 created, 0 updated, 0 deleted, 0 unchanged\n") {
		t.Error(got)
	}
	m.put("instances/shop-web/10.0.0.9:8080", `{"address": "10.0.0.9:8080"}`, true)
	changed := strings.NewReplacer("level: 2", "level: 1", "weight: 50", "weight: 60", "10.0.0.1:8080", "10.0.0.3:8080").Replace(documents)
	same(t, m.ok(changed, "apply", "-f", "-"), `unchanged topology
update    service  shop-web
unchanged service  redis
delete    instance shop-web 10.0.0.1:8080
update    instance shop-web 10.0.0.2:8080
create    instance shop-web 10.0.0.3:8080
unchanged instance shop-web 10.0.0.9:8080 (under a lease, left alone)
1 created, 2 updated, 1 deleted, 3 unchanged
`)
}

func TestApplyReadsFilesAndDirectories(t *testing.T) {
	m, dir := mesh{t, newPrefix()}, t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("b.yaml", "kind: Service\nname: b\n")
	write("a.json", `{"kind": "Service", "name": "a"}`)
	write("c.yml", "kind: Service\nname: c\n")
	write("README.md", "no document")
	write("below/d.yaml", "kind: Service\nname: d\n")
	one := write("single/one.txt", "kind: Service\nname: one\n")
	if got := m.ok("", "apply", "-f", dir, "-f", one); got != "create    service  a\ncreate    service  b\ncreate    service  c\n"+
		"create    service  one\n4 created, 0 updated, 0 deleted, 0 unchanged\n" {
		t.Error(got)
	}
	same(t, m.ok("kind: Topology\n", "validate", "-f", "-", "-f", dir), "4 documents valid\n")

	broken := write("broken/1.yaml", "kind: Service\nname: x\nlevel: 9\nprotocol: udp\n---\nkind: Service\nname: X\n")
	other := write("broken/2.yaml", "kind: Service\nname: y\nlevels: 1\n")
	for _, command := range []string{"apply", "validate"} {
		lines := strings.Split(strings.TrimSpace(m.fails("", command, "-f", filepath.Dir(broken), "-f", dir)), "\n")
		starts := []string{broken + ":3: ", broken + ":4: ", broken + ":7: ", other + ":3: "}
		if len(lines) != len(starts) {
			t.Fatalf("%s: %q", command, lines)
		}
		for i, start := range starts {
			if !strings.HasPrefix(lines[i], start) {
				t.Errorf("%s: line %q doesn't begin with %q", command, lines[i], start)
			}
		}
	}
	copied := write("copy/a.yaml", "kind: Service\nname: a\n")
	if got := m.fails("", "apply", "-f", dir, "-f", copied); !strings.HasPrefix(got, copied+":1: ") || !strings.Contains(got, "given twice") {
		t.Error(got)
	}
	if got := m.ok("", "get", "services"); strings.Contains(got, "x") || strings.Count(got, "\n") != 5 {
		t.Errorf("something of the refused documents was written:\n%s", got)
	}
	f := func(want string, args ...string) {
		t.Helper()
		if got := m.fails("", args...); !strings.Contains(got, want) {
			t.Errorf("%v: %q without %q", args, got, want)
		}
	}
	f("no such file", "apply", "-f", filepath.Join(dir, "missing.yaml"))
	f("no *.yaml, *.yml or *.json file", "apply", "-f", filepath.Dir(one))
	f("no document found", "apply", "-f", "-")
	f("only once", "apply", "-f", "-", "-f", "-")
	f(`required flag(s) "file"`, "apply")
	f("unknown command", "apply", "extra", "-f", one)
	f("unknown flag: --dryrun", "apply", "-f", one, "--dryrun")
}

func TestGet(t *testing.T) {
	m := mesh{t, newPrefix()}
	m.ok(documents, "apply", "-f", "-")
	m.put("instances/redis/10.0.0.9:6379", `{"address": "10.0.0.9:6379"}`, true)
	columns := func(table string, without int) (rows string) {
		for line := range strings.Lines(table) { // the revision, at the end, is chance
			fields := strings.Fields(line)
			rows += strings.Join(fields[:len(fields)-without], " ") + "\n"
		}
		return rows
	}
	same(t, columns(m.ok("", "get", "SERVICES"), 1), `NAME PROTOCOL LEVEL WORKLOAD BALANCE OWNER
redis tcp 3 online round_robin -
shop-web http 2 online round_robin on
`)
	same(t, columns(m.ok("", "get", "instance"), 1), `SERVICE ADDRESS IDC WEIGHT STATE LABELS LEASE
redis 10.0.0.9:6379 - 100 up - yes
shop-web 10.0.0.1:8080 - 100 drain - no
shop-web 10.0.0.2:8080 bj-a 50 up version=v2,zone=1 no
`)
	same(t, columns(m.ok("", "get", "topology"), 1), `IDC LOGICAL STATE ROUTES
bj-a north up north:100
gz-a south drained south:90,north:10
`)
	same(t, m.ok("", "get", "service", "shop-web", "-o", "yaml"), "---\nkind: Service\nname: shop-web\nowner: on\nlevel: 2\n")
	var listed []struct{ Kind, Service string }
	if err := json.Unmarshal([]byte(m.ok("", "get", "instances", "-o", "json")), &listed); err != nil ||
		fmt.Sprint(listed) != "[{Instances redis} {Instances shop-web}]" {
		t.Errorf("%v %v", listed, err)
	}
	same(t, mesh{t, newPrefix()}.ok("", "get", "topology", "-o", "json"), "[]\n")

	f := func(want string, args ...string) {
		t.Helper()
		if got := m.fails("", args...); !strings.Contains(got, want) {
			t.Errorf("%v: %q without %q", args, got, want)
		}
	}
	f(`service: none of service "unheard-of"`, "get", "service", "unheard-of")
	f(`kind: "pods" is not one of services, instances, topology`, "get", "pods")
	f(`-o: "xml" is not one of table, json, yaml`, "get", "services", "-o", "xml")
	f("topology: there is one for the mesh", "get", "topology", "north")
	f("accepts between 1 and 2 arg(s)", "get")
	f("unknown command", "destroy")
}

func TestDelete(t *testing.T) {
	m := mesh{t, newPrefix()}
	m.ok(documents, "apply", "-f", "-")
	same(t, m.ok("", "delete", "service", "shop-web"), "deleted service of shop-web: 1 key\n")
	same(t, m.ok("", "delete", "instances", "shop-web"), "deleted instances of shop-web: 2 keys\n")
	same(t, m.ok("", "delete", "topology"), "deleted topology: 1 key\n")
	same(t, m.fails("", "delete", "topology"), "delete topology: there is nothing\n")
	same(t, m.fails("", "delete", "service"), "delete service: of which service?\n")
	m.put("instances/shop-web/10.0.0.9:8080", `{"address": "10.0.0.9:8080"}`, true)
	if got := m.fails("", "delete", "instances", "shop-web"); !strings.Contains(got, "lease") {
		t.Error(got)
	}
	m.put("services/Odd", `{"kind": "Service", "name": "Odd"}`, false)
	m.ok("", "delete", "service", "Odd")
	if got := m.ok("", "get", "services"); strings.Contains(got, "shop-web") || !strings.Contains(got, "redis") {
		t.Error(got)
	}
}

// TestExport applies what was exported to an empty prefix, and exports that.
func TestExport(t *testing.T) {
	m, other := mesh{t, newPrefix()}, mesh{t, newPrefix()}
	m.ok(documents, "apply", "-f", "-")
	m.put("instances/shop-web/10.0.0.9:8080", `{"address": "10.0.0.9:8080"}`, true)
	exported := m.ok("", "export")
	if strings.Contains(exported, "10.0.0.9") || !strings.Contains(exported, "10.0.0.1") {
		t.Errorf("of the instances only those without a lease are to be exported:\n%s", exported)
	}
	other.ok(exported, "apply", "-f", "-")
	same(t, other.ok("", "export"), exported)
	if got := m.ok(exported, "apply", "-f", "-"); !strings.Contains(got, "\n0 created, 0 updated, 0 deleted, 6 unchanged\n") {
		t.Errorf("applying the export where it comes from: %s", got)
	}

	m.put("services/broken", `{"kind": "Service", "name": "broken", "level": 9}`, false)
	m.put("instances/shop-web/10.0.0.7:8080", `{"address": "10.0.0.8:8080"}`, false)
	stdout, stderr, err := m.run("", "export")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if err == nil || len(lines) != 2 || !strings.Contains(lines[0], `service "broken": level`) ||
		!strings.Contains(lines[1], `service "shop-web": instance "10.0.0.7:8080": address`) {
		t.Errorf("%v %q", err, lines)
	}
	same(t, stdout, exported)
}

// TestConnection checks flags and environment, and that no error shows a password.
func TestConnection(t *testing.T) {
	prefix := newPrefix()
	t.Setenv("UFC_ETCD", "http://127.0.0.1:1,"+etcdEndpoint)
	if _, stderr, err := cli(t, "kind: Topology\n", "apply", "-f", "-", "--prefix", prefix); err != nil {
		t.Errorf("UFC_ETCD: %s", stderr)
	}
	f := func(want string, args ...string) {
		t.Helper()
		_, stderr, err := cli(t, "", append([]string{"get", "services"}, args...)...)
		if err == nil || !strings.Contains(stderr, want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%v: %v %q without %q", args, err, stderr, want)
		}
	}
	f(`etcd endpoint "127.0.0.1"`, "--etcd", etcdEndpoint, "--etcd", "127.0.0.1")
	f(`etcd endpoint "x"`, "--etcd", etcdEndpoint+",x")
	f(`prefix "ufc"`, "--prefix", "ufc")
	f("the password is missing", "--user", "root")
	f("must be given together", "--cert", "c.pem")
	f("no-such-file", "--etcd", "https://127.0.0.1:1", "--cacert", "no-such-file")
	dead := freeAddress(t)
	f(dead, "--etcd", "http://"+dead)
}

// TestUser reads and writes an etcd that asks who it is.
func TestUser(t *testing.T) {
	server := &embeddedetcd.Server{Dir: t.TempDir(), Address: freeAddress(t)}
	if err := errors.Join(server.Provision(caddy.Context{}), server.Open()); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeLimit)
	defer cancel()
	_, err1 := client.UserAdd(ctx, "root", "hunter2")
	_, err2 := client.UserGrantRole(ctx, "root", "root")
	_, err3 := client.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}

	document := instances("web", backend(t, named("web")))
	t.Setenv("UFC_ETCD_USER", "root:hunter2")
	if _, stderr, err := cli(t, document, "apply", "-f", "-", "--etcd", server.Endpoint()); err != nil {
		t.Error(stderr)
	}
	t.Setenv("UFC_ETCD_PASSWORD", "hunter2") // so that no argument shows it
	if out, stderr, err := cli(t, "", "get", "instances", "--etcd", server.Endpoint(), "--user", "root"); err != nil || !strings.Contains(out, "web") {
		t.Error(out, stderr)
	}
	for _, user := range []string{"root:hunter3", "ruth:hunter2"} {
		_, stderr, err := cli(t, "", "get", "services", "--etcd", server.Endpoint(), "--user", user)
		if err == nil || !strings.Contains(stderr, "authentication failed") || strings.Contains(stderr, "hunter") {
			t.Errorf("%s: %v %q", user, err, stderr)
		}
	}
	agent := freeAddress(t)
	t.Setenv("UFC_TEST_PASSWORD", "hunter2")
	load(t, fmt.Sprintf("ufc {\n\t\tetcd %s\n\t\tcredentials root {env.UFC_TEST_PASSWORD}\n\t}", server.Endpoint()), site(agent, "ufc web"))
	answers(t, "http://"+agent, http.StatusOK)
}
