package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

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
	if status := agent.Status(); status.Told != 150 || status.LeasesLost != 0 || status.WriteError != "" || status.ReadError != "" {
		t.Errorf("before: %+v", status)
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
	eventually(t, "the status", 10*time.Second, func() bool {
		return agent.Status() == BoardStatus{Told: 149, LeasesLost: 1} && dns.Status() == BoardStatus{Heard: 149}
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

// A callee whose instances stay dead makes no agent write for ever: bans that only go on are written together, with the
// lease's renewal, and in time.
func TestBoardBansThatGoOn(t *testing.T) {
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, cfg.Prefix)
	agent := newBoard(t, cfg, "host", "agent", func(b *Board) { b.timing.renew = time.Second })
	const dead = 60
	for n := range dead {
		agent.ban(n, "refused")
	}
	eventually(t, "all bans", 10*time.Second, func() bool { bans, _ := w.boards(); return len(bans) == dead })
	before := w.put("mark", "")
	began := time.Now()
	for time.Since(began) < 3*time.Second { // each for itself, as their probes fail
		for n := range dead {
			agent.ban(n, "refused")
			time.Sleep(20 * time.Millisecond)
		}
	}
	took := time.Since(began)
	writes, most := w.put("mark", "")-before-1, int64(took/(900*time.Millisecond))+1
	if t.Logf("%d writes in %v", writes, took); writes > most {
		t.Errorf("%d writes in %v, want %d at most", writes, took, most)
	}

	w.root = cfg.Prefix + "/bans/host/"
	written := func() model.ToldBan {
		value, _ := w.get("shop/" + instance(0).String())
		ban, _, err := model.ParseToldBan("shop", instance(0).String(), value)
		if err != nil {
			t.Fatal(err)
		}
		return *ban
	}
	longer := banned("refused")
	agent.Publish("shop", instance(0), longer)
	eventually(t, "the new end", 3*time.Second, func() bool { return written().Until.Equal(longer.Tidy().Until) })
	// What has been over for a while is told at once: the neighbours are about to give it up.
	b := agent.Board
	past, more := banned("refused"), banned("refused")
	for ago, want := range map[time.Duration]bool{0: true, b.timing.renew: false} {
		if past.Until = time.Now().Add(-ago); b.prolongs(past, more) != want {
			t.Errorf("over for %v, and then longer: told later is %v", ago, !want)
		}
	}
}

// Who takes back his own ban is told again of another agent's: beside his own it may have been of no account.
func TestBoardReminds(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	one, two := newBoard(t, cfg, "host", "one"), newBoard(t, cfg, "host", "two")
	calls := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d calls", want), 5*time.Second, func() bool {
			two.mu.Lock()
			defer two.mu.Unlock()
			return two.calls == want
		})
	}
	one.ban(1, "first")
	calls(1)
	two.ban(1, "second")
	two.back(1)
	calls(2)
	two.told("shop 10.0.0.1:80 one: first")
	two.ban(2, "his alone")
	two.back(2)
	one.back(1)
	calls(3)
	two.told()
}

// An agent may have any name: what it tells must be readable.
func TestBoardOfAnOddName(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	one, two := newBoard(t, cfg, "host", "a\tb"+strings.Repeat("x", 2000)), newBoard(t, cfg, "host", "two")
	one.ban(1, "refused")
	two.told("shop 10.0.0.1:80 a b" + strings.Repeat("x", 1021) + ": refused")
	if err := one.Identify("host", "c\nd"); err != nil {
		t.Fatal(err)
	}
	two.told("shop 10.0.0.1:80 c d: refused")
}
