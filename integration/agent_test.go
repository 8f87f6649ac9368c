package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What the tests of through mode ask of an agent, beside its answers.

// untilCurrent waits until all that is in etcd is in force in the agent, and in the DNS if it runs.
func (m *mesh) untilCurrent() {
	m.t.Helper()
	revision := m.revision()
	m.untilAt(m.agent, revision)
	if m.coredns != nil {
		m.untilAt(m.callback, revision)
	}
}

// untilAt waits until what listens on the port has taken up etcd's revision.
func (m *mesh) untilAt(port int, revision int64) {
	m.t.Helper()
	eventually(m.t, 10*time.Second, func() error {
		ctx, cancel := context.WithTimeout(m.t.Context(), 2*time.Second)
		defer cancel()
		a, err := m.tryQuery(ctx, port, "sync_info")
		if err != nil {
			return err
		}
		var answer struct {
			Sync struct{ Revision int64 } `json:"sync_info"`
		}
		if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
			return fmt.Errorf("sync_info: %d %s: %w", a.status, a.body, err)
		}
		if answer.Sync.Revision < revision {
			return fmt.Errorf("port %d is at revision %d, etcd at %d", port, answer.Sync.Revision, revision)
		}
		return nil
	})
}

// revision is etcd's.
func (m *mesh) revision() int64 {
	m.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{fmt.Sprintf("http://127.0.0.1:%d", m.etcd)}})
	if err != nil {
		m.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	response, err := client.Get(ctx, "nothing")
	if err != nil {
		m.t.Fatal(err)
	}
	return response.Header.Revision
}

// ask sends a GET through the agent, with headers given as names and values by turns. It must be answered, if only by the
// agent.
func (m *mesh) ask(service, path string, headers ...string) answer {
	m.t.Helper()
	req, err := m.request(service, path)
	if err != nil {
		m.t.Fatal(err)
	}
	return m.send(req, headers...)
}

// post is ask with a body.
func (m *mesh) post(service, path, body string, headers ...string) answer {
	m.t.Helper()
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d%s", m.agent, path), strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	return m.send(req, append(headers, "x-ufc-service-name", service)...)
}

func (m *mesh) send(req *http.Request, headers ...string) answer {
	m.t.Helper()
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	a, err := m.do(req)
	if err != nil {
		m.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return a
}

// must fails the test unless the answer has the status and the x-ufc-error, which is empty if an instance answered.
func (a answer) must(t testing.TB, status int, reason string) {
	t.Helper()
	if a.status != status || a.header.Get("X-Ufc-Error") != reason {
		t.Errorf("status %d, x-ufc-error %q; want %d, %q: %.300s", a.status, a.header.Get("X-Ufc-Error"), status, reason, a.body)
	}
}

// answers asks so often, and returns how often each backend answered. All answers must be 200.
func (m *mesh) answers(times int, service string, headers ...string) map[string]int {
	m.t.Helper()
	counts := map[string]int{}
	for range times {
		a := m.ask(service, "/", headers...)
		if a.status != http.StatusOK {
			m.t.Fatalf("GET of %s with %q: %d %s", service, headers, a.status, a.body)
		}
		counts[a.header.Get("X-Backend")]++
	}
	return counts
}

// metric is the value of a series of the agent's: ufc_retries_total{callee="shop"}. It is 0 if there is none.
func (m *mesh) metric(series string) float64 {
	m.t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", m.admin), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(m.send(req).body) {
		value, found := strings.CutPrefix(strings.TrimSpace(line), series+" ")
		if !found {
			continue
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			m.t.Fatalf("metric %s: %v", line, err)
		}
		return number
	}
	return 0
}

// untilMetric waits until a series has reached a value: what an attempt came to is counted when its response has ended.
func (m *mesh) untilMetric(series string, least float64) {
	m.t.Helper()
	eventually(m.t, 10*time.Second, func() error {
		if value := m.metric(series); value < least {
			return fmt.Errorf("%s is %v, want at least %v", series, value, least)
		}
		return nil
	})
}
