package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// only fails unless all of ten requests, and of ten hand-outs of the agent's and of the DNS's, go to the one backend.
func (m *mesh) only(service string, want *backend) error {
	for range 10 {
		a, err := m.get(service, "/")
		if err != nil {
			return err
		}
		if got := a.header.Get("X-Backend"); got != want.name {
			return fmt.Errorf("%q answers with %d, want %s", got, a.status, want.name)
		}
		for _, port := range []int{m.agent, m.callback} {
			list, err := m.backends(port, service, "")
			if err != nil || len(list) != 1 || list[0].Backend != want.address {
				return fmt.Errorf("port %d hands out %v, want %s, %v", port, list, want.address, err)
			}
		}
	}
	return nil
}

// shownBan is what get bans tells of one.
type shownBan struct {
	Service, Instance, Reason, Host, Agent, By, Detail string
	Until                                              *time.Time
}

func (m *mesh) shownBans() (bans []shownBan) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.caddyUFC("get", "bans", "-o", "json")), &bans); err != nil {
		m.t.Fatal(err)
	}
	return bans
}

// An operator's ban is obeyed by all agents within a second, and lifted as soon.
func TestBansByHandEverywhere(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startMesh(t, service("shop-web", "protocol: http", one, two))
	m.caddyUFC("ban", "shop-web", one.address, "--reason", "its disk is dying")
	within(t, time.Second, "a ban by hand", func() error { return m.only("shop-web", two) })
	bans := m.shownBans()
	if len(bans) != 1 || bans[0].Instance != one.address || bans[0].Reason != "hand" || bans[0].Detail != "its disk is dying" ||
		bans[0].By == "" || bans[0].Until != nil {
		t.Errorf("get bans shows %+v", bans)
	}

	// It outlives the instance's registration.
	mustRun(t, m.environment(), "", "bin/caddy", "ufc", "delete", "instances", "shop-web")
	m.apply(service("shop-web", "protocol: http", one, two))
	m.untilCurrent()
	if err := m.only("shop-web", two); err != nil {
		t.Errorf("after the list came back: %v", err)
	}
	m.caddyUFC("unban", "shop-web", one.address)
	within(t, 5*time.Second, "the end of a ban by hand", func() error {
		if a, err := m.get("shop-web", "/"); err != nil || a.header.Get("X-Backend") != "one" {
			return fmt.Errorf("%q answers, %v", a.header.Get("X-Backend"), err)
		}
		return nil
	})
	if bans := m.shownBans(); len(bans) != 0 {
		t.Errorf("get bans shows %+v after all were lifted", bans)
	}

	// One that ends by itself.
	m.caddyUFC("ban", "shop-web", two.address, "--for", "2s")
	within(t, time.Second, "a ban with an end", func() error { return m.only("shop-web", one) })
	within(t, 10*time.Second, "its end", func() error {
		if a, err := m.get("shop-web", "/"); err != nil || a.header.Get("X-Backend") != "two" {
			return fmt.Errorf("%q answers, %v", a.header.Get("X-Backend"), err)
		}
		return nil
	})
	within(t, 10*time.Second, "the end of its key", func() error {
		if bans := m.shownBans(); len(bans) != 0 {
			return fmt.Errorf("get bans shows %+v", bans)
		}
		return nil
	})
}

// Agents that start while etcd is away obey the bans by hand.
func TestBansInTheSnapshot(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m, e := startExternal(t, service("shop-web", "protocol: http", one, two))
	m.caddyUFC("ban", "shop-web", one.address)
	eventually(t, 5*time.Second, func() error { return m.only("shop-web", two) })
	m.caddy.stop()
	m.coredns.stop()
	for _, name := range []string{"agent.snapshot", "dns.snapshot"} {
		data, err := os.ReadFile(filepath.Join(m.folder, name))
		if err != nil || !contains(string(data), "\nbans/shop-web/"+one.address+" ") {
			t.Fatalf("%s holds no ban, or %v:\n%s", name, err, data)
		}
	}
	e.stop()
	m.startCaddy(externalEtcd)
	m.startCoreDNS()
	if err := m.only("shop-web", two); err != nil {
		t.Error(err)
	}
}

// What one agent has found, operators see, and the DNS beside it knows at once, without a failure of its own.
func TestBansAreTold(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startMesh(t, service("shop-web", "protocol: http", one, two))
	one.stop()
	eventually(t, 5*time.Second, func() error {
		if _, err := m.get("shop-web", "/"); err != nil {
			return err
		}
		if bans := m.shownBans(); len(bans) != 1 || bans[0].Instance != one.address || bans[0].Reason != "proof" ||
			bans[0].Host == "" || bans[0].Agent == "" || bans[0].Until == nil {
			return fmt.Errorf("get bans shows %+v", bans)
		}
		return nil
	})
	within(t, time.Second, "a neighbour's ban", func() error { return m.only("shop-web", two) })

	one.start()
	eventually(t, 60*time.Second, func() error {
		if _, err := m.get("shop-web", "/"); err != nil {
			return err
		}
		if bans := m.shownBans(); len(bans) != 0 {
			return fmt.Errorf("get bans shows %+v", bans)
		}
		list, err := m.backends(m.callback, "shop-web", "")
		if err != nil || len(list) != 1 || list[0].Backend != one.address {
			return fmt.Errorf("the DNS hands out %v, %v", list, err)
		}
		return nil
	})
}
