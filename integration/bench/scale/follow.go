package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	called   = 5    // services that requests go to
	requests = 1000 // a second
	askers   = 16
	percent  = 100
)

// follow measures an agent while a thousand instances a second change their weights: in any services, and in one.
func (b *bench) follow(f face) error {
	agent, err := b.loaded(f)
	if err != nil {
		return err
	}
	defer b.stop(agent)
	warm := newLoad(f, agent)
	if _, err := warm.run(3 * time.Second); err != nil {
		return err
	}
	for _, where := range []struct {
		name          string
		first, number int // services that change
	}{
		{"in all services", 0, services},
		{"in one service that is called", 0, 1},
	} {
		if err := b.followWhere(f, agent, where.name, where.first, where.number); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) followWhere(f face, agent *server, name string, first, number int) error {
	name = fmt.Sprintf("%d changes a second %s: ", *rateFlag, name)
	if err := b.costOfChanges(f, agent, name, first, number); err != nil {
		return err
	}
	load := newLoad(f, agent)
	var ratios, quiet []float64
	for n := range *pairs {
		order := [2]string{otherPrefix, fullPrefix}
		if n%2 == 1 {
			order[0], order[1] = order[1], order[0]
		}
		p99 := map[string]time.Duration{}
		for _, prefix := range order {
			took, err := b.among(load, prefix, first, number)
			if err != nil {
				return err
			}
			p99[prefix] = quantile(took, 0.99)
		}
		quiet = append(quiet, milliseconds(p99[otherPrefix]))
		ratios = append(ratios, float64(p99[fullPrefix])/float64(p99[otherPrefix]))
	}
	b.report.limit(f.name(), name+"p99 of requests / without them", median(ratios), 1.25, "")
	b.report.note(f.name(), "… p99 of requests without them", median(quiet), "ms")
	return nil
}

// among sends requests while changes are written below a prefix. In both halves of a pair etcd and the writers work the same,
// since they share the machine with the agent; whether the agent has to follow them makes the difference.
func (b *bench) among(load *load, prefix string, first, number int) ([]time.Duration, error) {
	changes := b.beginChanges(prefix, first, number)
	took, err := load.run(*each)
	if stopped := changes.end(); err == nil {
		err = stopped
	}
	return took, err
}

// costOfChanges measures the agent's CPU time for changes alone, and the time until changes are in force among them.
func (b *bench) costOfChanges(f face, agent *server, name string, first, number int) error {
	const lasts = 5 * time.Second
	share := func(during func() error) (float64, error) {
		before, err := agent.cpu()
		if err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := during(); err != nil {
			return 0, err
		}
		after, err := agent.cpu()
		return percent * float64(after-before) / float64(time.Since(begun)), err
	}
	idle, err := share(func() error { time.Sleep(lasts); return nil })
	if err != nil {
		return err
	}
	changes := b.beginChanges(fullPrefix, first, number)
	busy, err := share(func() error { time.Sleep(lasts); return nil })
	if err != nil {
		return err
	}
	made := changes.made()
	took, err := b.effective(f, agent, 100, 5*time.Millisecond)
	if stopped := changes.end(); err == nil {
		err = stopped
	}
	if err != nil {
		return err
	}
	b.report.note(f.name(), name+"made", made, "/s")
	b.report.limit(f.name(), name+"share of a core", busy-idle, 10, "%")
	b.report.limit(f.name(), name+"a change in force, p99", milliseconds(quantile(took, 0.99)), 100, "ms")
	return nil
}

// changes are writers.
type changes struct {
	cancel  context.CancelFunc
	writers sync.WaitGroup
	count   atomic.Int64
	failed  atomic.Pointer[error]
	begun   time.Time
}

// beginChanges begins to write: each change is a transaction of its own, which is hardest for those who follow.
func (b *bench) beginChanges(prefix string, first, number int) *changes {
	ctx, cancel := context.WithCancel(context.Background())
	c := &changes{cancel: cancel, begun: time.Now()}
	limit := rate.NewLimiter(rate.Limit(*rateFlag), 10)
	client, err := newClient(b.etcd.address)
	if err != nil {
		c.failed.Store(&err)
		return c
	}
	for range 32 {
		c.writers.Go(func() {
			for limit.Wait(ctx) == nil {
				op := b.put(prefix, first+rand.IntN(number), rand.IntN(perService), 1+rand.IntN(200))
				if err := commit(client, op); err != nil {
					c.failed.Store(&err)
					return
				}
				c.count.Add(1)
			}
		})
	}
	context.AfterFunc(ctx, func() {
		c.writers.Wait()
		client.Close()
	})
	return c
}

func (c *changes) made() float64 { return float64(c.count.Load()) / time.Since(c.begun).Seconds() }

func (c *changes) end() error {
	c.cancel()
	c.writers.Wait()
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// load is requests at a steady rate, whoever is slow: what waits behind a slow one counts as slow, too.
type load struct {
	face  face
	agent *server
}

func newLoad(f face, agent *server) *load { return &load{f, agent} }

// run sends requests for a while, and returns how long each took from the time when it was due.
func (l *load) run(lasts time.Duration) ([]time.Duration, error) {
	took := make([][]time.Duration, askers)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	begun := time.Now()
	for n := range askers {
		all.Go(func() {
			asks, err := l.face.client(l.agent)
			if err != nil {
				failed.Store(&err)
				return
			}
			defer asks.Close()
			const every = time.Second * askers / requests
			for due := begun.Add(every * time.Duration(n) / askers); due.Sub(begun) < lasts; due = due.Add(every) {
				time.Sleep(time.Until(due))
				if _, err := asks.ask(nameOf(rand.IntN(called))); err != nil {
					failed.Store(&err)
					return
				}
				took[n] = append(took[n], time.Since(due))
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	var list []time.Duration
	for _, part := range took {
		list = append(list, part...)
	}
	return list, nil
}
