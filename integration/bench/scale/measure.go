package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// load measures the time from the start of an agent's process until it knows the whole mesh, 3 times.
func (b *bench) load(f face) error {
	var took, bare []float64
	for range 3 {
		agent, err := b.loaded(f)
		if err != nil {
			return err
		}
		took = append(took, time.Since(agent.begun).Seconds())
		b.stop(agent)
		empty, err := f.agent(b, emptyPrefix)
		if err != nil {
			return err
		}
		bare = append(bare, time.Since(empty.begun).Seconds())
		b.stop(empty)
	}
	b.report.limit(f.name(), "first load, from the start of the process, median of 3", median(took), 3, "s")
	b.report.note(f.name(), "… of which the process itself, until it listens", median(bare), "s")
	return nil
}

// loaded starts an agent and waits until it knows the mesh.
func (b *bench) loaded(f face) (*server, error) {
	agent, err := f.agent(b, fullPrefix)
	if err != nil {
		return nil, err
	}
	asks, err := f.client(agent)
	if err != nil {
		return nil, err
	}
	defer asks.Close()
	return agent, agent.await(func() error { _, err := asks.ask(probe); return err })
}

// changesMeasured is how many changes the time until they are in force is measured of.
const changesMeasured = 300

// change measures the time from before a change is written to etcd until a request goes by it: an instance loses its weight, another
// one gets it.
func (b *bench) change(f face) error {
	agent, err := b.loaded(f)
	if err != nil {
		return err
	}
	defer b.stop(agent)
	took, err := b.effective(f, agent, changesMeasured, 0)
	if err != nil {
		return err
	}
	b.report.limit(f.name(), "a change until a request goes by it, p99", milliseconds(quantile(took, 0.99)), 100, "ms")
	b.report.note(f.name(), "… median", milliseconds(quantile(took, 0.5)), "ms")
	return nil
}

// effective makes changes, with a pause between them, and measures the time until each is in force.
func (b *bench) effective(f face, agent *server, changes int, pause time.Duration) (took []time.Duration, err error) {
	writer, err := newClient(b.etcd.address)
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	asks, err := f.client(agent)
	if err != nil {
		return nil, err
	}
	defer asks.Close()
	for n := range changes {
		second := n%2 == 0
		begun := time.Now()
		if err := commit(writer, b.switchProbe(second)...); err != nil {
			return nil, err
		}
		for {
			now, err := asks.ask(probe)
			if err != nil {
				return nil, err
			}
			if now == second {
				break
			}
			if time.Since(begun) > 10*time.Second {
				return nil, fmt.Errorf("a change isn't in force after %s", time.Since(begun))
			}
			time.Sleep(200 * time.Microsecond)
		}
		took = append(took, time.Since(begun))
		time.Sleep(pause)
	}
	return took, nil
}

// usualCalls is how many calls a second an agent has on average.
const usualCalls = 12

// memory measures what 200,000 instances take: the memory of agents of the same age that hold them, less that of an agent that
// holds nothing.
func (b *bench) memory(f face) error {
	kinds := []struct {
		name, prefix  string
		services, qps int // that are called, all the time
	}{
		{"", emptyPrefix, 0, 0},
		{"200,000 instances in memory, none called", fullPrefix, 0, 0},
		{"200,000 instances in memory, 50 services called", fullPrefix, 50, usualCalls},
		{"200,000 instances in memory, all services called", fullPrefix, services, f.calls()},
	}
	agents := make([]*server, len(kinds))
	for n, kind := range kinds {
		var err error
		if kind.prefix == emptyPrefix {
			agents[n], err = f.agent(b, kind.prefix)
		} else {
			agents[n], err = b.loaded(f)
		}
		if err != nil {
			return err
		}
		defer b.stop(agents[n])
	}
	stop := make(chan struct{})
	done := make(chan error, len(kinds))
	for n, kind := range kinds {
		go func() { done <- b.callAll(f, agents[n], kind.services, kind.qps, stop) }()
	}
	var empty float64
	for n, kind := range kinds {
		time.Sleep(time.Until(agents[n].begun.Add(*settle)))
		resident, err := agents[n].resident("VmRSS")
		if err != nil {
			return err
		}
		most, err := agents[n].resident("VmHWM")
		if err != nil {
			return err
		}
		if n == 0 {
			empty = resident
			b.report.note(f.name(), fmt.Sprintf("memory of an empty agent, %s after its start", *settle), resident, "MiB")
			continue
		}
		b.report.limit(f.name(), kind.name, resident-empty, 100, "MiB")
		b.report.note(f.name(), "… the most that it had so far", most-empty, "MiB")
	}
	for n, name := range []string{1: "idle", 3: "called"} {
		if err := keepProfile(agents[n], name); err != nil {
			return err
		}
	}
	close(stop)
	for range kinds {
		if err := <-done; err != nil {
			return err
		}
	}
	return nil
}

// callAll calls some services in turn, at a rate, until it is stopped.
func (b *bench) callAll(f face, agent *server, services, qps int, stop chan struct{}) error {
	if qps == 0 {
		return nil
	}
	asks, err := f.client(agent)
	if err != nil {
		return err
	}
	defer asks.Close()
	ticks := time.NewTicker(time.Second / time.Duration(qps))
	defer ticks.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		case <-ticks.C:
		}
		if _, err := asks.ask(nameOf(n % services)); err != nil {
			return err
		}
	}
}

// keepProfile writes the heap profile of a Caddy agent to a file.
func keepProfile(agent *server, name string) error {
	if *profile == "" || name == "" || agent.admin == "" {
		return nil
	}
	resp, err := http.Get("http://" + agent.admin + "/debug/pprof/heap?gc=1")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	file, err := os.Create(*profile + "." + name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(file, resp.Body); err != nil {
		return err
	}
	return file.Close()
}
