package main

import (
	"os"
	"slices"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == etcdCommand {
		serveEtcd(os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// Agents behind two proxies of etcd follow, and go on following when one proxy is killed.
func TestAgentsOutliveAProxy(t *testing.T) {
	*simulated = 30
	b := &bench{dir: t.TempDir(), report: &report{}}
	defer b.stopAll()
	var err error
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.etcd, err = b.startEtcd()
	check(err)
	writer, err := newClient(b.etcd.address)
	check(err)
	defer writer.Close()
	check(commit(writer, putInstance(tierPrefix, "tier", firstOfTier, 0, 100)))
	var proxies []*server
	for range 2 {
		proxy, err := b.startProxy()
		check(err)
		proxies = append(proxies, proxy)
	}
	agents, err := b.simulate(proxies)
	check(err)
	defer closeAll(agents)
	for _, f := range agents {
		f.start()
	}
	_, err = all(agents, func(f *follower) bool { return f.Status().Synced })
	check(err)
	watchers, err := b.etcd.metric("etcd_debugging_mvcc_watcher_total")
	check(err)
	// A watch of the mesh is shared; that of the bans of an agent's own machine can't be.
	if most := 1.5 * float64(len(agents)); watchers > most {
		t.Errorf("%v watchers at etcd, want %v at most of %d agents", watchers, most, len(agents))
	}
	late, err := lag(writer, agents, 1)
	check(err)
	t.Logf("a change is with the last agent after %v", slices.Max(late))

	b.stop(proxies[0])
	late, err = lag(writer, agents, 2)
	check(err)
	t.Logf("after a proxy was killed: %v", slices.Max(late))
	_, err = all(agents, func(f *follower) bool { return f.Status().Synced })
	check(err)
	late, err = lag(writer, agents, 3)
	check(err)
	t.Logf("later: %v", slices.Max(late))
}
