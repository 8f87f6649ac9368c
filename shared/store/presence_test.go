package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// presenceRig is one agent's Presence; who it is may be changed.
type presenceRig struct {
	*Presence

	mu   sync.Mutex
	id   string
	self model.Agent
}

var hastyPresence = presenceTiming{
	ttl: 30, renew: 100 * time.Millisecond, first: 50 * time.Millisecond, every: time.Hour, twin: time.Hour,
}

// newPresence starts a Presence with a follower of its own. Both end with the test.
func newPresence(t testing.TB, cfg Config, id, face string, adjust ...func(*presenceTiming)) *presenceRig {
	t.Helper()
	f, _ := follow(t, cfg, quick)
	r := &presenceRig{id: id, self: model.Agent{Host: "h", Face: face, Synced: true, Revision: 7, Started: time.Now()}}
	r.Presence = NewPresence(f, func() (string, model.Agent) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.id, r.self
	})
	r.timing = hastyPresence
	for _, change := range adjust {
		change(&r.timing)
	}
	r.Presence.Start()
	t.Cleanup(r.Presence.Close)
	return r
}

func (r *presenceRig) become(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// present waits until exactly these agents are there: "id face host".
func present(t testing.TB, cfg Config, want ...string) []AgentEntry {
	t.Helper()
	client := openClient(t, cfg)
	var agents []AgentEntry
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("there are %q", got)
		}
	}()
	eventually(t, fmt.Sprintf("agents %q", want), 20*time.Second, func() bool {
		var err error
		if agents, err = client.Agents(t.Context(), ""); err != nil {
			return false
		}
		got = nil
		for _, one := range agents {
			if one.Err != nil {
				t.Fatal(one.Err)
			}
			got = append(got, one.ID+" "+one.Agent.Face+" "+one.Agent.Host)
		}
		return slices.Equal(got, want)
	})
	return agents
}

func TestPresence(t *testing.T) {
	cfg := commonConfig(t)
	r := newPresence(t, cfg, "a1", "caddy")
	agents := present(t, cfg, "a1 caddy h")
	self := agents[0].Agent
	if self.Revision != 7 || !self.Synced || time.Since(self.Written) > time.Minute || agents[0].Stale != "" {
		t.Errorf("%+v is stale: %q", self, agents[0].Stale)
	}
	eventually(t, "the status", 5*time.Second, func() bool { return r.Status().ID == "a1" && r.Status().Error == "" })

	r.become(func() { r.self.Synced = false }) // which is told with the next renewal
	eventually(t, "that it isn't in step", 10*time.Second, func() bool { return !present(t, cfg, "a1 caddy h")[0].Agent.Synced })
	r.become(func() { r.self.Host = "h2" })
	r.Moved()
	present(t, cfg, "a1 caddy h2")
	r.become(func() { r.id = "a2" })
	r.Moved()
	present(t, cfg, "a2 caddy h2")
	one, err := openClient(t, cfg).Agents(t.Context(), "a1")
	if err != nil || len(one) != 0 {
		t.Errorf("the old id: %v, %v", one, err)
	}
	r.Close()
	present(t, cfg)
}

// An agent and the DNS beside it may have one id, and two of the same face by mistake. The one that comes later doesn't
// fight, and takes the key when it is free.
func TestPresencesOfOneID(t *testing.T) {
	cfg := commonConfig(t)
	var log logText
	cfg.Logger = log.logger()
	first := newPresence(t, cfg, "h1", "caddy")
	present(t, cfg, "h1 caddy h")
	newPresence(t, cfg, "h1", "coredns")
	present(t, cfg, "h1 caddy h", "h1+coredns coredns h")
	twin := newPresence(t, cfg, "h1", "caddy", func(timing *presenceTiming) { timing.twin = 0 })
	twin.become(func() { twin.self.Host = "twin" })
	eventually(t, "an error of the twin", 10*time.Second, func() bool { return strings.Contains(twin.Status().Error, errTwin.Error()) })
	time.Sleep(3 * hastyPresence.renew)
	present(t, cfg, "h1 caddy h", "h1+coredns coredns h")
	first.Close()
	present(t, cfg, "h1 caddy twin", "h1+coredns coredns h")
	eventually(t, "the error is over", 10*time.Second, func() bool { return twin.Status().Error == "" })
	if lines := strings.Count(log.String(), errTwin.Error()); lines != 1 {
		t.Errorf("%d lines of the twin:\n%s", lines, log.String())
	}
}

func TestPresenceLosesItsLease(t *testing.T) {
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	newPresence(t, cfg, "a1", "caddy")
	present(t, cfg, "a1 caddy h")
	lease := func() int64 {
		answer, err := w.client.Get(testContext(t), cfg.Prefix+"/agents/a1")
		if err != nil || len(answer.Kvs) == 0 {
			return 0
		}
		return answer.Kvs[0].Lease
	}
	before := lease()
	if before == 0 {
		t.Fatal("the key is under no lease")
	}
	if _, err := w.client.Revoke(testContext(t), clientv3.LeaseID(before)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another lease", 10*time.Second, func() bool { return lease() != 0 && lease() != before })
}

func TestPresenceOutage(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	r := newPresence(t, cfg, "a1", "caddy", func(timing *presenceTiming) { timing.ttl = 2 })
	present(t, cfg, "a1 caddy h")
	e.close()
	eventually(t, "an error", 20*time.Second, func() bool { return r.Status().Error != "" })
	e.start(t)
	present(t, cfg, "a1 caddy h")
	eventually(t, "the error is over", 20*time.Second, func() bool { return r.Status().Error == "" })
	e.close()
	began := time.Now()
	r.Close()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closing without etcd took %v", took)
	}
	e.start(t)
}

// A role that may not write is told of in one line, takes nothing of etcd, and follows all the same.
func TestPresenceReadOnly(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	w.putService("shop")
	enableUsers(t, w.client, DefaultPrefix, "mesh", "geheim")
	root := configOf(e, DefaultPrefix)
	root.Username, root.Password = "root", "geheim-root"
	admin := openClient(t, root).link
	if _, err := admin.RoleRevokePermission(testContext(t), "mesh", DefaultPrefix+"/", DefaultPrefix+"0"); err != nil {
		t.Fatal(err)
	}
	reads := clientv3.PermissionType(clientv3.PermRead)
	if _, err := admin.RoleGrantPermission(testContext(t), "mesh", DefaultPrefix+"/", DefaultPrefix+"0", reads); err != nil {
		t.Fatal(err)
	}
	cfg := configOf(e, DefaultPrefix)
	cfg.Username, cfg.Password = "mesh", "geheim"
	var log logText
	cfg.Logger = log.logger()
	r := newPresence(t, cfg, "a1", "caddy", func(timing *presenceTiming) { timing.every = 200 * time.Millisecond })
	eventually(t, "a refusal", 20*time.Second, func() bool { return strings.Contains(r.Status().Error, "permission denied") })
	time.Sleep(time.Second)
	if lines := strings.Count(log.String(), "permission denied"); lines != 1 {
		t.Errorf("%d lines:\n%s", lines, log.String())
	}
	if !r.follower.Status().Synced {
		t.Errorf("it doesn't follow: %+v", r.follower.Status())
	}
	answer, err := admin.Leases(testContext(t))
	if err != nil || len(answer.Leases) > 1 { // that of a try under way
		t.Errorf("leases %v, %v", answer, err)
	}
}

func TestPresenceJitter(t *testing.T) {
	a := newAnnouncer(&Presence{timing: defaultPresenceTiming, follower: &Follower{}})
	f := func(random float64, want time.Duration) {
		t.Helper()
		a.later(random)
		if got := a.wait(); got > want || got < want-time.Second {
			t.Errorf("%v: %v, want %v", random, got, want)
		}
	}
	f(0, 0)
	f(0.5, 30*time.Second)
	f(1, time.Minute)
}

func TestMarkStale(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	agent := func(written time.Duration, revision int64, change func(*model.Agent)) AgentEntry {
		one := &model.Agent{Synced: true, Revision: revision, Age: model.Duration(5 * time.Second), Written: now.Add(-written)}
		if change != nil {
			change(one)
		}
		return AgentEntry{Agent: one}
	}
	f := func(want string, agents ...AgentEntry) {
		t.Helper()
		markStale(agents, now)
		if agents[0].Stale != want {
			t.Errorf("%+v: %q, want %q", agents[0].Agent, agents[0].Stale, want)
		}
	}
	f("", agent(time.Minute, 7, nil))
	f("", agent(time.Minute, 7, nil), agent(0, 9, nil))             // later
	f("", agent(time.Minute, 7, nil), agent(2*time.Minute, 9, nil)) // hardly earlier
	f("2 revisions behind", agent(time.Minute, 7, nil), agent(3*time.Minute, 9, nil), agent(4*time.Minute, 8, nil), AgentEntry{})
	f("no configuration", agent(time.Minute, 0, nil), agent(3*time.Minute, 9, nil))
	f("age 3m0s", agent(time.Minute, 7, func(a *model.Agent) { a.Age, a.Synced = model.Duration(3*time.Minute), false }))
	f("not synced", agent(time.Minute, 7, func(a *model.Agent) { a.Synced = false }))
	f("", agent(25*time.Minute, 7, nil))
	f("silent for 26m0s", agent(26*time.Minute, 7, nil))
	f("", agent(-time.Hour, 7, nil)) // a clock that is ahead
}

func TestParseAgentKey(t *testing.T) {
	keys := newKeyspace("/x")
	f := func(key, want string, ok bool) {
		t.Helper()
		if got, err := keys.parseAgent([]byte(key)); got != want || (err == nil) != ok {
			t.Errorf("%q: %q, %v", key, got, err)
		}
	}
	f(keys.agent("host-1+coredns"), "host-1+coredns", true)
	f("/x/agents/", "", false)
	f("/x/agents/a/b", "a/b", false)
	f("/x/agents/\n", "\n", false)
	f("/x/config/a", "/x/config/a", false)
	if _, err := (&Client{}).Agents(t.Context(), "a/b"); err == nil {
		t.Error("an id with a slash")
	}
}
