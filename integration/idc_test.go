package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const twoIDCs = `
kind: Topology
idcs: {bj-a: {logical: north}, gz-a: {logical: south}}
routes:
  north: [{to: north, weight: 80}, {to: south, weight: 20}]
  south: [{to: south, weight: 100}, {to: north, weight: 0}]
drained: [%s]
---
`

// An agent in bj-a, as the mesh's own configuration has it.
func TestIDCTable(t *testing.T) {
	t.Parallel()
	north, second, south := newBackend(t, "north"), newBackend(t, "north-2"), newBackend(t, "south")
	here, alsoHere, there := north.with("idc: bj-a"), second.with("idc: bj-a"), south.with("idc: gz-a")
	m := startAgent(t, fmt.Sprintf(twoIDCs, "")+strings.Join([]string{
		registered("shop", "protocol: http", here, alsoHere, there),
		registered("inverse", "idc_routes: {north: [{to: south}]}", here, there),
		registered("alone", "idc_routes: {north: [{to: north}]}", there),
		registered("elsewhere", "protocol: http", there),
	}, "---\n"))

	counts := m.answers(400, "shop")
	// 80 of 400, and half of the rest each.
	if counts["south"] < 40 || counts["south"] > 130 || counts["north"] < 100 || counts["north-2"] < 100 {
		t.Errorf("of 400 from the north: %v", counts)
	}
	counted := 0.0
	for _, idc := range []string{"bj-a", "gz-a"} {
		part := m.metric(fmt.Sprintf(`ufc_requests_total{callee="shop",caller="unknown",code="200",idc=%q}`, idc))
		if counted += part; part == 0 {
			t.Errorf("no request to %s is counted", idc)
		}
	}
	if counted != 400 {
		t.Errorf("%v requests are counted, of 400", counted)
	}
	m.want("a caller in gz-a", "shop", 30, map[string]int{"south": 30}, "x-ufc-idc", "gz-a")
	all := map[string]int{"north": 10, "north-2": 10, "south": 10}
	m.want("a caller from nobody knows where", "shop", 30, all, "x-ufc-idc", "mars")
	m.want("a service with a table of its own", "inverse", 30, map[string]int{"south": 30})
	m.want("the rest of that table is the topology's", "inverse", 30, map[string]int{"south": 30}, "x-ufc-idc", "gz-a")

	// Where the table leads to nobody, it spills; where it doesn't lead at all, nobody is found.
	m.want("a service without instances here", "elsewhere", 30, map[string]int{"south": 30})
	m.ask("alone", "/").must(t, http.StatusServiceUnavailable, "no_instance")

	// An IDC dies under its callers, who are in it: they go to the other one, of which the table has weight 0.
	south.stop()
	m.want("a caller in gz-a, which is dead", "shop", 30, map[string]int{"north": 10, "north-2": 10}, "x-ufc-idc", "gz-a")
	m.want("the others", "shop", 60, map[string]int{"north": 20, "north-2": 20})
}

// A data centre is switched by one command, and every agent follows within a second.
func TestIDCSwitch(t *testing.T) {
	t.Parallel()
	old, other := newBackend(t, "old"), newBackend(t, "other")
	table := strings.Replace(twoIDCs, "{to: north, weight: 0}", "{to: north, weight: 100}", 1)
	here := startAgent(t, fmt.Sprintf(table, "")+registered("shop", "protocol: http", old.with("idc: bj-a"), other.with("idc: gz-a")))
	there := newMesh(t)
	there.etcd = here.etcd
	there.startCaddy(externalEtcd, replace(t, "{$UFC_IDC:bj-a}", "gz-a"))
	there.untilCurrent()

	served := func(m *mesh) float64 { return m.metric(`ufc_attempts_total{callee="shop",result="ok"}`) }
	both := func() {
		t.Helper()
		before, beforeThere := served(here), served(there)
		eventually(t, 10*time.Second, func() error {
			if served(here) < before+50 || served(there) < beforeThere+50 {
				return fmt.Errorf("too little traffic to tell")
			}
			return nil
		})
	}
	loads := []*load{here.gets("shop", 2), there.gets("shop", 2)}
	both()
	if old.served.Load() == 0 || other.served.Load() == 0 {
		t.Fatalf("before the switch: %d and %d requests", old.served.Load(), other.served.Load())
	}
	here.apply(fmt.Sprintf(table, "bj-a"))
	applied := time.Now()
	here.untilCurrent()
	there.untilCurrent()
	both()
	last := time.Unix(0, old.last.Load())
	t.Logf("the last request to the old IDC came %s after the end of the command", last.Sub(applied))
	if last.Sub(applied) >= time.Second {
		t.Errorf("the last request to the old IDC came %s after the end of the command; promised is under a second", last.Sub(applied))
	}
	for _, m := range []*mesh{here, there} {
		m.want("after the switch", "shop", 30, map[string]int{"other": 30})
	}
	// And back.
	here.apply(fmt.Sprintf(table, ""))
	here.untilCurrent()
	there.untilCurrent()
	for _, m := range []*mesh{here, there} {
		m.want("after the switch back", "shop", 100, map[string]int{"old": 10, "other": 1})
	}
	for _, load := range loads {
		load.stop("GETs over a switch of IDCs")
	}
}
