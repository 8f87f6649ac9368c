package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The Caddy that xcaddy builds from this checkout has the modules, and runs the top folder's configuration.
func TestXcaddy(t *testing.T) {
	t.Parallel()
	if output, code := run(t, 15*time.Minute, nil, "", "make", "xcaddy"); code != 0 {
		t.Fatalf("make xcaddy: exit code %d\n%s", code, output)
	}
	const binary = "bin/xcaddy-caddy"
	hasModules(t, binary)

	m := newMesh(t)
	data, err := os.ReadFile(filepath.Join(top, "xcaddy.Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	// The path has a name that tells Caddy the file's language, and the file is the one of the top folder, unedited.
	config := writeFile(t, m.folder, "Caddyfile", string(data))
	m.caddy = startProcess(t, "xcaddy-caddy", m.environment(), binary, "run", "--config", config)
	m.untilUp(m.caddy, m.agent)
	m.apply(service("shop-web", "protocol: http", newBackend(t, "one")))
	eventually(t, 2*time.Second, func() error {
		a, err := m.get("shop-web", "/")
		if err != nil || a.status != http.StatusOK || a.header.Get("X-Backend") != "one" {
			return fmt.Errorf("status %d, %v", a.status, err)
		}
		return nil
	})
	m.caddy.stop()
}

func TestModules(t *testing.T) {
	t.Parallel()
	hasModules(t, "bin/caddy")

	plugins := strings.Fields(mustRun(t, nil, "", "bin/coredns", "-plugins"))
	for _, name := range strings.Fields("acl any bind bufsize cache debug errors file forward health hosts log metadata " +
		"prometheus ready reload template tls ufc whoami") {
		if !slices.Contains(plugins, name) {
			t.Errorf("bin/coredns has no plugin %q, but %q", name, plugins)
		}
	}
	if version := mustRun(t, nil, "", "bin/coredns", "-version"); !strings.Contains(version, "ufc") {
		t.Errorf("bin/coredns -version: %s", version)
	}
	if version := mustRun(t, nil, "", "bin/caddy", "version"); !strings.Contains(version, "ufc") {
		t.Errorf("bin/caddy version: %s", version)
	}
}

func hasModules(t *testing.T, binary string) {
	t.Helper()
	modules := strings.Fields(mustRun(t, nil, "", binary, "list-modules", "--skip-standard"))
	for _, want := range []string{"ufc", "http.handlers.ufc", "http.handlers.ufc_bypass", "http.reverse_proxy.transport.ufc"} {
		if !slices.Contains(modules, want) {
			t.Errorf("%s has no module %q, but %q", binary, want, modules)
		}
	}
	if help := mustRun(t, nil, "", binary, "ufc", "--help"); !strings.Contains(help, "apply") {
		t.Errorf("%s ufc --help: %s", binary, help)
	}
}
