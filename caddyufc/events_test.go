package caddyufc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

func init() { caddy.RegisterModule(heard{}) }

// heard is an event handler that remembers what it is told.
type heard struct{}

var events struct {
	sync.Mutex
	of map[string][]map[string]any
}

// CaddyModule returns the Caddy module information.
func (heard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.ufc_test_heard", New: func() caddy.Module { return new(heard) }}
}

// Handle implements caddyevents.Handler.
func (heard) Handle(_ context.Context, e caddy.Event) error {
	events.Lock()
	defer events.Unlock()
	if events.of == nil {
		events.of = map[string][]map[string]any{}
	}
	events.of[e.Name()] = append(events.of[e.Name()], e.Data)
	return nil
}

var _ caddyevents.Handler = heard{}

func heardOf(name, service string) (list []map[string]any) {
	events.Lock()
	defer events.Unlock()
	for _, data := range events.of[name] {
		if data["service"] == service {
			list = append(list, data)
		}
	}
	return list
}

// A ban is an event of Caddy's, once, also after the configuration was replaced.
func TestBansAreEvents(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	service := fmt.Sprintf("web-%d", time.Now().UnixNano())
	one, two := backend(t, named("one")), backend(t, named("two"))
	apply(t, prefix, instances(service, one, two))
	for range 2 {
		loadWithEvents(t, ufcOption(prefix, ""), site(agent, "ufc_bypass /bypass {\n\t\ttoken secret\n\t}\n\tufc"))
	}
	url := "http://" + agent
	answers(t, url, 200, "x-ufc-service-name: "+service)
	ban(t, url+"/bypass", service, one)
	deadline := time.Now().Add(10 * time.Second)
	for len(heardOf("ufc_banned", service)) == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	list := heardOf("ufc_banned", service)
	if len(list) != 1 || list[0]["instance"] != one || list[0]["reason"] != "requests" || list[0]["rule"] == "" {
		t.Errorf("heard %v", list)
	}
}

// loadWithEvents loads a Caddyfile with a subscription of the app's bans.
func loadWithEvents(t *testing.T, global, sites string) {
	t.Helper()
	adapted, err := adapt(caddyfileOf(t, global, sites))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	var config map[string]any
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config["apps"].(map[string]any)["events"] = map[string]any{"subscriptions": []any{map[string]any{
		"events": []string{"ufc_banned", "ufc_avalanche", "ufc_fuse", "ufc_avalanche_over"}, "modules": []string{"ufc"},
		"handlers": []any{map[string]any{"handler": "ufc_test_heard"}},
	}}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(text, true); err != nil {
		t.Fatal(err)
	}
}

// report posts five results for each backend, as programs do.
func report(t *testing.T, url, service, result string, backends ...string) {
	t.Helper()
	list := "["
	for range 5 {
		for _, backend := range backends {
			list += fmt.Sprintf(`{"service":%q,"backend":%q,"result":%q,"latency_ms":1},`, service, backend, result)
		}
	}
	ask(t, "POST", url+"/bypass?command=callback", strings.TrimSuffix(list, ",")+"]", "Content-Type: application/json")
	time.Sleep(20 * time.Millisecond)
}

// The beginning and the end of an avalanche are events, and what the fuse changes in between isn't.
func TestAvalanchesAreEvents(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	service := fmt.Sprintf("slow-%d", time.Now().UnixNano())
	one, two := backend(t, named("one")), backend(t, named("two"))
	apply(t, prefix, instances(service, one, two))
	loadWithEvents(t, ufcOption(prefix, ""), site(agent, "ufc_bypass /bypass {\n\t\ttoken secret\n\t}\n\tufc"))
	url := "http://" + agent
	answers(t, url, 200, "x-ufc-service-name: "+service)
	info := func() string {
		t.Helper()
		return ask(t, "GET", url+"/bypass?command=query&ar=fuse_info^"+service, "", "token: secret").body
	}
	if before := info(); !strings.HasPrefix(before, `{"fuse_info":{"`+service+`":{"avalanche":false,`) {
		t.Errorf("before: %s", before)
	}
	report(t, url, service, "ok", one, two) // who reports failures only isn't believed that all fails
	eventually(t, func() error {
		report(t, url, service, "read_timeout", one, two)
		if list := heardOf("ufc_avalanche", service); len(list) != 1 || list[0]["rule"] == "" || list[0]["inputs"] == nil || list[0]["instance"] != nil {
			return fmt.Errorf("heard %v", list)
		}
		return nil
	})
	if during := info(); !strings.Contains(during, `"avalanche":true,`) || !strings.Contains(during, `"kind":"avalanche"`) {
		t.Errorf("in the avalanche: %s", during)
	}
	for begun := time.Now(); time.Since(begun) < 10*time.Second && !strings.Contains(info(), `"kind":"fuse"`); {
		report(t, url, service, "read_timeout", one, two)
	}
	for deadline := time.Now().Add(30 * time.Second); len(heardOf("ufc_avalanche_over", service)) == 0; report(t, url, service, "ok", one, two) {
		if time.Now().After(deadline) {
			t.Fatalf("no end: %s", info())
		}
	}
	if list := heardOf("ufc_fuse", service); len(list) > 0 {
		t.Errorf("%d events of the rate", len(list))
	}
	if !strings.Contains(info(), `"kind":"fuse"`) {
		t.Errorf("the rate has never changed: %s", info())
	}
}

// While configurations replace each other, each ban is an event once: neither of two that overlap emits what the other
// does, and none is lost in between.
func TestEachBanIsOneEventAcrossReloads(t *testing.T) {
	const services = 20
	prefix, agent, documents := newPrefix(), freeAddress(t), ""
	one, two := backend(t, named("one")), backend(t, named("two"))
	names := make([]string, services)
	for n := range names {
		names[n] = fmt.Sprintf("shop-%d-%d", time.Now().UnixNano(), n)
		documents += instances(names[n], one, two)
	}
	apply(t, prefix, documents)
	listener := strings.Replace(site(agent, "ufc_bypass /bypass\n\tufc"), "bind ", "bind ufc/", 1)
	replace := func(round int) {
		loadWithEvents(t, ufcOption(prefix, fmt.Sprintf("idc round-%d", round)), listener)
	}
	replace(0)
	url := "http://" + agent
	for _, name := range names {
		answers(t, url, 200, "x-ufc-service-name: "+name)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for _, name := range names {
			for range 10 { // the sequential test needs 7 among sound ones
				report := fmt.Sprintf("service=%s&backend=%s&result=read_timeout", name, one)
				eventually(t, func() error {
					_, err := tryAsk(t.Context(), http.DefaultClient, "POST", url+"/bypass?command=callback", report,
						"Content-Type: application/x-www-form-urlencoded", "Connection: close")
					return err
				})
			}
		}
	})
	for round := range 10 {
		replace(round + 1)
	}
	wait.Wait()
	for _, name := range names {
		eventually(t, func() error {
			if n := len(heardOf("ufc_banned", name)); n != 1 {
				return fmt.Errorf("%d events of the ban in %s", n, name)
			}
			return nil
		})
	}
}
