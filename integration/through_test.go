package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestThroughDistribution(t *testing.T) {
	t.Parallel()
	backends := []*backend{newBackend(t, "one"), newBackend(t, "two"), newBackend(t, "three")}
	m := startMesh(t, service("shop-web", "protocol: http", backends...))

	eventually(t, time.Second, func() error {
		if a, err := m.get("shop-web", "/"); err != nil || a.status != http.StatusOK {
			return fmt.Errorf("status %d, %v", a.status, err)
		}
		return nil
	})
	counts := map[string]int{}
	for range 30 {
		counts[m.mustGet("shop-web", "/")]++
	}
	for _, b := range backends {
		if counts[b.name] != 10 {
			t.Errorf("round robin over three: %v, want 10 each", counts)
		}
	}
}

func TestThroughHeaders(t *testing.T) {
	t.Parallel()
	m := startMesh(t, service("plain", "protocol: http", newBackend(t, "one"))+"---\n"+
		service("renamed", "host: shop.example.test", newBackend(t, "two")))
	eventually(t, time.Second, func() error { _, err := m.lookupOK("plain"); return err })

	request := func(service string) answer {
		req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/a%%2Fb?q=1", m.agent), strings.NewReader("the body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "www.example.test"
		req.Header.Set("X-Ufc-Service-Name", service)
		req.Header.Set("X-Ufc-Self-Service-Name", "edge")
		req.Header.Set("X-Ufc-Trace-Id", "t-1")
		a, err := m.do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusOK || a.body != "the body" {
			t.Errorf("%s: status %d, body %q", service, a.status, a.body)
		}
		return a
	}
	a := request("plain")
	for header, want := range map[string]string{
		"Got-Host": "www.example.test", "Got-X-Ufc-Trace-Id": "t-1", "Got-X-Ufc-Self-Service-Name": "edge",
		"X-Ufc-Error": "", "X-Ufc-Backend": "",
	} {
		if got := a.header.Get(header); got != want {
			t.Errorf("plain: header %s: %q, want %q", header, got, want)
		}
	}
	if got := request("renamed").header.Get("Got-Host"); got != "shop.example.test" {
		t.Errorf("renamed: the callee got host %q", got)
	}
}

// lookupOK is nil once the agent knows the service.
func (m *mesh) lookupOK(service string) (answer, error) {
	a, err := m.get(service, "/")
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("%s: status %d, x-ufc-error %q", service, a.status, a.header.Get("X-Ufc-Error"))
	}
	return a, err
}

func TestThroughErrors(t *testing.T) {
	t.Parallel()
	dead := newBackend(t, "dead")
	dead.stop()
	m := startMesh(t, service("up", "protocol: http", newBackend(t, "one"))+"---\n"+
		documents("empty", "protocol: http")+"---\n"+
		service("dead", "protocol: http", dead))
	eventually(t, time.Second, func() error { _, err := m.lookupOK("up"); return err })

	f := func(service string, status int, reason string) {
		t.Helper()
		a, err := m.get(service, "/")
		if err != nil {
			t.Fatal(err)
		}
		if a.status != status || a.header.Get("X-Ufc-Error") != reason {
			t.Errorf("callee %q: status %d, x-ufc-error %q; want %d, %q", service, a.status, a.header.Get("X-Ufc-Error"), status, reason)
		}
		if media := a.header.Get("Content-Type"); media != "application/problem+json" {
			t.Errorf("callee %q: content type %q", service, media)
		}
		var problem struct {
			Status int
			Title  string
		}
		if err := json.Unmarshal([]byte(a.body), &problem); err != nil || problem.Status != status || problem.Title == "" {
			t.Errorf("callee %q: problem %s (%v)", service, a.body, err)
		}
	}
	f("", http.StatusBadRequest, "no_callee")
	f("unknown", http.StatusNotFound, "unknown_service")
	f("empty", http.StatusServiceUnavailable, "no_instance")
	f("dead", http.StatusBadGateway, "connect")
	f("Not A Name", http.StatusBadRequest, "bad_request")

	// A status of the callee is the callee's business.
	a, err := m.get("up", "/?status=503")
	if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("X-Ufc-Error") != "" || a.header.Get("X-Backend") != "one" {
		t.Errorf("the callee's own 503: %+v, %v", a, err)
	}
}

// A killed backend costs no request: connects that are refused are tried again elsewhere, then it is banned.
func TestKilledBackend(t *testing.T) {
	t.Parallel()
	backends := []*backend{newBackend(t, "one"), newBackend(t, "two"), newBackend(t, "three")}
	// The one killed holds no connection: what is in flight on it may fail, and isn't the point here.
	m := startMesh(t, service("shop-web", "connections: {keepalive: false}\nban: {duration: 1s}", backends...))
	eventually(t, time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })

	for range 6 {
		m.mustGet("shop-web", "/")
	}
	backends[1].stop()
	before := backends[1].served.Load()
	for range 60 {
		m.mustGet("shop-web", "/") // fails the test on any error
	}
	eventually(t, 3*time.Second, func() error { return m.banned("shop-web", backends[1].address) })

	// Its ban is over soon, but not its death: it isn't tried until its port answers.
	always(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	if now := backends[1].served.Load(); now != before {
		t.Errorf("the dead backend served %d requests", now-before)
	}
	backends[1].start()
	eventually(t, 10*time.Second, func() error {
		if m.mustGet("shop-web", "/") != "two" {
			return fmt.Errorf("backend two doesn't get requests")
		}
		return nil
	})
}

// banned is nil if the agent's memory says that the instance is banned.
func (m *mesh) banned(service, address string) error { return m.bannedAt(m.agent, service, address) }

func (m *mesh) bannedAt(port int, service, address string) error {
	a := m.query(port, "ban_info^"+service)
	if a.status != http.StatusOK || !strings.Contains(a.body, address) {
		return fmt.Errorf("%s is not banned: %d %s", address, a.status, a.body)
	}
	return nil
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := startMesh(t, service("shop-web", "protocol: http", newBackend(t, "one")))
	eventually(t, time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	m.mustGet("shop-web", "/")
	eventually(t, time.Second, func() error { _, err := m.lookup("shop-web"); return err })

	f := func(port int, wanted ...string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := m.do(req)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("status %d, %v", a.status, err)
		}
		for _, want := range wanted {
			if !strings.Contains(a.body, want) {
				t.Errorf("port %d has no %s in:\n%s", port, want, ufcLines(a.body))
			}
		}
	}
	f(m.admin, `ufc_requests_total{callee="shop-web",caller="`, `ufc_attempts_total{callee="shop-web",result="ok"}`,
		"ufc_config_revision ", "ufc_services 1", "ufc_instances 1", "caddy_http_requests_total")
	f(m.metrics, "ufc_config_revision ", "ufc_config_age_seconds ", "ufc_services 1", "ufc_instances 1", "coredns_dns_requests_total")
}

func ufcLines(metrics string) string {
	var lines strings.Builder
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "ufc_") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}
