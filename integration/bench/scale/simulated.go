package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

// follower is a simulated agent: it follows as a real one does, and notes when it has heard of which change.
type follower struct {
	*store.Follower
	board  *store.Board // hears the bans of its machine, which is another one for each
	weight atomic.Int64 // of the service's first instance, as it was heard last
	heard  atomic.Int64 // when, in Unix nanoseconds
}

// start begins to follow the mesh and, unless that is off, the bans of the agent's own machine.
func (f *follower) start() {
	f.Start()
	if *boards {
		f.board.Start()
	}
}

// Replace implements store.Sink.
func (f *follower) Replace(_ int64, records []model.Record) { f.note(records) }

// Apply implements store.Sink.
func (f *follower) Apply(_ int64, records []model.Record) { f.note(records) }

// Confirm implements store.Sink.
func (f *follower) Confirm(int64) {}

// Forget implements store.Sink.
func (f *follower) Forget([]string) {}

var firstOfTier = tierAddress(0)

func tierAddress(n int) string { return fmt.Sprintf("127.1.0.%d:80", 1+n) }

func (f *follower) note(records []model.Record) {
	for n := range records {
		if i := records[n].Instance; i != nil && records[n].Address == firstOfTier {
			f.heard.Store(time.Now().UnixNano())
			f.weight.Store(int64(i.Weight))
		}
	}
}

// simulate makes the agents. Behind proxies, one half names the first one first, the other half the second.
func (b *bench) simulate(proxies []*server) (agents []*follower, err error) {
	for n := range *simulated {
		endpoints := []string{"http://" + b.etcd.address}
		if len(proxies) > 0 {
			endpoints = nil
			for p := range proxies {
				endpoints = append(endpoints, "http://"+proxies[(n+p)%len(proxies)].address)
			}
		}
		f := &follower{}
		f.Follower, err = store.NewFollower(store.Config{Endpoints: endpoints, Prefix: tierPrefix, Logger: slog.New(slog.DiscardHandler)}, f)
		if err != nil {
			return agents, err
		}
		machine := fmt.Sprintf("host-%d", n)
		if f.board, err = store.NewBoard(f.Follower, machine, machine, func(string, netip.AddrPort, *model.ToldBan) {}); err != nil {
			return agents, err
		}
		agents = append(agents, f)
	}
	return agents, nil
}

func closeAll(agents []*follower) {
	var closing sync.WaitGroup
	for _, f := range agents {
		closing.Go(func() {
			f.board.Close()
			f.Close()
		})
	}
	closing.Wait()
}

// all waits until something is true of all agents, and returns how long that took.
func all(agents []*follower, is func(*follower) bool) (time.Duration, error) {
	begun := time.Now()
	for n := 0; n < len(agents); {
		switch {
		case is(agents[n]):
			n++
		case time.Since(begun) > 2*time.Minute:
			return 0, fmt.Errorf("agent %d of %d isn't there after %s: %+v", n, len(agents), time.Since(begun), agents[n].Status())
		default:
			time.Sleep(time.Millisecond)
		}
	}
	return time.Since(begun), nil
}
