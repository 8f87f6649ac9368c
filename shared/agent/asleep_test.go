package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// An agent keeps next to nothing of a callee that nobody has called: looking at it, or counting, doesn't wake it.
func TestCalleesSleep(t *testing.T) {
	ban := model.Record{Kind: model.KindBan, Name: "banned", Address: "10.0.0.1:80", Ban: &model.HandBan{By: "me"}}
	address := netip.MustParseAddrPort("10.0.0.1:80")
	f := func(what string, wakes bool, do func(*rig)) {
		t.Helper()
		records := append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), instances("banned", "10.0.0.1:80", "10.0.0.2:80")...)
		r := newRig(t, append(records, ban)...)
		do(r)
		if s := r.Agent.service("shop"); s.sleeps() == wakes {
			t.Errorf("%s: it sleeps: %v", what, s.sleeps())
		}
	}
	query := func(selector ...string) func(*rig) {
		return func(r *rig) {
			if _, err := r.Query(selector); err != nil {
				t.Error(err)
			}
		}
	}
	f("nothing", false, func(*rig) {})
	f("a change", false, func(r *rig) { r.catalog.Apply(2, instances("shop", "10.0.0.3:80")) })
	f("a topology", false, func(r *rig) {
		r.catalog.Apply(2, []model.Record{{Kind: model.KindTopology, Topology: &model.Topology{Drained: []string{"bj-b"}}}})
	})
	f("metrics", false, func(r *rig) {
		metrics := make(chan prometheus.Metric, 1000)
		r.Collect(metrics)
	})
	f("config_info", false, query("config_info", "shop"))
	f("request_info", false, query("request_info", "shop"))
	f("ban_info of all", false, query("ban_info"))
	f("fuse_info of all", false, query("fuse_info"))
	f("a neighbour's ban that is over", false, func(r *rig) { r.Told("shop", address, nil) })
	f("a call by it", false, func(r *rig) { r.begin(t, &Call{Callee: "banned", Caller: "shop"}).Level() })
	f("a neighbour's ban", true, func(r *rig) {
		r.Told("shop", address, &model.ToldBan{Agent: "dns", Reason: "proof", Until: time.Now().Add(time.Minute)})
	})
	f("a call", true, func(r *rig) { r.begin(t, &Call{Callee: "shop"}) })
	f("backend_info", true, query("backend_info", "shop"))
	f("explain", true, query("explain", "shop"))
	f("fuse_info", true, query("fuse_info", "shop"))
}

// What came while a callee slept is in force when it wakes.
func TestWaking(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
	r.catalog.Apply(2, []model.Record{
		{Kind: model.KindBan, Name: "shop", Address: "10.0.0.1:80", Ban: &model.HandBan{By: "me"}},
		documented("shop", func(s *model.Service) { s.Ban.MaxRatio = 0.2 }),
	})
	r.Told("shop", netip.MustParseAddrPort("10.0.0.3:80"), &model.ToldBan{Agent: "dns", Reason: "proof", Until: time.Now().Add(time.Minute)})
	r.catalog.Apply(3, instances("shop", "10.0.0.3:80"))
	for range 20 {
		if got, err := r.try(t, "shop", health.OK); err != nil || got != "10.0.0.2:80" {
			t.Fatalf("went to %s, %v: the others are banned", got, err)
		}
	}
	if answer, err := r.Query([]string{"ban_info"}); err != nil || len(answer.(map[string][]*BanInfo)["shop"]) != 2 {
		t.Errorf("%v, %v", answer, err)
	}
}

// A callee that wakes after the agent was closed serves, and judges nobody.
func TestWakingAfterTheEnd(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
	r.Close()
	r.dead.Store(netip.MustParseAddrPort("10.0.0.1:80"), true)
	for range 20 {
		if _, err := r.try(t, "shop", health.ConnectError); err != nil {
			t.Fatal(err)
		}
	}
	if banned := r.service("shop").awake().banned(); banned != 0 {
		t.Errorf("%d are banned", banned)
	}
}

// A change costs what it changes: instances and plans of before go on where nothing else is said of them.
func TestChangesKeepTheRest(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", nil))...)
	before := r.service("shop").awake()
	plan := r.service("shop").current(r.now())
	same := instances("shop", "10.0.0.2:80")
	same[0].Revision = 5
	r.catalog.Apply(5, same)
	after := r.service("shop").awake()
	if after.view.Revision != 5 || &after.instances[0] != &before.instances[0] || r.service("shop").current(r.now()) != plan {
		t.Error("a record that says the same again makes another plan")
	}
	heavy := instances("shop", "10.0.0.2:80")
	heavy[0].Instance.Weight = 7
	r.catalog.Apply(6, heavy)
	changed := r.service("shop").awake()
	if changed.instances[0] != before.instances[0] || changed.instances[1] == before.instances[1] || changed.instances[1].Weight != 7 {
		t.Error("a change of one instance changes others, or isn't in force")
	}
	if changed.instances[1].health != before.instances[1].health || changed.instances[1].hot != before.instances[1].hot {
		t.Error("an instance's state is lost by a change of its weight")
	}
	if r.service("shop").current(r.now()) == plan {
		t.Error("the plan of before is in force")
	}
}
