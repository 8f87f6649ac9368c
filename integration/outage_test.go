package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startExternal starts an etcd of its own, and the mesh's two programs on it.
func startExternal(t *testing.T, documents string) (*mesh, *etcd) {
	t.Helper()
	m, e := newMesh(t), newEtcd(t)
	m.etcd = e.port
	e.start()
	m.startCaddy(externalEtcd)
	m.startCoreDNS()
	m.apply(documents)
	return m, e
}

func TestStartBeforeEtcd(t *testing.T) {
	t.Parallel()
	m, e := newMesh(t), newEtcd(t)
	m.etcd = e.port
	m.startCaddy(externalEtcd)
	m.startCoreDNS()

	// Nothing is known: that is said, and not that the service doesn't exist.
	a, err := m.get("shop-web", "/")
	if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("X-Ufc-Error") != "not_synced" {
		t.Errorf("through, without etcd: %d, x-ufc-error %q, %v", a.status, a.header.Get("X-Ufc-Error"), err)
	}
	if d := m.dig("shop-web."+zone, "A"); d.status != "SERVFAIL" || !strings.Contains(d.text, "EDE: 14") {
		t.Errorf("DNS, without etcd: %s", d.text)
	}
	if _, err := m.backends(m.callback, "shop-web", ""); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("bypass, without etcd: %v", err)
	}
	if err := m.isReady(); err == nil {
		t.Error("the DNS says that it is ready without a configuration")
	}

	e.start()
	m.apply(service("shop-web", "protocol: http", newBackend(t, "one")))
	eventually(t, 15*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	eventually(t, 15*time.Second, func() error { _, err := m.lookup("shop-web"); return err })
	eventually(t, 5*time.Second, m.isReady)
}

func (m *mesh) isReady() error {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/ready", m.ready), nil)
	if err != nil {
		return err
	}
	a, err := m.do(req)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("/ready: %d %s", a.status, a.body)
	}
	return err
}

// etcd is killed under load, stays away for a while, and comes back: nobody notices, and then changes are seen again.
func TestEtcdKilledUnderLoad(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m, e := startExternal(t, service("shop-web", "protocol: http", one))
	eventually(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("shop-web"); return err })

	requests, queries := m.requests("shop-web"), m.queries("shop-web")
	time.Sleep(300 * time.Millisecond)
	e.signal(syscall.SIGKILL)
	e.wait(5 * time.Second)
	time.Sleep(4 * time.Second)
	e.start()
	m.apply(service("shop-web", "protocol: http", two))
	eventually(t, 15*time.Second, func() error {
		if got := m.mustGet("shop-web", "/"); got != "two" {
			return fmt.Errorf("%s answers", got)
		}
		return nil
	})
	eventually(t, 15*time.Second, func() error {
		list, err := m.backends(m.callback, "shop-web", "")
		if err != nil || list[0].Backend != two.address {
			return fmt.Errorf("handed out %v, %v", list, err)
		}
		return nil
	})
	requests.stop("requests while etcd was killed")
	queries.stop("queries while etcd was killed")
}

func TestStartFromSnapshot(t *testing.T) {
	t.Parallel()
	m, e := startExternal(t, service("shop-web", "protocol: http", newBackend(t, "one")))
	eventually(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("shop-web"); return err })
	e.kill()
	m.caddy.stop()
	m.coredns.stop()

	m.startCaddy(externalEtcd)
	m.startCoreDNS()
	if _, err := m.lookupOK("shop-web"); err != nil {
		t.Errorf("from the snapshot: %v", err)
	}
	d := m.dig("shop-web."+zone, "A")
	if len(d.answers) != 1 || d.answers[0] != "127.0.0.1" || !strings.Contains(d.text, "EDE: 3") {
		t.Errorf("DNS from the snapshot: %s", d.text)
	}

	// etcd is back: changes are seen, and answers aren't stale any more.
	e.start()
	two := newBackend(t, "two")
	m.apply(service("shop-web", "protocol: http", two))
	eventually(t, 15*time.Second, func() error {
		if got := m.mustGet("shop-web", "/"); got != "two" {
			return fmt.Errorf("%s answers", got)
		}
		return nil
	})
	eventually(t, 15*time.Second, func() error {
		if d := m.dig("shop-web."+zone, "A"); strings.Contains(d.text, "EDE") {
			return fmt.Errorf("still stale: %s", d.text)
		}
		return nil
	})
}

// A process that was killed finds its snapshot too, since it is written while it runs.
func TestStartFromSnapshotAfterKill(t *testing.T) {
	t.Parallel()
	m, e := startExternal(t, service("shop-web", "protocol: http", newBackend(t, "one")))
	eventually(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	applied := time.Now()
	eventually(t, 15*time.Second, func() error { // it is written every few seconds, if anything has changed
		info, err := os.Stat(filepath.Join(m.folder, "agent.snapshot"))
		if err == nil && info.ModTime().Before(applied) {
			err = fmt.Errorf("the snapshot is of %s", info.ModTime())
		}
		return err
	})
	e.kill()
	m.caddy.kill()
	m.startCaddy(externalEtcd)
	if _, err := m.lookupOK("shop-web"); err != nil {
		t.Errorf("from the snapshot: %v", err)
	}
}
