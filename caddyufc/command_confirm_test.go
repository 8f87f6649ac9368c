package caddyufc_test

import (
	"regexp"
	"strings"
	"testing"
)

func TestConfirm(t *testing.T) {
	m := mesh{t, newPrefix()}
	matches := func(got, pattern string) {
		t.Helper()
		if ok, _ := regexp.MatchString("^"+pattern+"$", got); !ok {
			t.Errorf("%q doesn't match %s", got, pattern)
		}
	}
	matches(m.ok("", "confirm"), `at revision \d+ etcd has 0 Service documents and 0 instances\nconfirmed all that was removed up to revision \d+\n`)
	m.ok(documents, "apply", "-f", "-")
	matches(m.ok("", "confirm", "shop-web", "--dry-run"),
		`at revision \d+ etcd has 1 Service document and 2 instances of shop-web\nnothing was written: dry run\n`)
	same(t, m.get("/config/confirm/shop-web"), "")
	matches(m.ok("", "confirm", "nobody"), `at revision \d+ etcd has 0 Service documents and 0 instances of nobody\nconfirmed .*\n`)
	matches(m.get("/config/confirm/nobody"), `\{"revision":\d+,"services":0,"instances":0,"by":"[^"]+@[^"]+","at":"20[^"]+Z"\}`)

	// One of all makes the others superfluous, and none is anything for the other commands.
	m.ok("", "confirm")
	same(t, m.get("/config/confirm/nobody"), "")
	matches(m.get("/config/confirm"), `\{"revision":\d+,"services":\d,"instances":\d+,"by":.*\}`)
	before := m.ok("", "export")
	if strings.Contains(before, "revision") {
		t.Errorf("exported are %s", before)
	}
	m.ok("", "get", "services")
	m.ok("", "get", "instances")
	m.ok("", "get", "topology")

	if got := m.fails("", "confirm", "Shop"); !strings.Contains(got, `"Shop" is not a name`) {
		t.Error(got)
	}
	m.fails("", "confirm", "a", "b")
}
