package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// within measures how long a change takes to be seen, from the end of the command that made it.
func within(t *testing.T, limit time.Duration, what string, seen func() error) {
	t.Helper()
	start := time.Now()
	eventually(t, limit, seen)
	t.Logf("%s: seen after %s", what, time.Since(start).Round(time.Millisecond))
}

func TestChangesAreSeenWithinASecond(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startMesh(t, service("shop-web", "protocol: http", one))
	eventually(t, 2*time.Second, func() error { _, err := m.lookupOK("shop-web"); return err })
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("shop-web"); return err })

	through := func(want string) func() error {
		return func() error {
			if got := m.mustGet("shop-web", "/"); got != want {
				return fmt.Errorf("%s answers, want %s", got, want)
			}
			return nil
		}
	}
	handedOut := func(port int, want string) func() error {
		return func() error {
			list, err := m.backends(port, "shop-web", "&n=100")
			if err != nil || len(list) != 1 || list[0].Backend != want {
				return fmt.Errorf("handed out %v, want %s, %v", list, want, err)
			}
			return nil
		}
	}
	m.apply(service("shop-web", "protocol: http", two))
	within(t, time.Second, "a change of the instances, through", through("two"))
	within(t, time.Second, "… of all of them", handedOut(m.agent, two.address)) // the removal comes after the addition
	within(t, time.Second, "a change of the instances, bypass", handedOut(m.callback, two.address))
	for range 10 {
		if got := m.mustGet("shop-web", "/"); got != "two" {
			t.Errorf("the removed instance answers: %s", got)
		}
	}

	m.apply(documents("new", "protocol: tcp", "127.0.0.9:99"))
	within(t, time.Second, "a new service, DNS", func() error { _, err := m.lookup("new"); return err })
	within(t, time.Second, "a new service, agent", func() error { _, err := m.backends(m.agent, "new", ""); return err })

	// A change of the policy alone.
	m.apply("{kind: Service, name: shop-web, host: other.example.test}")
	within(t, time.Second, "a change of the policy", func() error {
		a, err := m.get("shop-web", "/")
		if err != nil || a.header.Get("Got-Host") != "other.example.test" {
			return fmt.Errorf("the callee got host %q, %v", a.header.Get("Got-Host"), err)
		}
		return nil
	})

	for _, kind := range []string{"instances", "service"} {
		mustRun(t, m.environment(), "", "bin/caddy", "ufc", "delete", kind, "shop-web")
	}
	within(t, time.Second, "a deleted service, through", func() error {
		a, err := m.get("shop-web", "/")
		if err != nil || a.status != http.StatusNotFound {
			return fmt.Errorf("status %d, %v", a.status, err)
		}
		return nil
	})
	within(t, time.Second, "a deleted service, DNS", func() error {
		if d := m.dig("shop-web."+zone, "A"); d.status != "NXDOMAIN" {
			return fmt.Errorf("status %s", d.status)
		}
		return nil
	})
}

func TestCLI(t *testing.T) {
	t.Parallel()
	m := startMesh(t, service("shop-web", "owner: web team", newBackend(t, "one")))
	command := func(stdin string, arguments ...string) (string, int) {
		return run(t, 30*time.Second, m.environment(), stdin, append([]string{"bin/caddy", "ufc"}, arguments...)...)
	}
	succeeds := func(stdin, want string, arguments ...string) {
		t.Helper()
		if output, code := command(stdin, arguments...); code != 0 || !contains(output, want) {
			t.Errorf("caddy ufc %q: exit code %d, want %q in\n%s", arguments, code, want, output)
		}
	}
	fails := func(stdin, want string, arguments ...string) {
		t.Helper()
		if output, code := command(stdin, arguments...); code == 0 || !contains(output, want) {
			t.Errorf("caddy ufc %q: exit code %d, want %q in\n%s", arguments, code, want, output)
		}
	}
	succeeds("", "shop-web", "get", "services")
	succeeds("", "web team", "get", "service", "shop-web", "-o", "yaml")
	succeeds("", "127.0.0.1:", "get", "instances", "shop-web")
	succeeds("", "kind: Instances", "export")
	succeeds("", "", "validate", "-f", "examples")

	// What is exported can be applied, and changes nothing.
	exported, code := command("", "export")
	if code != 0 {
		t.Fatal(exported)
	}
	succeeds(exported, "unchanged", "apply", "-f", "-")

	fails("{kind: Service, name: x, ban: {max_ratio: 1.2}}", "ban.max_ratio", "validate", "-f", "-")
	fails("{kind: Service, name: x, ban: {max_ratio: 1.2}}", "1.2", "apply", "-f", "-")
	fails("{kind: Service, name: x, colour: red}", "colour", "apply", "-f", "-")
	fails("kind: Instances\nservice: x\ninstances:\n- {address: '1.2.3.4:70000'}\n", "70000", "apply", "-f", "-")
	fails("{kind: Service, name: x}\n---\n{kind: Service, name: x}", "x", "apply", "-f", "-")
	fails("", "no-such", "apply", "-f", "no-such-file.yaml")
	// One bad document, and nothing is written.
	fails("{kind: Service, name: good}\n---\n{kind: Service, name: BAD}", "BAD", "apply", "-f", "-")
	if output, _ := command("", "get", "services"); contains(output, "good") {
		t.Errorf("a document beside a bad one was written:\n%s", output)
	}
	fails("", "127.0.0.1:1", "get", "services", "--etcd", "http://127.0.0.1:1")
}
