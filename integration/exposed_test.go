package integration

import (
	"strings"
	"testing"
	"time"
)

// By default only programs of the machine are let in. Where a configuration lets others in, the log says so.
func TestListenersForOthers(t *testing.T) {
	t.Parallel()
	const site, etcd, callback = "a site for the programs of this machine listens for other machines",
		"the embedded etcd has neither users nor TLS, and listens for other machines", "listens for other machines: whoever reaches it gets backends"
	f := func(caddyfile, corefile edit, want ...string) {
		t.Helper()
		m := newMesh(t)
		m.startCaddy(caddyfile)
		m.startCoreDNS(corefile)
		for _, line := range []string{site, etcd, callback} {
			wanted := false
			for _, w := range want {
				wanted = wanted || w == line
			}
			told := func() bool { return strings.Contains(m.caddy.output()+m.coredns.output(), line) }
			for end := time.Now().Add(10 * time.Second); wanted && !told() && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			}
			if told() != wanted {
				t.Errorf("%q is told: %t", line, told())
			}
		}
		m.caddy.stop()
		m.coredns.stop()
	}
	as := func(old, replacement string) edit { return replace(t, old, replacement) }
	same := edit(func(config string) string { return config })
	const fixed = "\n\tufc shop-web\n"
	f(same, same)
	f(as("bind ufc/127.0.0.1", "bind ufc/[::1] ufc/127.0.0.1"), same)
	f(as("bind ufc/127.0.0.1", "bind ufc/0.0.0.0"), as("callback 127.0.0.1:", "callback 0.0.0.0:"), site, callback)
	f(as("\tbind ufc/127.0.0.1\n", "\t# all\n"), as("callback 127.0.0.1:", "callback :"), site, callback)
	f(as("/etcd 127.0.0.1:", "/etcd 0.0.0.0:"), same, etcd)
	// A gateway is for strangers: its callee is fixed. Bypass mode beside it isn't.
	f(func(config string) string {
		config = strings.Replace(config, "\n\tufc\n", fixed, 1)
		before, rest, _ := strings.Cut(config, "\tufc_bypass /bypass {")
		_, after, _ := strings.Cut(rest, "\n\t}\n")
		return strings.Replace(before+after, "bind ufc/127.0.0.1", "bind ufc/0.0.0.0", 1)
	}, same)
	f(func(config string) string {
		return strings.Replace(strings.Replace(config, "\n\tufc\n", fixed, 1), "bind ufc/127.0.0.1", "bind ufc/0.0.0.0", 1)
	}, same, site)
}
