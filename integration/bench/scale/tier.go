package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/store"
)

const (
	tierPrefix    = "/tier" // a mesh of one service, so that this process can be a thousand agents
	tierInstances = 200
	tierChanges   = 200
)

// tier follows a small mesh with a thousand agents, at etcd itself and through two proxies, of which one is killed at last.
func (b *bench) tier() error {
	progress("%d agents at etcd itself", *simulated)
	if err := b.tierOf("direct", 0); err != nil {
		return err
	}
	b.stopAll() // the next etcd begins with no memory of so many clients
	var err error
	if b.etcd, err = b.startEtcd(); err != nil {
		return err
	}
	progress("%d agents at two proxies", *simulated)
	return b.tierOf("proxies", 2)
}

// tierOf measures agents behind some proxies; 0: at etcd.
func (b *bench) tierOf(name string, number int) error {
	writer, err := newClient(b.etcd.address)
	if err != nil {
		return err
	}
	defer writer.Close()
	for n := range tierInstances {
		if err := commit(writer, putInstance(tierPrefix, "tier", tierAddress(n), n, 100)); err != nil {
			return err
		}
	}
	var proxies []*server
	for range number {
		proxy, err := b.startProxy()
		if err != nil {
			return err
		}
		proxies = append(proxies, proxy)
	}
	agents, err := b.simulate(proxies)
	defer closeAll(agents)
	if err != nil {
		return err
	}
	if err := b.followAll(writer, name, agents, proxies); err != nil || number == 0 {
		return err
	}
	if err := b.killProxy(writer, name, agents, proxies[0]); err != nil {
		return err
	}
	return b.lists(name, proxies[1])
}

// followAll starts the agents, and measures what they cost, and how late they are.
func (b *bench) followAll(writer *clientv3.Client, name string, agents []*follower, proxies []*server) error {
	servers := append([]*server{b.etcd}, proxies...)
	before, err := figures(servers)
	if err != nil {
		return err
	}
	for _, f := range agents {
		f.start()
	}
	took, err := all(agents, func(f *follower) bool { return f.Status().Synced })
	if err != nil {
		return err
	}
	b.report.note(name, fmt.Sprintf("%d agents until all follow", len(agents)), took.Seconds(), "s")
	deaf := b.quiet(agents)
	after, err := figures(servers)
	if err != nil {
		return err
	}
	for n, s := range servers {
		b.report.note(name, s.name+": memory per agent of all", 1024*(after[n].resident-before[n].resident)/float64(len(agents)), "KiB")
	}
	watchers, err := b.etcd.metric("etcd_debugging_mvcc_watcher_total")
	if err != nil {
		return err
	}
	b.report.note(name, "etcd: watchers", watchers, "")
	b.report.limit(name, fmt.Sprintf("agents that don't hear etcd in %s of quiet", quietTime), float64(deaf), 0, "")
	return b.lags(writer, name, agents, servers)
}

// quietTime is longer than an agent waits for a sign of life.
const quietTime = 35 * time.Second

// quiet waits, and counts the agents that don't hear etcd at any time meanwhile.
func (b *bench) quiet(agents []*follower) (deaf int) {
	lost := make([]bool, len(agents))
	for begun := time.Now(); time.Since(begun) < quietTime; time.Sleep(50 * time.Millisecond) {
		for n, f := range agents {
			if !lost[n] && !f.Status().Synced {
				lost[n] = true
				deaf++
			}
		}
	}
	return deaf
}

// lags makes changes, and measures how late the agents hear of them, and what that costs.
func (b *bench) lags(writer *clientv3.Client, name string, agents []*follower, servers []*server) error {
	before, err := figures(servers)
	if err != nil {
		return err
	}
	begun := time.Now()
	var every, last []time.Duration
	for n := range tierChanges {
		late, err := lag(writer, agents, 1000+n)
		if err != nil {
			return err
		}
		every, last = append(every, late...), append(last, slices.Max(late))
		time.Sleep(time.Until(begun.Add(time.Duration(n+1) * 50 * time.Millisecond)))
	}
	after, err := figures(servers)
	if err != nil {
		return err
	}
	b.report.note(name, "a change until an agent has it, median", milliseconds(quantile(every, 0.5)), "ms")
	b.report.note(name, "… p99", milliseconds(quantile(every, 0.99)), "ms")
	b.report.note(name, "a change until the last agent has it, median", milliseconds(quantile(last, 0.5)), "ms")
	b.report.note(name, "… p99", milliseconds(quantile(last, 0.99)), "ms")
	for n, s := range servers {
		cost := float64((after[n].cpu - before[n].cpu).Microseconds()) / tierChanges / float64(len(agents))
		b.report.note(name, s.name+": CPU for a change, per agent of all", cost, "µs")
	}
	return nil
}

// lag changes a weight, and returns how long each agent took to hear of it.
func lag(writer *clientv3.Client, agents []*follower, weight int) ([]time.Duration, error) {
	begun := time.Now()
	if err := commit(writer, putInstance(tierPrefix, "tier", firstOfTier, 0, weight)); err != nil {
		return nil, err
	}
	if _, err := all(agents, func(f *follower) bool { return f.weight.Load() == int64(weight) }); err != nil {
		return nil, err
	}
	late := make([]time.Duration, len(agents))
	for n, f := range agents {
		late[n] = time.Unix(0, f.heard.Load()).Sub(begun)
	}
	return late, nil
}

// killProxy kills the proxy that half of the agents name first.
func (b *bench) killProxy(writer *clientv3.Client, name string, agents []*follower, proxy *server) error {
	progress("killing a proxy")
	b.stop(proxy)
	begun := time.Now()
	late, err := lag(writer, agents, 1)
	if err != nil {
		return err
	}
	b.report.note(name, "a proxy is killed, and a change made: until the last agent has it", slices.Max(late).Seconds(), "s")
	_, err = all(agents, func(f *follower) bool { return f.Status().Synced })
	if err != nil {
		return err
	}
	b.report.note(name, "… until all agents say that they follow", time.Since(begun).Seconds(), "s")
	if late, err = lag(writer, agents, 2); err == nil {
		b.report.note(name, "the next change until the last agent has it", slices.Max(late).Seconds(), "s")
	}
	return err
}

// listed is how often the whole mesh is read through a proxy, each time at another revision.
const listed = 10

// lists measures what a proxy keeps of what was read through it.
func (b *bench) lists(name string, proxy *server) error {
	progress("reading the whole mesh through a proxy")
	if err := b.fill(); err != nil {
		return err
	}
	writer, err := newClient(b.etcd.address)
	if err != nil {
		return err
	}
	defer writer.Close()
	servers := []*server{b.etcd, proxy}
	before, err := figures(servers)
	if err != nil {
		return err
	}
	begun := time.Now()
	for n := range listed {
		if err := commit(writer, b.put(fullPrefix, 0, 0, 1+n)); err != nil {
			return err
		}
		f := &follower{}
		f.Follower, err = store.NewFollower(store.Config{
			Endpoints: []string{"http://" + proxy.address}, Prefix: fullPrefix, Logger: slog.New(slog.DiscardHandler),
		}, f)
		if err != nil {
			return err
		}
		f.Start()
		_, err := all([]*follower{f}, func(f *follower) bool { return f.Status().Synced })
		f.Close()
		if err != nil {
			return err
		}
	}
	took := time.Since(begun).Seconds() / listed
	after, err := figures(servers)
	if err != nil {
		return err
	}
	b.report.note(name, "reading the whole mesh through a proxy, mean of 10", took, "s")
	b.report.note(name, "… memory that the proxy keeps of each, at another revision", (after[1].resident-before[1].resident)/listed, "MiB")
	for n, s := range servers {
		b.report.note(name, "… CPU of "+s.name, (after[n].cpu-before[n].cpu).Seconds()/listed, "s")
	}
	return nil
}

// figure is what a process has used.
type figure struct {
	resident float64 // MiB
	cpu      time.Duration
}

func figures(servers []*server) ([]figure, error) {
	list := make([]figure, len(servers))
	for n, s := range servers {
		var err error
		if list[n].resident, err = s.resident("VmRSS"); err != nil {
			return nil, err
		}
		if list[n].cpu, err = s.cpu(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
