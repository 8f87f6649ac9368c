package caddyufc_test

import (
	"errors"
	"net/http"
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

// An agent with protect serves on when everything is deleted, until somebody confirms.
func TestProtect(t *testing.T) {
	m := mesh{t, newPrefix()}
	address := freeAddress(t)
	url, callee := "http://"+address+"/", "x-ufc-service-name: web"
	m.ok("kind: Service\nname: web\n---\n"+instances("web", backend(t, named("one")), backend(t, named("two"))), "apply", "-f", "-")
	load(t, ufcOption(m.prefix, "protect 50%"), site(address, "ufc_bypass /bypass {\n\t\ttoken t\n\t}\n\tufc"))
	answers(t, url, http.StatusOK, callee)
	held := func() string {
		_, info, _ := strings.Cut(ask(t, "GET", url+"bypass?command=query&ar=sync_info", "", "token: t").body, `"held":`)
		return info
	}
	m.ok("", "delete", "instances", "web")
	m.ok("", "delete", "service", "web")
	eventually(t, func() error {
		if info := held(); !strings.HasPrefix(info, `{"instances":2,"services":1,`) {
			return errors.New(info)
		}
		return nil
	})
	for range 10 {
		answers(t, url, http.StatusOK, callee)
	}
	m.ok("", "confirm", "other")
	m.ok("", "confirm", "web")
	answers(t, url, http.StatusNotFound, callee)
	if info := held(); !strings.HasPrefix(info, `{"instances":0,"services":0,`) {
		t.Error(info)
	}
}
