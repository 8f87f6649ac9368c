package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// contains is strings.Contains, without case.
func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// misconfigure writes a copy of a configuration with bad in place of old, and returns its path and the line at fault: the
// one of bad with want in it, else its first.
func (m *mesh) misconfigure(name, old, bad, want string) (path string, line int) {
	m.t.Helper()
	path = m.configure(name, replace(m.t, old, bad), func(config string) string {
		before, _, _ := strings.Cut(config, bad)
		line = strings.Count(before, "\n") + 1
		if position := strings.Index(bad, want); position > 0 {
			line += strings.Count(bad[:position], "\n")
		}
		return config
	})
	return path, line
}

func TestBadCaddyfiles(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	// Each puts one line in place of another; the error must name it, by its number, and say what is wrong.
	f := func(old, bad, want string) {
		t.Helper()
		path, line := m.misconfigure("xcaddy.Caddyfile", old, bad, want)
		output, code := run(t, 30*time.Second, m.environment(), "", "bin/caddy", "adapt", "--config", path, "--adapter", "caddyfile")
		if code == 0 {
			output, code = run(t, 30*time.Second, m.environment(), "", "bin/caddy", "validate", "--config", path, "--adapter", "caddyfile")
		}
		if code == 0 || !contains(output, want) || !strings.Contains(output, fmt.Sprintf("xcaddy.Caddyfile:%d", line)) {
			t.Errorf("%q: exit code %d, want %q and line %d in:\n%s", bad, code, want, line, output)
		}
		if strings.Contains(output, "goroutine ") {
			t.Errorf("%q: a panic", bad)
		}
	}
	const etcd = "etcd embedded {$UFC_DATA:./data}/etcd 127.0.0.1:{$UFC_ETCD_PORT:2379}"
	f(etcd, "etcd 127.0.0.1:2379", "127.0.0.1:2379")
	f(etcd, "etcd http://127.0.0.1:70000", "70000")
	f(etcd, "etcd ftp://127.0.0.1:2379", "ftp")
	f(etcd, "etcd # none", "needs endpoints")
	f(etcd, "etcd embedded # none", "needs a directory")
	f(etcd, "etcd embedded ./x 127.0.0.1:99999", "99999")
	f("prefix /ufc/v1", "prefix ufc/v1", "ufc/v1")
	f("prefix /ufc/v1", "prefiks /ufc/v1", "prefiks")
	f("prefix /ufc/v1", "protect 150%", "150%")
	f("prefix /ufc/v1", "tls only-a-cert", "tls CERT KEY CA")
	f("token {env.UFC_TOKEN}", "tokken x", "tokken")
	f("\n\tufc\n", "\n\tufc Not_A_Name\n", "Not_A_Name")
	f("\n\tufc\n", "\n\tufc one two\n", "two")
	f("\n\tufc\n", "\n\tufc one {\n\t\tfromm x\n\t}\n", "fromm")
	f("\n\tufc\n", "\n\treverse_proxy ufc:80 {\n\t\ttransport ufc {\n\t\t\tservise x\n\t\t}\n\t}\n", "servise")
}

func TestBadCorefiles(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	f := func(old, bad, want string) {
		t.Helper()
		path, line := m.misconfigure("Corefile", old, bad, want)
		output, code := run(t, 30*time.Second, m.environment(), "", "bin/coredns", "-conf", path)
		if code == 0 || !contains(output, want) || !strings.Contains(output, fmt.Sprintf("Corefile:%d", line)) {
			t.Errorf("%q: exit code %d, want %q and line %d in:\n%s", bad, code, want, line, output)
		}
		if strings.Contains(output, "goroutine ") {
			t.Errorf("%q: a panic", bad)
		}
	}
	const etcd = "etcd http://127.0.0.1:{$UFC_ETCD_PORT:2379}"
	f(etcd, "etcd 127.0.0.1:2379", "127.0.0.1:2379")
	f(etcd, "etcd http://127.0.0.1:70000", "70000")
	f(etcd, "etcd # none", "must be etcd ENDPOINT")
	f("prefix /ufc/v1", "prefix ufc/v1", "ufc/v1")
	f("prefix /ufc/v1", "prefiks /ufc/v1", "prefiks")
	f("prefix /ufc/v1", "protect 150%", "150%")
	f("prefix /ufc/v1", "ttl -1", "-1")
	f("prefix /ufc/v1", "answers 0", "0")
	f("prefix /ufc/v1", "client_idc 10.1.0.0/33 bj-b", "10.1.0.0/33")
	f("prefix /ufc/v1", "fused perhaps", "perhaps")
	f("callback 127.0.0.1:{$UFC_CALLBACK_PORT:8889}", "callback 127.0.0.1:99999", "99999")
	f("callback 127.0.0.1:{$UFC_CALLBACK_PORT:8889}", "callback # none", "must be callback HOST:PORT")
	f("    reload\n", "    kubernetes\n", "kubernetes") // a plugin that this build leaves out
}

// The programs end with an error where they can't have what the configuration promises.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	m := startMesh(t, documents("x", "protocol: tcp"))
	second := newMesh(t)
	second.callback = m.callback
	output, code := run(t, 30*time.Second, second.environment(), "", "bin/coredns", "-conf", second.configure("Corefile"))
	if code == 0 || !strings.Contains(output, fmt.Sprint(m.callback)) {
		t.Errorf("CoreDNS with a callback port that is taken: exit code %d\n%s", code, output)
	}
	second.etcd = m.etcd
	output, code = run(t, 60*time.Second, second.environment(), "", "bin/caddy", "run", "--adapter", "caddyfile", "--config", second.configure("xcaddy.Caddyfile"))
	if code == 0 || !strings.Contains(output, fmt.Sprint(m.etcd)) {
		t.Errorf("Caddy with an etcd port that is taken: exit code %d\n%s", code, output)
	}
}
