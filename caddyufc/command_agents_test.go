package caddyufc_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestGetAgents(t *testing.T) {
	m := mesh{t, newPrefix()}
	same(t, m.ok("", "get", "agents"), "AGENT  HOST  IDC  FACE  VERSION  REVISION  AGE  STARTED  WRITTEN  STALE\n")
	same(t, m.ok("", "get", "agents", "-o", "json"), "[]\n")
	agent := func(id, host string, revision int, ago time.Duration) {
		t.Helper()
		m.putKey("/agents/"+id, fmt.Sprintf(`{"host":%q,"idc":"bj-a","face":"caddy","version":"v1.2.3","synced":true,"revision":%d,`+
			`"age":"4.5s","services":3,"instances":5,"started":"2026-01-02T15:04:05Z","written":%q}`,
			host, revision, time.Now().Add(-ago).UTC().Format(time.RFC3339)), false)
	}
	agent("b-1", "b", 7, time.Minute)
	agent("a-1", "a", 9, 5*time.Minute)
	lines := strings.Split(m.ok("", "get", "agents"), "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[1])[:8], " ") != "a-1 a bj-a caddy v1.2.3 9 4.5s 2026-01-02T15:04:05Z" ||
		!strings.HasSuffix(lines[1], "Z  -") || !strings.HasSuffix(lines[2], "Z  2 revisions behind") {
		t.Errorf("the table is %q", lines)
	}
	var shown []struct {
		Agent, Stale, Host, Age string
		Revision, Instances     int
	}
	if err := json.Unmarshal([]byte(m.ok("", "get", "agents", "b-1", "-o", "json")), &shown); err != nil || len(shown) != 1 {
		t.Fatalf("%+v, %v", shown, err)
	}
	if one := shown[0]; one.Agent != "b-1" || one.Host != "b" || one.Age != "4.5s" || one.Revision != 7 || one.Instances != 5 || one.Stale == "" {
		t.Errorf("%+v", one)
	}
	if yaml := m.ok("", "get", "agent", "a-1", "-o", "yaml"); !strings.Contains(yaml, "agent: a-1\n") || strings.Contains(yaml, "stale") {
		t.Errorf("as YAML: %s", yaml)
	}

	m.putKey("/agents/odd", `{"host":"c"}`, false)
	stdout, stderr, err := m.run("", "get", "agents")
	if err == nil || !strings.Contains(stderr, `agent "odd": written: is missing`) || !strings.Contains(stdout, "b-1") {
		t.Errorf("%v %q %q", err, stdout, stderr)
	}
	if got := m.fails("", "get", "agents", "nobody"); !strings.Contains(got, `there is no "nobody"`) {
		t.Error(got)
	}
	if got := m.fails("", "get", "agents", "-o", "xml"); !strings.Contains(got, `-o: "xml" is not one of table, json, yaml`) {
		t.Error(got)
	}
}
