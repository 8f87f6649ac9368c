package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDNS(t *testing.T) {
	t.Parallel()
	m := startMesh(t, documents("v4", "protocol: tcp", "127.0.0.2:6379")+"---\n"+
		documents("v6", "protocol: tcp", "[::1]:6380")+"---\n"+
		documents("empty", "protocol: tcp"))
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("empty"); return err })

	f := func(name, qtype, status string, answers ...string) dug {
		t.Helper()
		d := m.dig(name+"."+zone, qtype)
		if d.status != status || !slices.Equal(d.answers, answers) {
			t.Errorf("dig %s %s: %s %q, want %s %q\n%s", name, qtype, d.status, d.answers, status, answers, d.text)
		}
		return d
	}
	f("v4", "A", "NOERROR", "127.0.0.2")
	f("v6", "AAAA", "NOERROR", "::1")
	f("some-caller.v4", "A", "NOERROR", "127.0.0.2")

	// SRV names the port, and a target whose address comes along, and can be asked for.
	for _, name := range []string{"v4", "caller.v4", "_v4._tcp", "_redis._tcp.v4", "_redis._tcp.caller.v4"} {
		d := m.dig(name+"."+zone, "SRV")
		if len(d.answers) != 1 || len(strings.Fields(d.answers[0])) != 4 || strings.Fields(d.answers[0])[2] != "6379" {
			t.Errorf("dig %s SRV: %s", name, d.text)
			continue
		}
		target := strings.Fields(d.answers[0])[3]
		if want := target + " 0 IN A 127.0.0.2"; !slices.Contains(d.additional, want) {
			t.Errorf("dig %s SRV: the additional section has no %q: %s", name, want, d.text)
		}
		f(strings.TrimSuffix(target, "."+zone+"."), "A", "NOERROR", "127.0.0.2")
	}

	// Known, but nothing of the type; known, but empty; and names on the way to others.
	f("v4", "AAAA", "NOERROR")
	f("v6", "A", "NOERROR")
	f("v4", "TXT", "NOERROR")
	f("empty", "A", "NOERROR")
	f("_tcp", "A", "NOERROR")
	if d := m.dig("v4."+zone, "AAAA"); !strings.Contains(d.text, "SOA") {
		t.Errorf("NODATA without SOA: %s", d.text)
	}
	f("unknown", "A", "NXDOMAIN")
	f("unknown", "SRV", "NXDOMAIN")
	if d := m.dig("v4."+zone, "A"); !strings.Contains(d.text, "\t0\tIN\tA\t") {
		t.Errorf("the TTL is not 0: %s", d.text)
	}
	// Over TCP too.
	if d := m.dig("+tcp", "v4."+zone, "A"); !slices.Equal(d.answers, []string{"127.0.0.2"}) {
		t.Errorf("over TCP: %s", d.text)
	}
}

func TestBypassHTTP(t *testing.T) {
	t.Parallel()
	m := startMesh(t, documents("redis-main", "protocol: tcp\nban: {duration: 1m, requests: {failures: 3, of: 10}}", "127.0.0.2:6379", "127.0.0.3:6379"))
	for _, port := range []int{m.agent, m.callback} {
		backends := func(extra string) []backendAnswer {
			t.Helper()
			var list []backendAnswer
			eventually(t, 2*time.Second, func() error {
				var err error
				list, err = m.backends(port, "redis-main", extra)
				return err
			})
			return list
		}
		first := backends("")
		if len(first) != 1 || first[0].ID == "" || !strings.HasSuffix(first[0].Backend, ":6379") {
			t.Fatalf("get: %+v", first)
		}
		if two := backends("&n=2"); len(two) != 2 || two[0].Backend == two[1].Backend {
			t.Errorf("get with n=2: %+v", two)
		}

		// An id is good once.
		post := func(body string) answer {
			t.Helper()
			req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/bypass?command=callback", port), strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			a, err := m.do(req)
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		byID := fmt.Sprintf(`{"service": "redis-main", "id": %q, "result": "ok", "latency_ms": 2}`, first[0].ID)
		if a := post(byID); a.status != http.StatusNoContent {
			t.Errorf("callback by id: %d %s", a.status, a.body)
		}
		_ = post(byID) // whatever it is answered
		if a := m.query(port, "backend_info^redis-main^"+first[0].Backend); !strings.Contains(a.body, `"ok":1`) {
			t.Errorf("two callbacks by one id, which counts once: %s", a.body)
		}

		// Bad ones name the field.
		for field, body := range map[string]string{
			"result":  `{"service": "redis-main", "backend": "127.0.0.2:6379", "result": "fine"}`,
			"backend": `{"service": "redis-main", "backend": "nonsense", "result": "ok"}`,
			"service": `{"backend": "127.0.0.2:6379", "result": "ok"}`,
		} {
			if a := post(body); a.status != http.StatusBadRequest || !strings.Contains(a.body, field) {
				t.Errorf("callback %s: %d %s", body, a.status, a.body)
			}
		}
		if a := post(`not JSON`); a.status != http.StatusBadRequest {
			t.Errorf("a callback that is no JSON: %d %s", a.status, a.body)
		}

		// Failures ban by count alone too, here without a refused connection.
		for range 3 {
			if a := m.report(port, "redis-main", "127.0.0.3:6379", "read_timeout"); a.status != http.StatusNoContent {
				t.Fatalf("callback: %d %s", a.status, a.body)
			}
		}
		eventually(t, time.Second, func() error { return m.bannedAt(port, "redis-main", "127.0.0.3:6379") })
		for range 10 {
			if list := backends(""); list[0].Backend != "127.0.0.2:6379" {
				t.Fatalf("the banned instance was handed out: %+v", list)
			}
		}
	}

	// The memory is open only to those with the token.
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/bypass?command=query&ar=sync_info", m.agent), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := m.do(req); err != nil || a.status < 400 {
		t.Errorf("query without a token: %d %s, %v", a.status, a.body, err)
	}
	for _, selector := range []string{"sync_info", "config_info^redis-main", "backend_info^redis-main", "request_info^redis-main"} {
		a := m.query(m.callback, selector)
		var object map[string]any
		if err := json.Unmarshal([]byte(a.body), &object); err != nil || a.status != http.StatusOK || len(object) != 1 {
			t.Errorf("query %s: %d %s", selector, a.status, a.body)
			continue
		}
		if first, _, _ := strings.Cut(selector, "^"); object[first] == nil {
			t.Errorf("query %s: %s", selector, a.body)
		}
	}
	if a := m.query(m.agent, "nonsense^x"); a.status < 400 || a.status >= 500 {
		t.Errorf("a query of nonsense: %d %s", a.status, a.body)
	}
}

type backendAnswer struct {
	Backend string
	ID      string
	Weight  int
}

// backends asks for a backend by HTTP.
func (m *mesh) backends(port int, service, extra string) ([]backendAnswer, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/bypass?command=get&service=%s%s", port, service, extra), nil)
	if err != nil {
		return nil, err
	}
	a, err := m.do(req)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("get %s: %d %s", service, a.status, a.body)
	}
	var list struct{ Backends []backendAnswer }
	err = json.Unmarshal([]byte(a.body), &list)
	return list.Backends, err
}
