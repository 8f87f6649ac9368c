package integration

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ufc-mesh/ufc"

// allowed are the project's own packages, and what each may import of them. Imports point one way: what decides knows
// nothing of what carries. A package that is not here is new, and its place has to be decided.
var allowed = map[string][]string{
	"shared/model":      {},
	"shared/statistics": {},
	"shared/store":      {"shared/model"},
	"shared/catalog":    {"shared/model"},
	"shared/protect":    {"shared/model", "shared/catalog"},

	"shared/route":   {"shared/model", "shared/catalog"},
	"shared/balance": {"shared/model", "shared/catalog"},
	"shared/health":  {"shared/model", "shared/catalog", "shared/statistics"},
	"shared/fuse":    {"shared/model", "shared/catalog", "shared/statistics"},
	"shared/agent": {
		"shared/model", "shared/catalog", "shared/route", "shared/balance", "shared/health", "shared/fuse",
		"shared/statistics",
	},

	"shared/forward": brain,
	"shared/bypass":  brain,
	"shared/client":  {}, // programs link it: the standard library alone
	"shared/notify":  {"shared/model", "shared/health"},
	"shared/mesh":    append([]string{"shared/store", "shared/protect", "shared/notify"}, brain...),

	"caddyufc":                       append([]string{"caddyufc/internal/currentlog", "caddyufc/internal/sharedsocket"}, face...),
	"caddyufc/internal/currentlog":   {},
	"caddyufc/internal/sharedsocket": {},
	"caddyufc/embeddedetcd":          append([]string{"caddyufc", "caddyufc/internal/currentlog"}, face...),
	"corednsufc":                     face,

	"builds/caddy":            {"caddyufc", "caddyufc/embeddedetcd"},
	"builds/coredns":          {"corednsufc"},
	"builds/run":              {"shared/model"},
	"integration/bench":       {},                               // it measures the binaries, from outside
	"integration/bench/scale": {"shared/model", "shared/store"}, // a thousand agents in one process: their stores alone
	"integration/chaos":       {},                               // it breaks the binaries, from outside
	"integration":             {"shared/client"},                // it tests the binaries, from outside, as a program would
	// It drives the agent as a face does, without sockets.
	"integration/scenarios": brain,
}

var (
	brain = []string{"shared/model", "shared/catalog", "shared/health", "shared/agent"}
	face  = append([]string{"shared/store", "shared/mesh", "shared/forward", "shared/bypass"}, brain...)
)

// allowedInTests is what tests may import beyond it: real servers instead of mocks.
var allowedInTests = map[string][]string{
	"caddyufc":     {"caddyufc/embeddedetcd"},
	"shared/store": {"shared/catalog", "shared/protect"},
}

// forbidden are other modules, by prefix, and the packages that may import them nevertheless, in their tests too.
var forbidden = []struct {
	prefix string
	but    []string
	tests  []string // may import it in their tests only
}{
	{"github.com/caddyserver/", []string{"caddyufc", "caddyufc/embeddedetcd", "caddyufc/internal/currentlog", "caddyufc/internal/sharedsocket", "builds/caddy"}, nil},
	{"github.com/coredns/", []string{"corednsufc", "builds/coredns"}, nil},
	{"go.etcd.io/etcd/client", []string{"shared/store", "integration/bench/scale"}, []string{"shared/mesh", "caddyufc", "caddyufc/embeddedetcd", "corednsufc", "integration", "integration/chaos"}},
	{"go.etcd.io/etcd/server", []string{"caddyufc/embeddedetcd", "integration/bench/scale"}, []string{"shared/store", "shared/mesh", "caddyufc", "corednsufc", "integration", "integration/chaos"}},
}

// goPackage is what go list tells about one.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func TestImportDirection(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		own, known := allowed[name]
		if !known {
			t.Errorf("package %s is new: give it a place in the direction of imports, in %s", name, "integration/imports_test.go")
			continue
		}
		tests := slices.Concat(p.TestImports, p.XTestImports)
		for _, imported := range slices.Concat(p.Imports, tests) {
			ours, found := strings.CutPrefix(imported, module+"/")
			inTests := slices.Contains(allowedInTests[name], ours) && !slices.Contains(p.Imports, imported)
			if found && ours != name && !slices.Contains(own, ours) && !inTests {
				t.Errorf("%s imports %s; it may import %q", name, ours, own)
			}
		}
		for _, rule := range forbidden {
			if slices.Contains(rule.but, name) {
				continue
			}
			for _, imported := range p.Imports {
				if strings.HasPrefix(imported, rule.prefix) {
					t.Errorf("%s imports %s; only %q may", name, imported, rule.but)
				}
			}
			for _, imported := range tests {
				if strings.HasPrefix(imported, rule.prefix) && !slices.Contains(rule.tests, name) {
					t.Errorf("the tests of %s import %s; only those of %q may", name, imported, slices.Concat(rule.but, rule.tests))
				}
			}
		}
		// Not by a detour either.
		for _, dependency := range p.Deps {
			if strings.HasPrefix(name, "shared/") && (strings.HasPrefix(dependency, "github.com/caddyserver/caddy") || strings.HasPrefix(dependency, "github.com/coredns/")) {
				t.Errorf("%s depends on %s", name, dependency)
			}
		}
	}
}

// The table itself points one way.
func TestImportTableHasNoCycles(t *testing.T) {
	t.Parallel()
	var visit func(name string, path []string)
	visit = func(name string, path []string) {
		if slices.Contains(path, name) {
			t.Fatalf("a cycle: %q", append(path, name))
		}
		for _, next := range allowed[name] {
			if _, known := allowed[next]; !known {
				t.Errorf("%s may import %s, which has no line", name, next)
			}
			visit(next, append(slices.Clone(path), name))
		}
	}
	for name := range maps.Keys(allowed) {
		visit(name, nil)
	}
}

func goList(t *testing.T, patterns ...string) []goPackage {
	t.Helper()
	output := mustRun(t, nil, "", append([]string{"go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps"}, patterns...)...)
	var packages []goPackage
	decoder := json.NewDecoder(strings.NewReader(output))
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("go list: %v in\n%s", err, output)
		}
		packages = append(packages, p)
	}
}
