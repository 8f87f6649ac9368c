package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Reloads drop no request, and forget no ban.
func TestReloadCaddyUnderLoad(t *testing.T) {
	t.Parallel()
	one, two, three := newBackend(t, "one"), newBackend(t, "two"), newBackend(t, "three")
	m := startMesh(t, service("shop-web", "ban: {duration: 10m}", one, two, three))
	eventually(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	m.banByRefusal(three)

	requests := m.requests("shop-web")
	for i := range 5 {
		m.reloadCaddy(replace(t, "{$UFC_IDC:bj-a}", fmt.Sprintf("idc-%d", i)))
		time.Sleep(100 * time.Millisecond)
	}
	requests.stop("requests over reloads of Caddy")
	if err := m.banned("shop-web", three.address); err != nil {
		t.Errorf("after the reloads %v", err)
	}
	if served := three.served.Load(); served > 0 {
		t.Errorf("the banned instance got %d requests after a reload", served)
	}

	// A bad configuration is refused, and the running one goes on.
	config := m.configure("xcaddy.Caddyfile", replace(t, "prefix /ufc/v1", "prefix nonsense"))
	output, code := run(t, 30*time.Second, m.environment(), "", "bin/caddy", "reload", "--adapter", "caddyfile",
		"--config", config, "--address", fmt.Sprintf("127.0.0.1:%d", m.admin))
	if code == 0 || !strings.Contains(output, "nonsense") {
		t.Errorf("a reload with a bad prefix: exit code %d, %s", code, output)
	}
	m.mustGet("shop-web", "/")
}

// banByRefusal stops a backend that has served nothing that counts, has it banned, and starts it again: it would serve if
// it were chosen.
func (m *mesh) banByRefusal(b *backend) {
	m.t.Helper()
	b.stop()
	eventually(m.t, 5*time.Second, func() error {
		m.mustGet("shop-web", "/")
		return m.banned("shop-web", b.address)
	})
	b.served.Store(0)
	b.start()
}

func TestReloadCoreDNSUnderLoad(t *testing.T) {
	t.Parallel()
	m := startMesh(t, documents("redis-main", "protocol: tcp\nban: {duration: 10m}", "127.0.0.2:1", "127.0.0.3:1"))
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("redis-main"); return err })

	// Nothing listens on port 1: the report is confirmed by the probe.
	if a := m.report(m.callback, "redis-main", "127.0.0.3:1", "connect_error"); a.status != 204 {
		t.Fatalf("callback: %d %s", a.status, a.body)
	}
	eventually(t, 2*time.Second, func() error { return m.bannedAt(m.callback, "redis-main", "127.0.0.3:1") })

	queries := m.queries("redis-main")
	for i := range 5 {
		m.configure("Corefile", replace(t, "{$UFC_IDC:bj-a}", fmt.Sprintf("idc-%d", i)))
		before := strings.Count(m.coredns.output(), "Reloading complete")
		m.coredns.signal(syscall.SIGUSR1)
		eventually(t, 10*time.Second, func() error {
			if strings.Count(m.coredns.output(), "Reloading complete") == before {
				return fmt.Errorf("not reloaded")
			}
			return nil
		})
		time.Sleep(100 * time.Millisecond)
	}
	queries.stop("queries over reloads of CoreDNS")
	if counts := m.handedOut("redis-main", 10); counts["127.0.0.3"] > 0 {
		t.Errorf("after the reloads the banned instance is handed out: %v", counts)
	}
	// The callback listens on, on the same port.
	if a := m.report(m.callback, "redis-main", "127.0.0.2:1", "ok"); a.status != 204 {
		t.Errorf("callback after the reloads: %d %s", a.status, a.body)
	}

	// A bad Corefile is refused, and the running one goes on.
	m.configure("Corefile", replace(t, "prefix /ufc/v1", "prefix nonsense"))
	m.coredns.signal(syscall.SIGUSR1)
	eventually(t, 10*time.Second, func() error {
		if !strings.Contains(m.coredns.output(), "nonsense") {
			return fmt.Errorf("the bad Corefile was not refused")
		}
		return nil
	})
	if _, err := m.lookup("redis-main"); err != nil {
		t.Errorf("after a bad Corefile: %v", err)
	}
	if a := m.report(m.callback, "redis-main", "127.0.0.2:1", "ok"); a.status != 204 {
		t.Errorf("callback after a bad Corefile: %d %s", a.status, a.body)
	}
}
