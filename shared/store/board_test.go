package store

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// boardRig is one agent's Board, and what it was told.
type boardRig struct {
	*Board
	t testing.TB

	mu    sync.Mutex
	bans  map[string]string // by "service address", who says so
	calls int
}

// newBoard starts a Board of an agent on a host, with a follower of its own. Both end with the test.
func newBoard(t testing.TB, cfg Config, host, agent string, adjust ...func(*Board)) *boardRig {
	t.Helper()
	f, _ := follow(t, cfg, quick)
	r := &boardRig{t: t, bans: map[string]string{}}
	board, err := NewBoard(f, host, agent, r.took)
	if err != nil {
		t.Fatal(err)
	}
	r.Board = board
	for _, change := range adjust {
		change(board)
	}
	board.Start()
	t.Cleanup(board.Close)
	return r
}

func (r *boardRig) took(service string, address netip.AddrPort, ban *model.ToldBan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if at := service + " " + address.String(); ban != nil {
		r.bans[at] = ban.Agent + ": " + ban.Detail
	} else if _, ok := r.bans[at]; ok {
		delete(r.bans, at)
	} else {
		r.t.Errorf("told that the ban of %s is over, of which there was none", at)
	}
}

// told waits until exactly these bans of others are known: "service address who: detail".
func (r *boardRig) told(want ...string) {
	r.t.Helper()
	var got []string
	defer func() {
		if r.t.Failed() {
			r.t.Logf("%s was told of %q, want %q", r.agent, got, want)
		}
	}()
	eventually(r.t, "what is told", 20*time.Second, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		got = nil
		for at, who := range r.bans {
			got = append(got, at+" "+who)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func (r *boardRig) ban(n int, detail string) { r.Publish("shop", instance(n), banned(detail)) }
func (r *boardRig) back(n int)               { r.Withdraw("shop", instance(n)) }

func instance(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
}

func banned(detail string) model.ToldBan {
	return model.ToldBan{Reason: "proof", Detail: detail, Since: time.Now(), Until: time.Now().Add(time.Minute)}
}

// boards reads what is published: "host/service/address" to agent and detail, and the leases.
func (w *writer) boards() (bans map[string]string, leases map[int64]bool) {
	w.t.Helper()
	bans, leases = map[string]string{}, map[int64]bool{}
	folder := strings.TrimSuffix(w.root, "config/") + "bans/"
	answer, err := w.client.Get(testContext(w.t), folder, clientv3.WithPrefix())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kv := range answer.Kvs {
		ban, warnings, err := model.ParseToldBan("", "", kv.Value)
		if err != nil || len(warnings) > 0 {
			w.t.Fatalf("%s: %s: %v, %v", kv.Key, kv.Value, err, warnings)
		}
		bans[strings.TrimPrefix(string(kv.Key), folder)] = ban.Agent + ": " + ban.Detail
		leases[kv.Lease] = true
	}
	return bans, leases
}

// published waits until exactly these bans are in etcd: "host/service/address who: detail".
func (w *writer) published(want ...string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("published %q", want), 20*time.Second, func() bool {
		bans, _ := w.boards()
		var got []string
		for _, key := range slices.Sorted(maps.Keys(bans)) {
			got = append(got, key+" "+bans[key])
		}
		return slices.Equal(got, want)
	})
}

func (w *writer) leases() int {
	w.t.Helper()
	answer, err := w.client.Leases(testContext(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	return len(answer.Leases)
}

func TestBoard(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	agent, dns := newBoard(t, cfg, "host-1", "agent"), newBoard(t, cfg, "host-1", "dns")
	elsewhere := newBoard(t, cfg, "host-2", "agent-2")

	began := time.Now()
	agent.ban(1, "refused")
	dns.told("shop 10.0.0.1:80 agent: refused")
	if took := time.Since(began); took > time.Second {
		t.Errorf("the neighbour was told after %v", took)
	}
	agent.ban(1, "still refused")
	agent.ban(2, "slow")
	dns.told("shop 10.0.0.1:80 agent: still refused", "shop 10.0.0.2:80 agent: slow")
	agent.back(1)
	agent.back(7) // it never was
	dns.told("shop 10.0.0.2:80 agent: slow")
	dns.ban(3, "dns's own")
	agent.told("shop 10.0.0.3:80 dns: dns's own")
	w.published("host-1/shop/10.0.0.2:80 agent: slow", "host-1/shop/10.0.0.3:80 dns: dns's own")

	// Who comes later is told at once; who closes takes his bans along.
	late := newBoard(t, cfg, "host-1", "late")
	late.told("shop 10.0.0.2:80 agent: slow", "shop 10.0.0.3:80 dns: dns's own")
	agent.Close()
	late.told("shop 10.0.0.3:80 dns: dns's own")
	dns.told()
	if elsewhere.calls != 0 || agent.bans["shop 10.0.0.2:80"] != "" {
		t.Errorf("another host was told %d times, the agent of itself: %v", elsewhere.calls, agent.bans)
	}
}

// Both default to the hostname: they must hear each other nevertheless.
func TestBoardsOfOneName(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	one, two := newBoard(t, cfg, "host", "host"), newBoard(t, cfg, "host", "host")
	one.ban(1, "one")
	two.ban(2, "two")
	one.told("shop 10.0.0.2:80 host: two")
	two.told("shop 10.0.0.1:80 host: one")
}

// Two agents that ban the same instance don't fight over its key: the first has it while its ban stands, then the second.
func TestBoardsOfOneBan(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	one, two := newBoard(t, cfg, "host", "one"), newBoard(t, cfg, "host", "two")
	one.ban(1, "first")
	two.told("shop 10.0.0.1:80 one: first")
	two.ban(1, "second")
	two.ban(2, "other")
	one.told("shop 10.0.0.2:80 two: other")
	one.ban(1, "first again")
	two.told("shop 10.0.0.1:80 one: first again")
	w.published("host/shop/10.0.0.1:80 one: first again", "host/shop/10.0.0.2:80 two: other")

	one.back(1)
	one.told("shop 10.0.0.1:80 two: second", "shop 10.0.0.2:80 two: other")
	two.told()
	two.back(2)
	two.back(1)
	one.told()
	w.published()

	// The second's ban is over before the first's: nothing of his is ever seen.
	one.ban(3, "first")
	two.told("shop 10.0.0.3:80 one: first")
	two.ban(3, "second")
	two.ban(4, "a mark")
	one.told("shop 10.0.0.4:80 two: a mark")
	two.back(3)
	one.back(3)
	two.told()
	w.published("host/shop/10.0.0.4:80 two: a mark")
}

// A key of its own that somebody deletes is written again; one that isn't its own is left alone.
func TestBoardAndStrangers(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	w.root = cfg.Prefix + "/bans/host/"
	var log logText
	cfg.Logger = log.logger()
	board := newBoard(t, cfg, "host", "agent")
	board.ban(1, "mine")
	eventually(t, "the key", 5*time.Second, func() bool { found, _ := w.get("shop/10.0.0.1:80"); return found != nil })
	w.delete("shop/10.0.0.1:80")
	eventually(t, "the key again", 5*time.Second, func() bool { found, _ := w.get("shop/10.0.0.1:80"); return found != nil })

	byHand := banned("by hand")
	byHand.Agent = "somebody"
	byHand = byHand.Tidy()
	value := string(byHand.JSON())
	w.put("shop/10.0.0.2:80", value)
	board.told("shop 10.0.0.2:80 somebody: by hand")
	w.put("shop/10.0.0.2:80", "{") // the last good one stays
	w.put("shop/10.0.0.02:80", "{}")
	w.put("odd", "{}")
	w.put("shop/10.0.0.3:80", value)
	board.told("shop 10.0.0.2:80 somebody: by hand", "shop 10.0.0.3:80 somebody: by hand")
	w.put("shop/10.0.0.1:80", value) // over ours
	board.told("shop 10.0.0.1:80 somebody: by hand", "shop 10.0.0.2:80 somebody: by hand", "shop 10.0.0.3:80 somebody: by hand")
	board.back(1)
	board.ban(4, "a mark")
	eventually(t, "the mark", 5*time.Second, func() bool { found, _ := w.get("shop/10.0.0.4:80"); return found != nil })
	if found, _ := w.get("shop/10.0.0.1:80"); found == nil {
		t.Error("somebody else's key was deleted")
	}
	w.delete("shop/10.0.0.2:80")
	board.told("shop 10.0.0.1:80 somebody: by hand", "shop 10.0.0.3:80 somebody: by hand")
	if !strings.Contains(log.String(), "refused") {
		t.Errorf("no line tells of the refused keys:\n%s", log.String())
	}
}

// A thousand bans and returns within a second must not become a thousand writes, and what they come to must be right.
func TestBoardWritesAreBounded(t *testing.T) {
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, cfg.Prefix)
	agent, dns := newBoard(t, cfg, "host", "agent"), newBoard(t, cfg, "host", "dns")
	before := w.put("mark", "")
	began := time.Now()
	for n := range 1000 {
		agent.ban(n%250, fmt.Sprint(n))
		if n%2 == 1 {
			agent.back(n % 250)
		}
		time.Sleep(900 * time.Microsecond)
	}
	took := time.Since(began)
	var want []string
	for n := 0; n < 250; n += 2 {
		want = append(want, fmt.Sprintf("shop %s agent: %d", instance(n), 750+n))
	}
	slices.Sort(want)
	dns.told(want...)
	took = max(took, time.Since(began))
	// Each transaction is one revision.
	writes, most := w.put("mark", "")-before-1, writeBurst+int64(writeRate*took.Seconds())+1
	t.Logf("%d writes in %v", writes, took)
	if writes > most {
		t.Errorf("%d writes in %v, want %d at most", writes, took, most)
	}
	if bans, leases := w.boards(); len(bans) != 125 || len(leases) != 1 {
		t.Errorf("%d bans under %d leases", len(bans), len(leases))
	}
}

// Without bans there is no lease, and none is made by what others tell.
func TestBoardLease(t *testing.T) {
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, cfg.Prefix)
	hasty := func(b *Board) {
		b.timing.linger, b.timing.renew, b.timing.ttl = 300*time.Millisecond, 200*time.Millisecond, 2
	}
	agent, dns := newBoard(t, cfg, "host", "agent", hasty), newBoard(t, cfg, "host", "dns", hasty)
	if got := w.leases(); got != 0 {
		t.Errorf("%d leases without a ban", got)
	}
	agent.ban(1, "refused")
	dns.told("shop 10.0.0.1:80 agent: refused")
	time.Sleep(4 * time.Second) // twice its TTL: it must be renewed
	w.published("host/shop/10.0.0.1:80 agent: refused")
	if got := w.leases(); got != 1 {
		t.Errorf("%d leases with one agent's ban", got)
	}
	agent.back(1)
	dns.told()
	eventually(t, "the lease is given back", 5*time.Second, func() bool { return w.leases() == 0 })
	agent.ban(2, "refused")
	dns.told("shop 10.0.0.2:80 agent: refused")
}

func TestBoardLosesItsLease(t *testing.T) {
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, cfg.Prefix)
	agent := newBoard(t, cfg, "host", "agent", func(b *Board) { b.timing.renew = 200 * time.Millisecond })
	dns := newBoard(t, cfg, "host", "dns")
	for n := range 150 {
		agent.ban(n, "refused")
	}
	eventually(t, "150 bans", 10*time.Second, func() bool { bans, _ := w.boards(); return len(bans) == 150 })
	_, leases := w.boards()
	for lease := range leases {
		if _, err := w.client.Revoke(testContext(t), clientv3.LeaseID(lease)); err != nil {
			t.Fatal(err)
		}
	}
	agent.back(0)
	eventually(t, "149 bans under a new lease", 10*time.Second, func() bool {
		bans, now := w.boards()
		return len(bans) == 149 && len(now) == 1 && !maps.Equal(now, leases)
	})
	eventually(t, "the neighbour knows", 10*time.Second, func() bool {
		dns.mu.Lock()
		defer dns.mu.Unlock()
		return len(dns.bans) == 149
	})
}

// A ban that nobody ends goes some time after its end.
func TestBoardOverdue(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	agent := newBoard(t, cfg, "host", "agent", func(b *Board) {
		b.timing.renew, b.timing.overdue = 100*time.Millisecond, 500*time.Millisecond
	})
	dns := newBoard(t, cfg, "host", "dns")
	ban := banned("forgotten")
	ban.Until = time.Now()
	agent.Publish("shop", instance(1), ban)
	dns.told("shop 10.0.0.1:80 agent: forgotten")
	dns.told()
}

// Who is renamed takes what he published to the new place, and hears the neighbours there.
func TestBoardIsRenamed(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	w := newWriter(t, common, cfg.Prefix)
	agent, old, fresh := newBoard(t, cfg, "old", "agent"), newBoard(t, cfg, "old", "a"), newBoard(t, cfg, "fresh", "b")
	agent.ban(1, "refused")
	old.ban(2, "old")
	fresh.ban(3, "fresh")
	agent.told("shop 10.0.0.2:80 a: old")
	if err := agent.Identify("fre/sh", "x"); err == nil {
		t.Error("a host with a slash was taken")
	}
	if err := agent.Identify("fresh", "renamed"); err != nil {
		t.Fatal(err)
	}
	agent.told("shop 10.0.0.3:80 b: fresh")
	fresh.told("shop 10.0.0.1:80 renamed: refused")
	old.told()
	if err := agent.Identify("fresh", "again"); err != nil {
		t.Fatal(err)
	}
	w.published("fresh/shop/10.0.0.1:80 again: refused", "fresh/shop/10.0.0.3:80 b: fresh", "old/shop/10.0.0.2:80 a: old")
}
