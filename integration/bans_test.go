package integration

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What one agent of the machine finds out, the other one knows: Caddy bans an instance, and the DNS beside it, to which
// nobody has reported anything, hands it out no more.
func TestNeighboursShareBans(t *testing.T) {
	t.Parallel()
	killed, other := startInstance(t), startInstance(t)
	m := startMesh(t, documents("shop", "ban: {duration: 1m}", killed.address, other.address))
	if err := m.get2xx("shop"); err != nil {
		t.Fatal(err)
	}
	killed.signal(syscall.SIGKILL)
	killed.wait(10 * time.Second)
	for range 4 {
		if err := m.get2xx("shop"); err != nil {
			t.Error(err)
		}
	}
	m.untilBanned("shop", killed.address)
	eventually(t, 5*time.Second, func() error { return m.bannedAt(m.callback, "shop", killed.address) })
	if a := m.query(m.callback, "ban_info^shop"); !strings.Contains(a.body, `"reason":"neighbour"`) {
		t.Errorf("the DNS tells %s", a.body)
	}
	if a := m.query(m.agent, "explain^shop^"+killed.address); !strings.Contains(a.body, `"kind":"banned"`) || !strings.Contains(a.body, `"reason":"proof"`) {
		t.Errorf("explain: %s", a.body)
	}
	if text := m.caddyUFC("get", "bans"); !strings.Contains(text, killed.address) || !strings.Contains(text, "proof") {
		t.Errorf("get bans: %s", text)
	}
}

// caddyUFC runs the CLI and returns what it prints.
func (m *mesh) caddyUFC(arguments ...string) string {
	m.t.Helper()
	return mustRun(m.t, m.environment(), "", append([]string{"bin/caddy", "ufc"}, arguments...)...)
}

func (m *mesh) get2xx(service string) error {
	a, err := m.get(service, "/")
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return err
}

// A ban by hand is obeyed by both agents, until it is lifted.
func TestBansByHand(t *testing.T) {
	t.Parallel()
	one, two := startInstance(t), startInstance(t)
	m := startMesh(t, documents("shop", "", one.address, two.address))
	m.caddyUFC("ban", "shop", one.address, "--reason", "disk")
	for _, port := range []int{m.agent, m.callback} {
		eventually(t, 5*time.Second, func() error { return m.bannedAt(port, "shop", one.address) })
	}
	for range 10 {
		if a, err := m.get("shop", "/"); err != nil || a.header.Get("X-Backend") != two.address {
			t.Fatalf("answered by %q: %v", a.header.Get("X-Backend"), err)
		}
	}
	if text := m.caddyUFC("get", "bans", "shop"); !strings.Contains(text, "disk") {
		t.Errorf("get bans: %s", text)
	}
	m.caddyUFC("unban", "shop", one.address)
	eventually(t, 5*time.Second, func() error {
		if a, err := m.get("shop", "/"); err != nil || a.header.Get("X-Backend") != one.address {
			return fmt.Errorf("answered by %q: %w", a.header.Get("X-Backend"), err)
		}
		return nil
	})
}

// A Redis that hangs keeps its port: reports of its clients ban it, and it comes back when it goes on.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	port := freePort(t, redisAddresses...)
	var instances []string
	servers := map[string]*process{}
	for _, address := range redisAddresses {
		servers[address] = startRedis(t, address, port)
		instances = append(instances, fmt.Sprintf("%s:%d", address, port))
	}
	m := startMesh(t, documents("redis-main", "protocol: tcp\nban: {duration: 1s}\ntimeouts: {normal: {total: 1s}}", instances...))
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("redis-main"); return err })
	const victim = "127.0.0.3"
	servers[victim].signal(syscall.SIGSTOP)
	for range 7 { // the sequential test needs so many among sound ones
		m.report(m.callback, "redis-main", fmt.Sprintf("%s:%d", victim, port), "read_timeout")
		for _, sound := range []string{"127.0.0.2", "127.0.0.4"} {
			m.report(m.callback, "redis-main", fmt.Sprintf("%s:%d", sound, port), "ok")
		}
	}
	if err := m.bannedAt(m.callback, "redis-main", fmt.Sprintf("%s:%d", victim, port)); err != nil {
		t.Fatal(err)
	}
	servers[victim].signal(syscall.SIGCONT)
	// Nobody reports what came of its trials: three probes stand for them.
	eventually(t, 20*time.Second, func() error {
		if counts := m.handedOut("redis-main", 12); counts[victim] < 2 {
			return fmt.Errorf("handed out %v", counts)
		}
		return nil
	})
}
