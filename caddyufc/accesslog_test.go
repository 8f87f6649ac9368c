package caddyufc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// accessEntry is an entry of the access log.
type accessEntry struct {
	Logger  string
	Request struct{ URI string }
	Status  int

	Caller   string        `json:"ufc_caller"`
	Callee   string        `json:"ufc_callee"`
	IDC      string        `json:"ufc_idc"`
	Route    *int          `json:"ufc_route"`
	Attempts *[]logAttempt `json:"ufc_attempts"`
	Instance string        `json:"ufc_instance"`
	Where    string        `json:"ufc_instance_idc"`
	Error    string        `json:"ufc_error"`
	Detail   string        `json:"ufc_detail"`
	Degrade  int           `json:"ufc_degrade"`
}

type logAttempt struct {
	Instance, IDC, Result string
	AtMS                  *float64 `json:"at_ms"`
	MS                    *float64
	Status                int
	Hedge, Panic          bool
}

// String is the entry's part of UFC, with NAME for an instance's address and without times.
func (e *accessEntry) named(names map[string]string) string {
	route := "-"
	if e.Route != nil {
		route = fmt.Sprint(*e.Route)
	}
	text := fmt.Sprintf("%d %s>%s@%s route %s", e.Status, e.Caller, e.Callee, e.IDC, route)
	for _, attempt := range *e.Attempts {
		text += fmt.Sprintf(" [%s@%s %s %d", names[attempt.Instance], attempt.IDC, attempt.Result, attempt.Status)
		if attempt.Hedge {
			text += " hedge"
		}
		if attempt.Panic {
			text += " panic"
		}
		text += "]"
	}
	text += fmt.Sprintf(" by %s@%s", names[e.Instance], e.Where)
	if e.Error != "" {
		text += " " + e.Error
	}
	return text
}

// accessLog stops Caddy, since entries are written after their responses, and returns the entries by URI.
func accessLog(t *testing.T, file string) map[string][]*accessEntry {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string][]*accessEntry{}
	for line := range strings.Lines(string(data)) {
		entry := new(accessEntry)
		if err := json.Unmarshal([]byte(line), entry); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if strings.HasPrefix(entry.Logger, "http.log.access") && !strings.HasPrefix(entry.Request.URI, "/bypass") {
			if entry.Attempts == nil {
				t.Fatalf("no attempts in %s", line)
			}
			entries[entry.Request.URI] = append(entries[entry.Request.URI], entry)
		}
	}
	return entries
}

// storyRig is a site with an access log, whose callees are: shop, one instance that breaks off and one that answers, and a
// route for what is gray; gone, which has a dead one; hang, which never answers; tunnel, which switches protocols.
func storyRig(t *testing.T) (agent, log string, names map[string]string) {
	t.Helper()
	prefix, agent, log := newPrefix(), freeAddress(t), filepath.Join(t.TempDir(), "access.log")
	broken := backend(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	dead, live := freeAddress(t), backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	hang := backend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tunnel := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	})
	apply(t, prefix, fmt.Sprintf(`
kind: Service
name: shop
routes: [{match: {headers: {x-gray: {equal: "1"}}}}]
ban: {requests: {failures: 64, of: 64}}
---
kind: Instances
service: shop
instances: [{address: %q, idc: bj-a}, {address: %q, idc: bj-b}]
`, broken, live)+instances("gone", dead)+instances("hang", hang)+instances("tunnel", tunnel))
	below := func(callee string) string {
		return fmt.Sprintf("handle /below-%s {\n\t\treverse_proxy ufc:80 {\n\t\t\ttransport ufc {\n\t\t\t\tservice %s\n\t\t\t\tfrom edge\n\t\t\t}\n\t\t}\n\t}\n\t", callee, callee)
	}
	load(t, ufcOption(prefix, "idc gz-a")+logTo(log), site(agent, "log\n\t"+
		below("shop")+below("gone")+below("tunnel")+below("unheard-of")+below("hang")+
		"handle /gateway {\n\t\tufc shop {\n\t\t\tfrom edge\n\t\t}\n\t}\n\thandle {\n\t\tufc\n\t}"))
	return agent, log, map[string]string{broken: "BROKEN", dead: "DEAD", live: "LIVE", hang: "HANG", tunnel: "TUNNEL"}
}

func TestAccessLog(t *testing.T) {
	agent, log, names := storyRig(t)
	url := "http://" + agent
	answers(t, url+"/ready", http.StatusTeapot, "x-ufc-service-name: shop")
	for _, path := range []string{"/retried", "/below-shop", "/gateway"} {
		for range 2 { // in turn: one of them meets the broken instance first
			ask(t, "GET", url+path, "", "x-ufc-service-name: shop", "x-ufc-self-service-name: app", "x-ufc-idc: gz-b", "x-ufc-degrade: 2", "x-gray: 1")
		}
	}
	ask(t, "GET", url+"/unrouted", "", "x-ufc-service-name: shop", "x-ufc-degrade: 9")
	ask(t, "GET", url+"/no-callee", "")
	ask(t, "GET", url+"/unknown", "", "x-ufc-service-name: unheard-of")
	ask(t, "GET", url+"/hostile", "", "x-ufc-service-name: "+strings.Repeat(`<"\`, 2000), "x-ufc-self-service-name: \xff\t\"}",
		"x-ufc-idc: "+strings.Repeat("z", 9000), "x-ufc-degrade: \"}")
	ask(t, "GET", url+"/hostile-idc", "", "x-ufc-service-name: shop", "x-ufc-idc: \""+strings.Repeat("z", 9000))
	ask(t, "GET", url+"/below-gone", "")
	ask(t, "GET", url+"/below-unheard-of", "")
	for _, path := range []string{"/given-up", "/below-hang"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if answer, err := tryAsk(ctx, http.DefaultClient, "GET", url+path, "", "x-ufc-service-name: hang"); err == nil {
			t.Errorf("%s answers %s", path, answer.Status)
		}
		cancel()
	}
	for _, path := range []string{"/tunnel", "/below-tunnel"} {
		throughTunnel(t, agent, path)
	}

	eventually(t, func() error { // Caddy doesn't wait for connections that it has given away
		data, err := os.ReadFile(log)
		if err == nil && strings.Count(string(data), "tunnel\",\"headers") < 2 {
			err = fmt.Errorf("no entries of the tunnels: %s", data)
		}
		return err
	})
	entries := accessLog(t, log)
	f := func(uri string, want string) {
		t.Helper()
		got := entries[uri]
		for _, entry := range got {
			if entry.named(names) == want {
				return
			}
		}
		for _, entry := range got {
			t.Errorf("%s: %s\nand not %s", uri, entry.named(names), want)
		}
		if len(got) == 0 {
			t.Errorf("%s: no entry", uri)
		}
	}
	story := " [BROKEN@bj-a read_error 0] [LIVE@bj-b ok 418] by LIVE@bj-b"
	f("/retried", "418 app>shop@gz-b route 0"+story)
	f("/gateway", "418 edge>shop@gz-a route 0"+story)
	f("/below-shop", "418 edge>shop@gz-a route 0"+story)
	f("/no-callee", "400 >@ route - by @ no_callee")
	f("/unknown", "404 >unheard-of@ route - by @ unknown_service")
	f("/hostile", "400 >@ route - by @ bad_request")
	f("/below-gone", "502 edge>gone@gz-a route - [DEAD@ connect_error 0] by @ connect")
	f("/below-unheard-of", "404 edge>unheard-of@ route - by @ unknown_service")
	f("/given-up", "499 >hang@gz-a route - [HANG@ canceled 0] by @")
	f("/below-hang", "499 edge>hang@gz-a route - [HANG@ canceled 0] by @")
	f("/tunnel", "101 >tunnel@gz-a route - [TUNNEL@ ok 101] by TUNNEL@")
	f("/below-tunnel", "101 edge>tunnel@gz-a route - [TUNNEL@ ok 101] by TUNNEL@")

	if unrouted := entries["/unrouted"][0]; unrouted.Route != nil {
		t.Errorf("unrouted: %+v", unrouted)
	}
	if hostile := entries["/hostile-idc"][0]; len(hostile.IDC) > 300 || hostile.IDC[:2] != `"z` {
		t.Errorf("a stranger's IDC has %d bytes in the log", len(hostile.IDC))
	}
	if hostile := entries["/hostile"][0]; hostile.Detail == "" || len(hostile.Detail) > 300 {
		t.Errorf("a refusal's detail is %q", hostile.Detail)
	}
	for _, entry := range entries["/retried"] {
		if attempts := *entry.Attempts; len(attempts) == 2 && *attempts[1].AtMS < *attempts[0].AtMS+*attempts[0].MS {
			t.Errorf("the second attempt began before the first one ended: %v + %v, %v", *attempts[0].AtMS, *attempts[0].MS, *attempts[1].AtMS)
		}
	}
	givenUp := (*entries["/given-up"][0].Attempts)[0]
	if *givenUp.AtMS != 0 || *givenUp.MS < 25 || *givenUp.MS > 5000 {
		t.Errorf("given up after 50 ms: %v + %v", *givenUp.AtMS, *givenUp.MS)
	}
}

// TestAccessLogInAnAvalanche: an entry tells the mark that callee and caller got, or that the fuse has refused.
func TestAccessLogInAnAvalanche(t *testing.T) {
	prefix, agent, log := newPrefix(), freeAddress(t), filepath.Join(t.TempDir(), "access.log")
	one, two := backend(t, named("one")), backend(t, named("two"))
	apply(t, prefix, instances("slow", one, two))
	load(t, ufcOption(prefix, "")+logTo(log), site(agent, "log\n\tufc_bypass /bypass\n\tufc"))
	url := "http://" + agent
	answers(t, url+"/ready", 200, "x-ufc-service-name: slow")
	marks := map[string]bool{}
	report(t, url, "slow", "ok", one, two) // who reports failures only isn't believed that all fails
	eventually(t, func() error {
		report(t, url, "slow", "read_timeout", one, two)
		answer := ask(t, "GET", url+"/asked", "", "x-ufc-service-name: slow", "x-ufc-degrade: 3")
		marks[answer.Header.Get("x-ufc-degrade")] = true
		if len(marks) < 2 || answer.Header.Get("x-ufc-error") != "fused" {
			return fmt.Errorf("%d, marks %v", answer.StatusCode, marks)
		}
		return nil
	})
	logged, refused := map[string]bool{}, false
	for _, entry := range accessLog(t, log)["/asked"] {
		if entry.Degrade > 0 {
			logged[fmt.Sprint(entry.Degrade)] = true
		} else {
			logged[""] = true
		}
		refused = refused || entry.Error == "fused" && entry.Status == http.StatusServiceUnavailable && entry.Detail != "" && len(*entry.Attempts) == 0
	}
	if !maps.Equal(logged, marks) || !refused {
		t.Errorf("the log tells of the marks %v, not %v; of a refusal %t", logged, marks, refused)
	}
}

// throughTunnel opens a tunnel and waits until the instance closes it.
func throughTunnel(t *testing.T, agent, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", agent)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: tunnel\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", path)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(reader); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("%s: %s %v", path, resp.Status, err)
	}
}
