package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// follows is an edit that adds the option to either configuration.
func follows(t testing.TB, what string) edit {
	return replace(t, "prefix /ufc/v1\n", "prefix /ufc/v1\nfollow "+what+"\n")
}

// held are the services that are in the memory of what listens on the port.
func (m *mesh) held(port int) []string {
	m.t.Helper()
	var answer struct {
		Config struct{ Services []string } `json:"config_info"`
	}
	if a := m.query(port, "config_info"); json.Unmarshal([]byte(a.body), &answer) != nil {
		m.t.Fatalf("config_info: %d %s", a.status, a.body)
	}
	return answer.Config.Services
}

func (m *mesh) mustHold(port int, services ...string) {
	m.t.Helper()
	if held := m.held(port); !slices.Equal(held, services) {
		m.t.Errorf("port %d holds %q, want %q", port, held, services)
	}
}

// startFollowing starts both programs on an etcd of their own, with the option follow, after the documents were registered.
func startFollowing(t *testing.T, what, documents string) (*mesh, *etcd) {
	t.Helper()
	m, e := newMesh(t), newEtcd(t)
	m.etcd = e.port
	e.start()
	m.apply(documents)
	m.startCaddy(externalEtcd, follows(t, what))
	m.startCoreDNS(follows(t, what))
	m.untilCurrent()
	return m, e
}

func threeServices(t *testing.T) string {
	return strings.Join([]string{
		service("shop-web", "protocol: http", newBackend(t, "shop")), service("cart", "protocol: http", newBackend(t, "cart")),
		service("stock", "protocol: http", newBackend(t, "stock")),
	}, "\n---\n")
}

// What is called is known at its first call, by every way in, and nothing else is held.
func TestFollowUsed(t *testing.T) {
	t.Parallel()
	m, e := startFollowing(t, "used", threeServices(t))
	m.mustHold(m.agent)
	m.mustHold(m.callback)

	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if a, err := m.lookupOK("shop-web"); err != nil || a.header.Get("X-Backend") != "shop" {
				t.Errorf("a first request: %v, by %q", err, a.header.Get("X-Backend"))
			}
		})
	}
	all.Wait()
	m.mustHold(m.agent, "shop-web")
	m.ask("absent", "/").must(t, http.StatusNotFound, "unknown_service")
	if list, err := m.backends(m.agent, "cart", ""); err != nil || len(list) != 1 {
		t.Errorf("the first get: %v, %v", list, err)
	}
	m.mustHold(m.agent, "cart", "shop-web")

	if d := m.dig("shop-web."+zone, "A"); len(d.answers) != 1 {
		t.Errorf("the first question: %s", d.text)
	}
	if d := m.dig("absent."+zone, "A"); d.status != "NXDOMAIN" {
		t.Errorf("of no service: %s", d.text)
	}
	if d := m.dig("cart."+zone, "TXT"); d.status != "NOERROR" {
		t.Errorf("the first question, of another type: %s", d.text)
	}
	m.mustHold(m.callback, "cart", "shop-web")
	backends, err := m.backends(m.agent, "stock", "")
	if err != nil {
		t.Fatal(err)
	}
	if a := m.report(m.callback, "stock", backends[0].Backend, "ok"); a.status != http.StatusNoContent {
		t.Errorf("the first report: %d %s", a.status, a.body)
	}
	if a := m.report(m.callback, "absent", backends[0].Backend, "ok"); a.status != http.StatusNoContent { // counted as unmatched
		t.Errorf("a report on no service: %d %s", a.status, a.body)
	}
	m.mustHold(m.callback, "cart", "shop-web", "stock")

	m.apply(service("absent", "protocol: http", newBackend(t, "new"))) // it comes after it was asked for
	m.untilCurrent()
	if _, err := m.lookupOK("absent"); err != nil {
		t.Error(err)
	}
	e.kill()
	if _, err := m.lookupOK("shop-web"); err != nil {
		t.Errorf("without etcd: %v", err)
	}
	if services := m.metric("ufc_services"); services != 4 {
		t.Errorf("ufc_services is %v", services)
	}
}

// Without etcd, what the snapshot has is served, and of the rest it is said that it isn't known.
func TestFollowUsedWithoutEtcd(t *testing.T) {
	t.Parallel()
	m, e := startFollowing(t, "used", threeServices(t))
	m.mustGet("shop-web", "/")
	if _, err := m.lookup("shop-web"); err != nil {
		t.Fatal(err)
	}
	e.kill()
	m.caddy.stop()
	m.coredns.stop()
	m.startCaddy(externalEtcd, follows(t, "used"))
	m.startCoreDNS(follows(t, "used"))
	m.mustGet("shop-web", "/")
	if d := m.dig("shop-web."+zone, "A"); len(d.answers) != 1 || !strings.Contains(d.text, "EDE: 3") {
		t.Errorf("DNS from the snapshot: %s", d.text)
	}
	m.ask("cart", "/").must(t, http.StatusServiceUnavailable, "not_synced")
	if d := m.dig("cart."+zone, "A"); d.status != "SERVFAIL" || !strings.Contains(d.text, "EDE: 14") {
		t.Errorf("DNS, of what the snapshot hasn't: %s", d.text)
	}
	if _, err := m.backends(m.callback, "cart", ""); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("bypass, of what the snapshot hasn't: %v", err)
	}
	e.start()
	eventually(t, 20*time.Second, func() error { _, err := m.lookupOK("cart"); return err })
	eventually(t, 20*time.Second, func() error { _, err := m.lookup("cart"); return err })
}

func TestFollowNames(t *testing.T) {
	t.Parallel()
	m, _ := startFollowing(t, "shop-web cart", threeServices(t))
	m.mustHold(m.agent, "cart", "shop-web")
	m.mustHold(m.callback, "cart", "shop-web")
	m.mustGet("cart", "/")
	m.ask("stock", "/").must(t, http.StatusNotFound, "unknown_service")
	if d := m.dig("stock."+zone, "A"); d.status != "NXDOMAIN" {
		t.Errorf("not followed: %s", d.text)
	}
	if a := m.query(m.agent, "sync_info"); !strings.Contains(a.body, `"follow":["shop-web","cart"]`) {
		t.Errorf("sync_info: %s", a.body)
	}

	// A reload changes what is followed, and bans stay.
	m.reloadCaddy(externalEtcd, follows(t, "stock shop-web"))
	eventually(t, 10*time.Second, func() error { _, err := m.lookupOK("stock"); return err })
	eventually(t, 10*time.Second, func() error {
		if held := m.held(m.agent); !slices.Equal(held, []string{"shop-web", "stock"}) {
			return fmt.Errorf("held are %q", held)
		}
		return nil
	})
	m.ask("cart", "/").must(t, http.StatusNotFound, "unknown_service")
	m.reloadCaddy(externalEtcd)
	eventually(t, 10*time.Second, func() error { _, err := m.lookupOK("cart"); return err })
}

// shownAgent is what get agents tells of one.
type shownAgent struct {
	Agent, Host, Face, Stale string
	Synced                   bool
	Revision                 int64
}

func (m *mesh) shownAgents() (agents []shownAgent) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.caddyUFC("get", "agents", "-o", "json")), &agents); err != nil {
		m.t.Fatal(err)
	}
	return agents
}

// An agent and the DNS beside it, of one name, tell that they are there within a minute; one that ends is gone at once.
func TestGetAgents(t *testing.T) {
	t.Parallel()
	m := startMesh(t, threeServices(t))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 80*time.Second, func() error {
		agents := m.shownAgents()
		if len(agents) != 2 || agents[0].Face == agents[1].Face || agents[0].Agent != host ||
			agents[1].Agent != host+"+"+agents[1].Face {
			return fmt.Errorf("get agents shows %+v", agents)
		}
		for _, one := range agents {
			if !one.Synced || one.Stale != "" || one.Revision == 0 || one.Host != host {
				t.Errorf("get agents shows %+v", one)
			}
		}
		return nil
	})
	if a := m.query(m.callback, "sync_info"); !strings.Contains(a.body, `"presence":{"id":"`+host) {
		t.Errorf("sync_info: %s", a.body)
	}
	m.coredns.signal(syscall.SIGTERM)
	m.coredns.wait(20 * time.Second)
	if agents := m.shownAgents(); len(agents) != 1 || agents[0].Face != "caddy" {
		t.Errorf("without the DNS, get agents shows %+v", agents)
	}
	if table := m.caddyUFC("get", "agents"); !strings.Contains(table, "STALE\n") || !strings.Contains(table, " caddy ") {
		t.Errorf("the table:\n%s", table)
	}
}
