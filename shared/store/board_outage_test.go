package store

import (
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// hastyBoard finds a silent watch soon.
func hastyBoard(b *Board) { b.timing.silence = 500 * time.Millisecond }

// Etcd dies with bans in it, and comes back: nothing is lost, of what was and of what happened meanwhile.
func TestBoardOutage(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	agent, dns := newBoard(t, cfg, "host", "agent", hastyBoard), newBoard(t, cfg, "host", "dns", hastyBoard)
	agent.ban(1, "stays")
	agent.ban(2, "goes")
	dns.told("shop 10.0.0.1:80 agent: stays", "shop 10.0.0.2:80 agent: goes")
	e.close()
	began := time.Now()
	for range 1000 {
		agent.ban(3, "comes")
		agent.back(2)
	}
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("publishing without etcd took %v", took)
	}
	time.Sleep(2 * time.Second)
	dns.told("shop 10.0.0.1:80 agent: stays", "shop 10.0.0.2:80 agent: goes") // until etcd says otherwise
	eventually(t, "a status that tells of it", 10*time.Second, func() bool {
		writing, reading := agent.Status(), dns.Status()
		return writing.Waiting == 2 && writing.WriteError != "" && reading.Heard == 2 && reading.ReadError != ""
	})
	e.start(t)
	dns.told("shop 10.0.0.1:80 agent: stays", "shop 10.0.0.3:80 agent: comes")
	eventually(t, "a status without errors", 10*time.Second, func() bool {
		writing, reading := agent.Status(), dns.Status()
		return writing == BoardStatus{Told: 2, LeasesLost: writing.LeasesLost} && reading == BoardStatus{Heard: 2}
	})
	e.close()
	began = time.Now()
	agent.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing without etcd took %v", took)
	}
	e.start(t)
}

// What was told doesn't outlive etcd's silence for ever, and is back with etcd.
func TestBoardExpires(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	agent := newBoard(t, cfg, "host", "agent", hastyBoard)
	dns := newBoard(t, cfg, "host", "dns", hastyBoard, func(b *Board) { b.timing.grace = time.Second })
	short := banned("short")
	short.Until = time.Now().Add(time.Second)
	agent.Publish("shop", instance(1), short)
	agent.ban(2, "long")
	dns.told("shop 10.0.0.1:80 agent: short", "shop 10.0.0.2:80 agent: long")
	time.Sleep(3 * time.Second)
	dns.told("shop 10.0.0.1:80 agent: short", "shop 10.0.0.2:80 agent: long") // etcd is heard, and still has it
	e.close()
	dns.told("shop 10.0.0.2:80 agent: long")
	e.start(t)
	dns.told("shop 10.0.0.1:80 agent: short", "shop 10.0.0.2:80 agent: long")
}

// A watch whose connection is cut, or stands without passing anything, is taken up again.
func TestBoardBadLine(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	agent := newBoard(t, cfg, "host", "agent")
	r := relayTo(t, common)
	far := cfg
	far.Endpoints = []string{"http://" + r.address}
	dns := newBoard(t, far, "host", "dns", hastyBoard)
	agent.ban(1, "before")
	dns.told("shop 10.0.0.1:80 agent: before")
	r.silence(true)
	agent.back(1)
	agent.ban(2, "meanwhile")
	time.Sleep(1500 * time.Millisecond)
	r.cut()
	r.silence(false)
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	dns.told("shop 10.0.0.2:80 agent: meanwhile")
	dns.ban(3, "of dns")
	agent.told("shop 10.0.0.3:80 dns: of dns")
}

// A role that may not write follows nevertheless, and says so once in a while.
func TestBoardReadOnly(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	root := configOf(e, DefaultPrefix)
	admin := newWriter(t, e, DefaultPrefix).client
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := testContext(t)
	_, err := admin.RoleAdd(ctx, "reader")
	must(err)
	_, err = admin.RoleGrantPermission(ctx, "reader", DefaultPrefix+"/", DefaultPrefix+"0", clientv3.PermissionType(clientv3.PermRead))
	must(err)
	for _, user := range []string{"root", "reader"} {
		_, err = admin.UserAdd(ctx, user, "geheim")
		must(err)
		_, err = admin.UserGrantRole(ctx, user, user)
		must(err)
	}
	_, err = admin.AuthEnable(ctx)
	must(err)
	root.Username, root.Password = "root", "geheim"
	reading := root
	reading.Username = "reader"
	var log logText
	reading.Logger = log.logger()

	agent, dns := newBoard(t, root, "host", "agent"), newBoard(t, reading, "host", "dns")
	dns.ban(1, "never told")
	eventually(t, "a line that says so", 10*time.Second, func() bool { return strings.Contains(log.String(), "permission denied") })
	agent.ban(2, "refused")
	dns.told("shop 10.0.0.2:80 agent: refused")
	agent.back(2)
	dns.told()
	agent.told()
	time.Sleep(time.Second)
	if got := strings.Count(log.String(), "permission denied"); got != 1 {
		t.Errorf("%d lines of the same:\n%s", got, log.String())
	}
	dns.back(1) // nothing was written: nothing is to be deleted
	eventually(t, "nothing left to do", 10*time.Second, func() bool {
		dns.Board.mu.Lock()
		defer dns.Board.mu.Unlock()
		return len(dns.dirty) == 0
	})
}

// An etcd without space takes no more writes, but keeps what it has.
func TestBoardRefusedWritesCostNoLease(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	w := newWriter(t, e, DefaultPrefix)
	agent := newBoard(t, cfg, "host", "agent", func(b *Board) { b.timing.ttl, b.timing.renew = 2, 500*time.Millisecond })
	dns := newBoard(t, cfg, "host", "dns")
	agent.ban(1, "refused")
	dns.told("shop 10.0.0.1:80 agent: refused")
	alarm := func(action pb.AlarmRequest_AlarmAction) {
		t.Helper()
		request := &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: uint64(e.server.Server.MemberID())}
		if _, err := pb.NewMaintenanceClient(w.client.ActiveConnection()).Alarm(testContext(t), request); err != nil {
			t.Fatal(err)
		}
	}
	alarm(pb.AlarmRequest_ACTIVATE)
	agent.ban(2, "told later")
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(100 * time.Millisecond) {
		dns.mu.Lock()
		lost := len(dns.bans) != 1
		dns.mu.Unlock()
		if lost {
			t.Fatalf("the ban that was told is gone after %v: %+v", time.Since(began), agent.Status())
		}
	}
	alarm(pb.AlarmRequest_DEACTIVATE)
	dns.told("shop 10.0.0.1:80 agent: refused", "shop 10.0.0.2:80 agent: told later")
}

// Signing in costs etcd a tenth of a second and a write: a renewal must not do it, but when etcd has forgotten who one is.
func TestBoardRenewsWithoutSigningIn(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	cfg := configOf(e, DefaultPrefix)
	admin, ctx := newWriter(t, e, DefaultPrefix).client, testContext(t)
	_, err := admin.UserAdd(ctx, "root", "geheim")
	if err == nil {
		_, err = admin.UserGrantRole(ctx, "root", "root")
	}
	if err == nil {
		_, err = admin.AuthEnable(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg.Username, cfg.Password = "root", "geheim"
	agent := newBoard(t, cfg, "host", "agent", hastyBoard, func(b *Board) { b.timing.renew = 100 * time.Millisecond })
	dns := newBoard(t, cfg, "host", "dns", hastyBoard)
	renewals := func() {
		t.Helper()
		dns.told("shop 10.0.0.1:80 agent: refused")
		time.Sleep(time.Second) // all have signed in
		before := e.server.Server.AppliedIndex()
		time.Sleep(3 * time.Second)
		if writes := e.server.Server.AppliedIndex() - before; writes > 3 {
			t.Errorf("%d writes while thirty renewals were due", writes)
		}
		if status := agent.Status(); status != (BoardStatus{Told: 1}) {
			t.Errorf("%+v", status)
		}
	}
	agent.ban(1, "refused")
	renewals()
	e.close()
	e.start(t) // which knows no token any more
	eventually(t, "a renewal", 10*time.Second, func() bool { return agent.Status().WriteError == "" })
	renewals()
}

func TestBoardNeedsAHost(t *testing.T) {
	f, _ := follow(t, commonConfig(t))
	for _, host := range []string{"", "a/b", "a b"} {
		if _, err := NewBoard(f, host, "agent", nil); err == nil {
			t.Errorf("host %q was taken", host)
		}
	}
	idle, err := NewBoard(f, "host", "agent", nil)
	if err != nil {
		t.Fatal(err)
	}
	idle.Close() // never started
	idle.Close()
}
