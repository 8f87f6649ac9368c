package integration

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDNSUnderLoad: no answer is lost, nor wrong, while the lists change.
func TestDNSUnderLoad(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dnsperf"); err != nil {
		t.Skip("dnsperf isn't installed (Debian: dnsperf)")
	}
	const services, each, changes = 50, 20, 10
	m := newMesh(t)
	m.startCaddy()
	m.startCoreDNS()
	list := func(round int) string {
		var b strings.Builder
		for s := range services {
			fmt.Fprintf(&b, "kind: Instances\nservice: service-%d\ninstances:\n", s)
			for n := range each {
				weight := 100
				if n == 0 {
					weight += round
				}
				fmt.Fprintf(&b, "  - {address: '10.%d.%d.%d:6379', weight: %d}\n", s, n, 1+(round+n)%2, weight)
			}
			b.WriteString("---\n")
		}
		return strings.TrimSuffix(b.String(), "---\n")
	}
	m.apply(list(0))
	eventually(t, 5*time.Second, func() error { _, err := m.lookup(fmt.Sprintf("service-%d", services-1)); return err })
	var queries strings.Builder
	for s := range services {
		fmt.Fprintf(&queries, "service-%d.%s A\nservice-%d.%s SRV\n_any._tcp.web.service-%d.%s SRV\n", s, zone, s, zone, s, zone)
	}
	file := writeFile(t, t.TempDir(), "queries", queries.String())

	done := make(chan string)
	go func() {
		output, code := run(t, time.Minute, nil, "", "dnsperf", "-s", "127.0.0.1", "-p", fmt.Sprint(m.dns), "-d", file,
			"-l", fmt.Sprint(changes), "-c", "4", "-q", "50", "-t", "5")
		done <- fmt.Sprintf("%d\n%s", code, output)
	}()
	for round := 1; ; round++ {
		select {
		case output := <-done:
			t.Log(output)
			count := func(what string) string {
				found := regexp.MustCompile(regexp.QuoteMeta(what) + `\s+(.*)`).FindStringSubmatch(output)
				if found == nil {
					t.Fatalf("no %q", what)
				}
				return found[1]
			}
			if lost := count("Queries lost:"); !strings.HasPrefix(lost, "0 ") {
				t.Errorf("lost: %s", lost)
			}
			if codes := count("Response codes:"); !regexp.MustCompile(`^NOERROR \d+ \(100\.00%\)$`).MatchString(codes) {
				t.Errorf("codes: %s", codes)
			}
			return
		case <-time.After(time.Second):
			m.apply(list(round))
		}
	}
}
