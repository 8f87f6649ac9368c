package caddyufc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// get reads a raw key below the prefix.
func (m mesh) get(key string) string {
	m.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdEndpoint}, Logger: zap.NewNop()})
	if err != nil {
		m.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(m.Context(), timeLimit)
	defer cancel()
	answer, err := client.Get(ctx, m.prefix+key)
	if err != nil {
		m.Fatal(err)
	}
	if len(answer.Kvs) == 0 {
		return ""
	}
	return string(answer.Kvs[0].Value)
}

func TestBan(t *testing.T) {
	m := mesh{t, newPrefix()}
	m.ok(documents, "apply", "-f", "-")
	same(t, m.ok("", "ban", "shop-web", "10.0.0.1:8080", "--reason", "its disk is dying"),
		"banned 10.0.0.1:8080 of shop-web until it is lifted\n")
	value := m.get("/config/bans/shop-web/10.0.0.1:8080")
	if ok, _ := regexp.MatchString(`^\{"by":"[^"]+@[^"]+","reason":"its disk is dying","since":"20[^"]+Z"\}$`, value); !ok {
		t.Errorf("the value is %s", value)
	}
	if got := m.ok("", "ban", "shop-web", "10.0.0.1:8080", "--for", "90m"); !strings.Contains(got, "of shop-web until 20") {
		t.Error(got)
	}
	var ban struct{ Since, Until time.Time }
	if err := json.Unmarshal([]byte(m.get("/config/bans/shop-web/10.0.0.1:8080")), &ban); err != nil ||
		ban.Until.Sub(ban.Since) != 90*time.Minute {
		t.Errorf("from %v until %v, %v", ban.Since, ban.Until, err)
	}
	same(t, m.ok("", "unban", "shop-web", "10.0.0.1:8080"), "lifted the ban of 10.0.0.1:8080 of shop-web\n")
	same(t, m.fails("", "unban", "shop-web", "10.0.0.1:8080"),
		"unban 10.0.0.1:8080 of service \"shop-web\": is not banned by hand\n")

	// One that isn't there yet.
	stdout, stderr, err := m.run("", "ban", "redis", "[2001:db8::1]:6379")
	if err != nil || stderr != "warning: service \"redis\" has no instance [2001:db8::1]:6379 now\n" ||
		stdout != "banned [2001:db8::1]:6379 of redis until it is lifted\n" {
		t.Errorf("%v %q %q", err, stdout, stderr)
	}
	m.put("bans/shop-web/10.0.0.1:08080", "{}", false)
	m.ok("", "unban", "shop-web", "10.0.0.1:08080")

	f := func(want string, args ...string) {
		t.Helper()
		if got := m.fails("", args...); !strings.Contains(got, want) {
			t.Errorf("%v: %q without %q", args, got, want)
		}
	}
	f(`ban 10.0.0.1:80 of service "nobody": etcd knows no such service`, "ban", "nobody", "10.0.0.1:80")
	f(`service: "Shop" is not a name`, "ban", "Shop", "10.0.0.1:80")
	f(`instance: "10.0.0.1:080" must be written as "10.0.0.1:80"`, "ban", "shop-web", "10.0.0.1:080")
	f(`instance: "localhost:80" is not an address`, "ban", "shop-web", "localhost:80")
	f("--for: 10ms is under a second", "ban", "shop-web", "10.0.0.1:80", "--for", "10ms")
	f("--for: -1h0m0s is under a second", "ban", "shop-web", "10.0.0.1:80", "--for=-1h")
	f(`"--for" flag`, "ban", "shop-web", "10.0.0.1:80", "--for", "soon")
	f(`reason: "a\nb" holds a control character`, "ban", "shop-web", "10.0.0.1:80", "--reason", "a\nb")
	f("accepts 2 arg(s)", "ban", "shop-web")
	f("is not the name of a service", "unban", "shop/web", "10.0.0.1:80")
}

func TestGetBans(t *testing.T) {
	m := mesh{t, newPrefix()}
	same(t, m.ok("", "get", "bans"), "SERVICE  INSTANCE  REASON  HOST  SINCE  UNTIL  DETAIL\n")
	same(t, m.ok("", "get", "bans", "-o", "json"), "[]\n")
	same(t, m.ok("", "get", "bans", "nobody", "-o", "yaml"), "[]\n")

	m.put("bans/shop-web/10.0.0.1:8080", `{"by":"me","reason":"disk","since":"2026-01-02T15:04:05Z"}`, false)
	m.put("bans/redis/10.0.0.9:6379", `{}`, false)
	m.putKey("/bans/host-1/shop-web/10.0.0.1:8080", `{"agent":"dns-1","reason":"proof","since":"2026-01-02T15:04:05Z",`+
		`"until":"2026-01-02T15:14:05Z","detail":"connection refused"}`, false)
	want := [][]string{
		{"SERVICE", "INSTANCE", "REASON", "HOST", "SINCE", "UNTIL", "DETAIL"},
		{"redis", "10.0.0.9:6379", "hand", "-", "-", "-", "-"},
		{"shop-web", "10.0.0.1:8080", "hand", "-", "2026-01-02T15:04:05Z", "-", "me: disk"},
		{"shop-web", "10.0.0.1:8080", "proof", "host-1", "2026-01-02T15:04:05Z", "2026-01-02T15:14:05Z", "dns-1: connection refused"},
	}
	var rows [][]string
	for line := range strings.Lines(m.ok("", "get", "bans")) {
		rows = append(rows, regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1))
	}
	if fmt.Sprint(rows) != fmt.Sprint(want) {
		t.Errorf("got\n%q\nnot\n%q", rows, want)
	}
	same(t, m.ok("", "get", "ban", "shop-web", "-o", "yaml"), `- service: shop-web
  instance: 10.0.0.1:8080
  reason: hand
  by: me
  since: "2026-01-02T15:04:05Z"
  detail: disk
- service: shop-web
  instance: 10.0.0.1:8080
  reason: proof
  host: host-1
  agent: dns-1
  since: "2026-01-02T15:04:05Z"
  until: "2026-01-02T15:14:05Z"
  detail: connection refused
`)
	var listed []struct{ Service, Reason string }
	if err := json.Unmarshal([]byte(m.ok("", "get", "BANS", "-o", "json")), &listed); err != nil ||
		fmt.Sprint(listed) != "[{redis hand} {shop-web hand} {shop-web proof}]" {
		t.Errorf("%v %v", listed, err)
	}
	if got := m.fails("", "get", "bans", "-o", "xml"); !strings.Contains(got, `-o: "xml" is not one of table, json, yaml`) {
		t.Error(got)
	}

	// What can't be read is told, and hides nothing else; export has no bans.
	m.put("bans/redis/10.0.0.8:6379", `{"until":"x"}`, false)
	stdout, stderr, err := m.run("", "get", "bans", "redis")
	if err == nil || !strings.Contains(stdout, "10.0.0.9:6379") || !strings.Contains(stderr, `"redis": until: "x" is not a time`) {
		t.Errorf("%v %q %q", err, stdout, stderr)
	}
	same(t, m.ok("", "export"), "")
}

// The other commands leave bans alone.
func TestBansStay(t *testing.T) {
	m := mesh{t, newPrefix()}
	m.ok(documents, "apply", "-f", "-")
	m.ok("", "ban", "shop-web", "10.0.0.1:8080")
	same(t, m.fails("", "delete", "bans", "shop-web"), "kind: \"bans\" is not one of services, instances, topology\n")
	m.ok("", "delete", "service", "shop-web")
	m.ok("", "delete", "instances", "shop-web")
	m.ok(documents, "apply", "-f", "-")
	if got := m.ok("", "get", "bans"); !strings.Contains(got, "10.0.0.1:8080") {
		t.Errorf("the ban is gone:\n%s", got)
	}
}
