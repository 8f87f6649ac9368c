package caddyufc_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestNeighbours checks that other directives of a site work on what ufc answers, and on what it says of requests.
func TestNeighbours(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	apply(t, prefix, instances("web", backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Prefix", r.Header.Get("X-Forwarded-Prefix"))
		if fmt.Fprintf(w, "%s got %q", r.URL.Path, body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))+"---\nkind: Service\nname: empty\n")
	load(t, ufcOption(prefix, "")+"\n\tmetrics\n", site(agent, `
	handle /metrics {
		metrics
	}
	handle_path /stripped/* {
		request_header X-Forwarded-Prefix /stripped
		header >X-Prefix "seen: $0"
		encode {
			gzip
			minimum_length 1
		}
		ufc web
	}
	handle /limited {
		request_body {
			max_size 10
		}
		ufc web
	}
	handle /limited-below {
		request_body {
			max_size 10
		}
		reverse_proxy ufc:80 {
			transport ufc {
				service web
			}
		}
	}
	handle /sorry {
		intercept {
			@refused header X-Ufc-Error *
			handle_response @refused {
				respond "sorry: {resp.header.X-Ufc-Error}" 200
			}
		}
		ufc empty
	}
	handle {
		ufc empty
	}
	handle_errors {
		respond "error {err.status_code}"
	}`))
	url := "http://" + agent
	answers(t, url+"/sorry", http.StatusOK)
	f := func(method, path, body string, status int, want string) {
		t.Helper()
		if answer := ask(t, method, url+path, body); answer.StatusCode != status || !strings.Contains(answer.body, want) {
			t.Errorf("%s %s: %s %q, not %d %q", method, path, answer.Status, answer.body, status, want)
		}
	}
	eventually(t, func() error {
		if answer := ask(t, "GET", url+"/stripped/x", "", "Accept-Encoding: identity"); answer.body != `/x got ""` {
			return fmt.Errorf("%s %q", answer.Status, answer.body)
		}
		return nil
	})
	f("GET", "/sorry", "", http.StatusOK, "sorry: no_instance")
	f("GET", "/refused", "", http.StatusServiceUnavailable, `"reason":"no_instance"`) // no error: handle_errors isn't asked
	for _, path := range []string{"/limited", "/limited-below"} {
		f("POST", path, "0123456789", http.StatusOK, `got "0123456789"`)
		f("POST", path, "0123456789a", http.StatusRequestEntityTooLarge, "error 413")
		resp, err := http.Post(url+path, "text/plain", struct{ io.Reader }{strings.NewReader("0123456789a")}) // in chunks
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || string(body) != "error 413" {
			t.Errorf("%s in chunks: %s %q %v", path, resp.Status, body, err)
		}
	}

	answer := ask(t, "PUT", url+"/stripped/y", "body", "Accept-Encoding: gzip")
	unzip, err := gzip.NewReader(strings.NewReader(answer.body))
	if err != nil {
		t.Fatalf("%v: %s %v %q", err, answer.Status, answer.Header, answer.body)
	}
	if body, err := io.ReadAll(unzip); string(body) != `/y got "body"` || err != nil {
		t.Errorf("encode: %q %v", body, err)
	}
	metrics := ask(t, "GET", url+"/metrics", "").body
	for _, want := range []string{
		`caddy_http_request_duration_seconds_count{code="503",handler="subroute",method="GET",server="srv0"}`, `ufc_attempts_total{callee="web",result="canceled"} 2`,
		`ufc_refused_total{callee="empty",caller="unknown",reason="no_instance"}`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics: %s", want, lines(metrics, "caddy_http")+lines(metrics, "ufc_attempts"))
		}
	}
}

// lines returns the lines that contain a word.
func lines(text, word string) (found string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			found += line
		}
	}
	return found
}

// TestIDC checks that callers in each IDC are sent by the topology: by the app's idc, also after it has changed, or by
// what a program says in x-ufc-idc.
func TestIDC(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	apply(t, prefix, fmt.Sprintf(`
kind: Instances
service: web
instances: [{address: %q, idc: bj-a}, {address: %q, idc: gz-a}]
---
kind: Topology
idcs: {bj-a: {logical: north}, gz-a: {logical: south}}
routes: {north: [{to: north, weight: 100}], south: [{to: south, weight: 100}]}
`, backend(t, named("north")), backend(t, named("south"))))
	sites := site(agent, "@below path /below\n\thandle @below {\n\t\treverse_proxy ufc:80 {\n\t\t\ttransport ufc {\n\t\t\t\tservice web\n\t\t\t}\n\t\t}\n\t}\n\thandle {\n\t\tufc\n\t}")
	f := func(path, want string, headers ...string) {
		t.Helper()
		for range 4 {
			answer := ask(t, "GET", "http://"+agent+path, "", append(headers, "x-ufc-service-name: web")...)
			if answer.body != want {
				t.Errorf("%s %v: %q, not %s", path, headers, answer.body, want)
			}
		}
	}
	all := func(here, there, other string) {
		t.Helper()
		f("/", here)
		f("/below", here)
		f("/", there, "x-ufc-idc: "+other)
		f("/below", here, "x-ufc-idc: "+other) // a stranger's word
	}
	load(t, ufcOption(prefix, "idc bj-a"), sites)
	answers(t, "http://"+agent, http.StatusOK, "x-ufc-service-name: web")
	all("north", "south", "gz-a")
	load(t, ufcOption(prefix, "idc gz-a"), sites)
	all("south", "north", "bj-a")

	if err := tryLoad(t, ufcOption(prefix, "idc bj-a"), sites+site(freeAddress(t), "ufc {no.such.placeholder}")); err == nil {
		t.Error("a configuration without sense was loaded")
	}
	all("south", "north", "bj-a")
	load(t, ufcOption(prefix, ""), sites) // in no IDC: everybody
	seen := map[string]bool{}
	for range 10 {
		seen[ask(t, "GET", "http://"+agent, "", "x-ufc-service-name: web").body] = true
	}
	if !seen["north"] || !seen["south"] {
		t.Errorf("without an IDC only these were chosen: %v", seen)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
}
