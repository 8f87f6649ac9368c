package integration

import (
	"fmt"
	"net/http"
	"testing"
)

// The line view: one callee, and what differs for some callers.
func TestCallerOverrides(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startAgent(t, registered("shop", never+`
retries: {budget: 1}
callers:
  - {match: [hasty-*], timeouts: {normal: {read: 200ms}}, retries: {normal: {attempts: 0}}}
  - {match: [once], retries: {normal: {attempts: 0}}}
  - {match: [tester], routes: [{split: [{labels: {version: v2}}]}]}`,
		one.with("labels: {version: v1}"), two.with("labels: {version: v2}"))+
		"---\n{kind: Service, name: once, protocol: tcp}\n---\n{kind: Service, name: hasty-batch, protocol: tcp}\n")
	from := func(caller string) []string {
		if caller == "" {
			return nil
		}
		return []string{"x-ufc-self-service-name", caller}
	}

	// A time limit for some.
	f := func(caller, path string, status int, reason string) {
		t.Helper()
		m.ask("shop", path, from(caller)...).must(t, status, reason)
	}
	f("hasty-batch", "/?delay=30s", http.StatusGatewayTimeout, "read")
	f("hasty-batch", "/", http.StatusOK, "")
	for _, caller := range []string{"", "once", "tester", "hasty"} {
		f(caller, "/?delay=500ms", http.StatusOK, "")
	}

	// No retries for another: of ten, five meet the failing instance first.
	for caller, want := range map[string]int{"once": 5, "somebody": 0, "": 0} {
		failed := 0
		for range 10 {
			if m.ask("shop", "/?abort=1&at=one", from(caller)...).status != http.StatusOK {
				failed++
			}
		}
		if failed != want {
			t.Errorf("caller %q: %d of 10 failed, want %d", caller, failed, want)
		}
	}

	// A route for a third.
	m.want("tester", "shop", 20, map[string]int{"two": 20}, from("tester")...)
	for _, caller := range []string{"", "once", "somebody"} {
		m.want(caller, "shop", 20, map[string]int{"one": 8, "two": 8}, from(caller)...)
	}

	// Each line is counted by itself, under the names that documents know.
	for line, want := range map[string]float64{`caller="once",code="502"`: 5, `caller="hasty-batch",code="504"`: 1} {
		if got := m.metric(fmt.Sprintf(`ufc_requests_total{callee="shop",%s,idc=""}`, line)); got != want {
			t.Errorf("%s: %v counted, want %v", line, got, want)
		}
	}
}
