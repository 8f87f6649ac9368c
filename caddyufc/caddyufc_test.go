package caddyufc_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
)

func TestThroughMode(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	seen := make(chan *http.Request, 10)
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		named("one")(w, r)
	})
	dead := freeAddress(t)
	apply(t, prefix, instances("web", echo, backend(t, named("two")))+instances("gone", dead)+
		instances("half", dead, backend(t, named("alive")))+
		"---\nkind: Service\nname: empty\n---\nkind: Service\nname: redis\nprotocol: tcp\n"+instances("redis", dead))
	load(t, ufcOption(prefix, ""), site(agent, "ufc"))
	url := "http://" + agent
	answers(t, url+"/path?query", http.StatusOK, "x-ufc-service-name: web", "x-ufc-self-service-name: app")
	answers(t, url+"/path?query", http.StatusOK, "x-ufc-service-name: web", "x-ufc-self-service-name: app")

	r := <-seen
	if r.RequestURI != "/path?query" || r.Host != agent || r.Header.Get("X-Ufc-Service-Name") != "web" ||
		r.Header.Get("X-Ufc-Self-Service-Name") != "app" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("the instance got %s %s %v", r.Host, r.RequestURI, r.Header)
	}
	names := map[string]int{}
	for range 10 {
		names[ask(t, "GET", url, "", "x-ufc-service-name: web").body]++
	}
	if names["one"] < 3 || names["two"] < 3 { // each processor takes turns of its own
		t.Errorf("round robin gave %v", names)
	}
	for range 4 {
		if answer := ask(t, "POST", url, "x", "x-ufc-service-name: half"); answer.body != "alive" {
			t.Errorf("with one dead instance of two: %s %q", answer.Status, answer.body)
		}
	}

	f := func(status int, reason string, headers ...string) {
		t.Helper()
		answer := ask(t, "GET", url, "", headers...)
		var problem struct{ Status int }
		if err := json.Unmarshal([]byte(answer.body), &problem); err != nil {
			t.Errorf("%v: the body is no problem: %v", headers, err)
		}
		if answer.StatusCode != status || problem.Status != status || answer.Header.Get("X-Ufc-Error") != reason ||
			answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: %s %v %s, not %d %s", headers, answer.Status, answer.Header, answer.body, status, reason)
		}
	}
	f(http.StatusBadRequest, "no_callee")
	f(http.StatusBadRequest, "no_callee", "x-ufc-service-name: ")
	f(http.StatusBadRequest, "bad_request", "x-ufc-service-name: web", "x-ufc-service-name: gone")
	f(http.StatusBadRequest, "bad_request", "x-ufc-service-name: web", "x-ufc-class: 8")
	f(http.StatusNotFound, "unknown_service", "x-ufc-service-name: unheard-of")
	f(http.StatusServiceUnavailable, "no_instance", "x-ufc-service-name: empty")
	f(http.StatusBadGateway, "connect", "x-ufc-service-name: gone")
	f(http.StatusBadGateway, "protocol", "x-ufc-service-name: redis")
}

func TestGateway(t *testing.T) {
	prefix, open, debug := newPrefix(), freeAddress(t), freeAddress(t)
	seen := make(chan http.Header, 10)
	address := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.Header().Set("X-Ufc-Backend", "forged")
		w.Header().Set("X-Ufc-Error", "forged")
	})
	apply(t, prefix, instances("shop-web", address))
	t.Setenv("UFC_TEST_SHOP", "shop-web")
	load(t, ufcOption(prefix, ""), site(open, "ufc {env.UFC_TEST_SHOP} {\n\t\tfrom edge\n\t}")+
		site(debug, "ufc shop-web {\n\t\tdebug\n\t}"))
	forged := []string{
		"x-ufc-service-name: other", "x-ufc-self-service-name: root", "x-ufc-class: 7", "x-ufc-idc: x", "x-ufc-trace-id: y",
	}
	answers(t, "http://"+open, http.StatusOK, forged...)
	for name, values := range <-seen {
		want := map[string]string{"X-Ufc-Service-Name": "shop-web", "X-Ufc-Self-Service-Name": "edge", "X-Ufc-Attempt": "0"}
		if strings.HasPrefix(name, "X-Ufc-") && (len(values) != 1 || values[0] != want[name]) {
			t.Errorf("the instance got %s: %v", name, values)
		}
	}
	answer := ask(t, "GET", "http://"+open, "", forged...)
	if answer.Header["X-Ufc-Backend"] != nil || answer.Header["X-Ufc-Error"] != nil {
		t.Errorf("an instance may speak for the agent: %v", answer.Header)
	}
	if got := ask(t, "GET", "http://"+debug, "").Header["X-Ufc-Backend"]; len(got) != 1 || got[0] != address {
		t.Errorf("x-ufc-backend with debug: %v", got)
	}
}

func TestTransport(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	seen := make(chan *http.Request, 10)
	address := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.Header().Set("Trailer", "X-Sum")
		named("body")(w, r)
		w.Header().Set("X-Sum", "4")
	})
	apply(t, prefix, instances("shop", freeAddress(t), address)+instances("gone", freeAddress(t))+"---\nkind: Service\nname: empty\n")
	load(t, ufcOption(prefix, ""), site(agent, `
	handle /shop* {
		reverse_proxy ufc:80 {
			header_up x-added {method}
			transport ufc {
				service shop
				from edge
			}
		}
	}
	handle /gone {
		reverse_proxy ufc:80 {
			lb_retries 3
			transport ufc {
				service gone
			}
		}
	}
	handle /empty {
		reverse_proxy ufc:80 {
			@refused status 503
			handle_response @refused {
				respond "please wait: {rp.header.X-Ufc-Error}" 500
			}
			transport ufc {
				service empty
			}
		}
	}
	handle /unknown {
		reverse_proxy ufc:80 {
			transport ufc {
				service unheard-of
			}
		}
	}`))
	url := "http://" + agent
	answers(t, url+"/shop", http.StatusOK)
	answer := ask(t, "PUT", url+"/shop/x?y", "upload", "x-ufc-self-service-name: forged", "x-ufc-trace-id: forged")
	if answer.body != "body" || answer.Trailer.Get("X-Sum") != "4" {
		t.Errorf("%s %q %v", answer.Status, answer.body, answer.Trailer)
	}
	<-seen
	r := <-seen
	if r.RequestURI != "/shop/x?y" || r.Host != agent || r.Header.Get("X-Added") != "PUT" || r.Header.Get("Via") != "1.1 Caddy" ||
		r.Header.Get("X-Ufc-Service-Name") != "shop" || r.Header.Get("X-Ufc-Self-Service-Name") != "edge" ||
		r.Header["X-Ufc-Trace-Id"] != nil {
		t.Errorf("the instance got %s %s %v", r.Host, r.RequestURI, r.Header)
	}

	f := func(path string, status int, reason, body string) {
		t.Helper()
		answer := ask(t, "GET", url+path, "")
		if answer.StatusCode != status || answer.Header.Get("X-Ufc-Error") != reason || !strings.Contains(answer.body, body) {
			t.Errorf("%s: %s %v %q, not %d %s %q", path, answer.Status, answer.Header, answer.body, status, reason, body)
		}
	}
	f("/gone", http.StatusBadGateway, "connect", `"status":502`)
	f("/unknown", http.StatusNotFound, "unknown_service", `"status":404`)
	f("/empty", http.StatusInternalServerError, "", "please wait: no_instance")
}

// TestTransportRoutes checks that routes see the request as reverse_proxy sends it.
func TestTransportRoutes(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	apply(t, prefix, fmt.Sprintf(`
kind: Service
name: web
routes:
  - match: {methods: [PUT], path: /inner/*, headers: {x-added: {equal: "1"}}}
    split: [{labels: {version: v2}, weight: 1}]
  - split: [{labels: {version: v1}, weight: 1}]
---
kind: Instances
service: web
instances: [{address: %q, labels: {version: v1}}, {address: %q, labels: {version: v2}}]
`, backend(t, named("v1")), backend(t, named("v2"))))
	load(t, ufcOption(prefix, ""), site(agent, `rewrite /outer/* /inner{uri}
	reverse_proxy ufc:80 {
		header_up x-added 1
		transport ufc {
			service web
		}
	}`))
	url := "http://" + agent
	answers(t, url, http.StatusOK)
	f := func(method, path, want string) {
		t.Helper()
		for range 4 {
			if answer := ask(t, method, url+path, ""); answer.body != want {
				t.Errorf("%s %s goes to %q, not %s", method, path, answer.body, want)
			}
		}
	}
	f("PUT", "/outer/x", "v2")
	f("GET", "/outer/x", "v1")
	f("PUT", "/other/x", "v1")
}

func TestBypass(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	one, two := freeAddress(t), backend(t, func(w http.ResponseWriter, r *http.Request) { named(r.URL.Path)(w, r) })
	apply(t, prefix, instances("redis", one, two)+instances("web", two))
	t.Setenv("UFC_TEST_TOKEN", "secret")
	load(t, ufcOption(prefix, ""), site(agent, "ufc\n\tufc_bypass /bypass {\n\t\ttoken {env.UFC_TEST_TOKEN}\n\t}"))
	url := "http://" + agent + "/bypass"
	answers(t, url+"?command=get&service=redis", http.StatusOK)
	if answer := ask(t, "GET", url, "", "x-ufc-service-name: web"); answer.body != "/bypass" {
		t.Errorf("a callee's own /bypass: %s %q", answer.Status, answer.body)
	}
	if answer := ask(t, "GET", url+"/x", ""); answer.Header.Get("X-Ufc-Error") != "no_callee" {
		t.Errorf("below /bypass: %s %q", answer.Status, answer.body)
	}

	got := map[string]bool{}
	for range 4 {
		var handedOut struct {
			Backends []struct{ Backend, ID string }
		}
		answer := ask(t, "GET", url+"?command=get&service=redis&from=app", "")
		if err := json.Unmarshal([]byte(answer.body), &handedOut); err != nil || len(handedOut.Backends) != 1 {
			t.Fatalf("get: %s %q: %v", answer.Status, answer.body, err)
		}
		got[handedOut.Backends[0].Backend] = true
		report := fmt.Sprintf(`{"id": %q, "result": "ok", "latency_ms": 1.5}`, handedOut.Backends[0].ID)
		if answer := ask(t, "POST", url+"?command=callback", report); answer.StatusCode != http.StatusNoContent {
			t.Errorf("callback: %s %q", answer.Status, answer.body)
		}
	}
	if !got[one] || !got[two] {
		t.Errorf("handed out: %v", got)
	}
	ban(t, url, "redis", one)
	for range 4 {
		if answer := ask(t, "GET", url+"?command=get&service=redis", ""); !strings.Contains(answer.body, two) {
			t.Errorf("after the ban of %s: %q", one, answer.body)
		}
	}
	if answer := ask(t, "POST", url+"?command=callback", `{"backend": "x"}`); answer.StatusCode != http.StatusBadRequest ||
		answer.Header.Get("X-Ufc-Error") != "bad_request" {
		t.Errorf("malformed callback: %s %q", answer.Status, answer.body)
	}
	if answer := ask(t, "GET", url+"?command=query&ar=sync_info", "", "token: wrong"); answer.StatusCode != http.StatusForbidden {
		t.Errorf("query with a wrong token: %s %q", answer.Status, answer.body)
	}
}

// ban bans an instance by callbacks, and waits until it is.
func ban(t *testing.T, bypass, service, address string) {
	t.Helper()
	for range 10 { // the sequential test needs 7 among sound ones
		report := fmt.Sprintf("service=%s&backend=%s&result=read_timeout", service, address)
		answer := ask(t, "POST", bypass+"?command=callback", report, "Content-Type: application/x-www-form-urlencoded")
		if answer.StatusCode != http.StatusNoContent {
			t.Fatalf("callback: %s %q", answer.Status, answer.body)
		}
	}
	if !banned(t, bypass, address) {
		t.Fatal("ten failures don't ban")
	}
}

func banned(t *testing.T, bypass, address string) bool {
	t.Helper()
	answer := ask(t, "GET", bypass+"?command=query&ar=ban_info", "", "token: secret")
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("query: %s %q", answer.Status, answer.body)
	}
	return strings.Contains(answer.body, address)
}

// TestReloadUnderLoad reloads while clients with kept and with new connections send requests. None may fail, and the
// ban stays.
func TestReloadUnderLoad(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	site := func(directives string) string {
		return strings.Replace(site(agent, directives), "bind ", "bind ufc/", 1)
	}
	var connections atomic.Int64
	good := backend(t, named("good"))
	bad := backend(t, func(http.ResponseWriter, *http.Request) { connections.Add(1) })
	apply(t, prefix, instances("web", good, bad))
	directives := "ufc_bypass /bypass {\n\t\ttoken secret\n\t}\n\tufc"
	load(t, ufcOption(prefix, ""), site(directives))
	url := "http://" + agent
	answers(t, url, http.StatusOK, "x-ufc-service-name: web")
	ban(t, url+"/bypass", "web", bad)
	connections.Store(0)

	stop := make(chan struct{})
	var requests atomic.Int64
	var running sync.WaitGroup
	for n := range 4 {
		running.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: n%2 == 0}}
			for {
				select {
				case <-stop:
					return
				default:
				}
				answer, err := tryAsk(t.Context(), client, "GET", url, "", "x-ufc-service-name: web")
				requests.Add(1)
				if err != nil || answer.body != "good" {
					t.Errorf("a request failed: %v %q", err, answer.body)
					return
				}
			}
		})
	}
	for n := range 20 {
		load(t, ufcOption(prefix, fmt.Sprintf("idc idc-%d", n)), site(directives))
		for before := requests.Load(); requests.Load() < before+10 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	close(stop)
	running.Wait()
	t.Logf("%d requests during 20 reloads", requests.Load())
	if !banned(t, url+"/bypass", bad) || connections.Load() > 0 {
		t.Errorf("the reload forgot the ban: %d requests went to the banned instance", connections.Load())
	}
	if answer := ask(t, "GET", url+"/bypass?command=query&ar=sync_info", "", "token: secret"); !strings.Contains(answer.body, `"idc-19"`) {
		t.Errorf("the new settings aren't in force: %s", answer.body)
	}
}

// TestFailedReload checks that a configuration that can't be loaded leaves the running one as it is.
func TestFailedReload(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	apply(t, prefix, instances("web", backend(t, named("web"))))
	load(t, ufcOption(prefix, ""), site(agent, "ufc web"))
	answers(t, "http://"+agent, http.StatusOK)
	for _, sites := range []string{site(agent, "ufc {no.such.placeholder}"), site(agent, "ufc {env.PATH}")} {
		if err := tryLoad(t, ufcOption(prefix, ""), sites); err == nil {
			t.Errorf("it was loaded: %s", sites)
		}
	}
	answers(t, "http://"+agent, http.StatusOK)
	apply(t, prefix, instances("web", backend(t, named("moved"))))
	eventually(t, func() error {
		if answer := ask(t, "GET", "http://"+agent, ""); answer.body != "moved" {
			return fmt.Errorf("changes aren't followed any more: %q", answer.body)
		}
		return nil
	})
}

// TestEtcdComesLate starts without etcd, which comes, goes, and isn't missed once there is a snapshot.
func TestEtcdComesLate(t *testing.T) {
	etcd, agent, snapshot := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "snapshots", "agent")
	global := fmt.Sprintf("ufc {\n\t\tetcd http://%s\n\t\tsnapshot %s\n\t}", etcd, snapshot)
	sites := site(agent, "ufc web")
	begun := time.Now()
	load(t, global, sites)
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the start waited %s for etcd", took)
	}
	answer := ask(t, "GET", "http://"+agent, "")
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("X-Ufc-Error") != "not_synced" {
		t.Fatalf("before etcd: %s %v", answer.Status, answer.Header)
	}

	server := &embeddedetcd.Server{Dir: t.TempDir(), Address: etcd}
	if err := server.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := server.Open(); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	document := instances("web", backend(t, named("web")))
	if _, stderr, err := cli(t, document, "apply", "-f", "-", "--etcd", etcdURL(etcd)); err != nil {
		t.Fatal(stderr)
	}
	begun = time.Now()
	answers(t, "http://"+agent, http.StatusOK)
	t.Logf("etcd was picked up after %s", time.Since(begun))
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	answers(t, "http://"+agent, http.StatusOK)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	load(t, global, sites)
	if answer := ask(t, "GET", "http://"+agent, ""); answer.body != "web" {
		t.Errorf("from the snapshot: %s %q", answer.Status, answer.body)
	}
}

func etcdURL(address string) string { return "http://" + address }

func TestEmbedded(t *testing.T) {
	etcd, agent, dir := freeAddress(t), freeAddress(t), filepath.Join(t.TempDir(), "etcd")
	global := fmt.Sprintf("ufc {\n\t\tetcd embedded %s %s\n\t}", dir, etcd)
	sites := site(agent, "ufc web")
	adapted, err := adapt(caddyfileOf(t, global, sites))
	if err != nil {
		t.Fatal(err)
	}
	var config *caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(config); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("validating made the data directory: %v", err)
	}

	begun := time.Now()
	load(t, global, sites)
	t.Logf("start with embedded etcd: %s", time.Since(begun))
	if _, stderr, err := cli(t, instances("web", backend(t, named("web"))), "apply", "-f", "-", "--etcd", etcdURL(etcd)); err != nil {
		t.Fatal(stderr)
	}
	answers(t, "http://"+agent, http.StatusOK)
	begun = time.Now()
	load(t, global, sites)
	t.Logf("reload: %s", time.Since(begun))
	answers(t, "http://"+agent, http.StatusOK)

	begun = time.Now()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stop: %s", time.Since(begun))
	listener, err := net.Listen("tcp", etcd)
	if err != nil {
		t.Fatalf("etcd goes on after Caddy's stop: %v", err)
	}
	defer listener.Close()
	err = tryLoad(t, global, sites)
	if err == nil || !strings.Contains(err.Error(), etcd) || !strings.Contains(err.Error(), "is taken") {
		t.Errorf("with the port taken: %v", err)
	}
	listener.Close()
	load(t, global, sites)
	answers(t, "http://"+agent, http.StatusOK)
}

func TestMetrics(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	apply(t, prefix, instances("web", backend(t, named("web"))))
	global, sites := ufcOption(prefix, ""), site(agent, "metrics /metrics\n\tufc web {\n\t\tfrom edge\n\t}")
	load(t, global, sites)
	answers(t, "http://"+agent, http.StatusOK)
	before := ask(t, "GET", "http://"+agent+"/metrics", "").body
	load(t, global, sites)
	after := ask(t, "GET", "http://"+agent+"/metrics", "").body
	for _, metrics := range []string{before, after} {
		for _, want := range []string{
			`ufc_requests_total{callee="web",caller=`, `ufc_attempts_total{callee="web",result="ok"} 1`, "ufc_config_revision ",
			"ufc_instances 1",
		} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %s in\n%s", want, metrics)
			}
		}
	}
}

// TestBadConfigurations loads JSON that no Caddyfile gives.
func TestBadConfigurations(t *testing.T) {
	f := func(app, want string) {
		t.Helper()
		config := fmt.Sprintf(`{"admin": {"disabled": true}, "apps": {"ufc": %s}}`, app)
		err := caddy.Load([]byte(config), true)
		if err == nil {
			_ = caddy.Stop()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, without %q", app, err, want)
		}
	}
	f(`{"etcd": {"endpoints": ["127.0.0.1"]}}`, `etcd endpoint "127.0.0.1"`)
	f(`{"etcd": {"endpoints": ["{env.UFC_TEST_UNSET}"]}}`, `etcd endpoint ""`)
	f(`{"etcd": {"endpoints": ["http://127.0.0.1:2379"], "server": {"module": "embedded", "dir": "x"}}}`, "exclude each other")
	f(`{"etcd": {"server": {"module": "embedded"}}}`, "dir is missing")
	f(`{"etcd": {"server": {"module": "unheard-of"}}}`, "unheard-of")
	f(`{"etcd": {"username": "root"}}`, `etcd user "root"`)
	f(`{"etcd": {"tls": {"certificate": "c.pem"}}}`, `"c.pem"`)
	f(`{"prefix": "ufc"}`, `prefix "ufc"`)
	f(`{"prefix": "{no.such.placeholder}"}`, "prefix: unrecognized placeholder {no.such.placeholder}")
	f(`{"protect": 1.5}`, "protect: 1.5 is not a share of 0 to 1")
	f(`{"follow": ["all", "web"]}`, `"all" must stand alone`)
	f(`{"follow": ["Web"]}`, `"Web"`)
	f(`{"unheard_of": 1}`, "unheard_of")
}
