package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// probeInterval is how often an agent that is down is looked at. It bounds how long a program stays with a backup after the
// local agent has come back.
const probeInterval = 500 * time.Millisecond

// agent is one agent, as this program has found it.
type agent struct {
	address string // host:port
	down    atomic.Bool

	// Guarded by the list's lock.
	failures int  // how often it was found to be down
	watched  bool // a goroutine looks whether it lives
}

// agents is a list of agents, the preferred one first. One that has failed is down: it is asked after all others, until a probe
// finds that it answers. Requests of the program are never used as probes.
type agents struct {
	list  []*agent
	probe func(ctx context.Context, address string) error

	mu       sync.Mutex
	stopping context.Context
	stop     context.CancelFunc
	watchers sync.WaitGroup
}

func newAgents(addresses []string, probe func(context.Context, string) error) *agents {
	l := &agents{probe: probe}
	for _, address := range addresses {
		l.list = append(l.list, &agent{address: address})
	}
	l.stopping, l.stop = context.WithCancel(context.Background())
	return l
}

// next returns the agent to ask after those that were tried: the first that is up, else the first that is down. nil: all were
// tried.
func (l *agents) next(tried []*agent) *agent {
	var last *agent
	for _, a := range l.list {
		switch {
		case slices.Contains(tried, a):
		case !a.down.Load():
			return a
		case last == nil:
			last = a
		}
	}
	return last
}

// blame decides whose fault it is that the exchange with an agent ended with err. ctx is the program's.
func (l *agents) blame(ctx context.Context, a *agent, err error) {
	switch {
	case errors.Is(ctx.Err(), context.Canceled), ownFault(err): // says nothing about the agent
	case errors.As(err, new(*unreachable)):
		l.failed(a)
	case ended(ctx):
		l.suspect(a)
	default:
		l.broke(a)
	}
}

// failed says that an agent couldn't be reached, or has no configuration.
func (l *agents) failed(a *agent) { l.note(a, true, probeInterval) }

// broke says that an agent's connection has broken, as those of one that is just being killed do, or that it hasn't answered as
// agents do, or not in time. It is down until a probe, at once, says otherwise.
func (l *agents) broke(a *agent) { l.note(a, true, 0) }

// suspect says that an agent hasn't answered within the program's time, which others than the agent may have taken. A probe
// decides.
func (l *agents) suspect(a *agent) { l.note(a, false, 0) }

// note has an agent probed, after a while at first, until it answers. After close nobody would find that it lives again.
func (l *agents) note(a *agent, down bool, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping.Err() != nil {
		return
	}
	if down {
		a.failures++
		a.down.Store(true)
	}
	if !a.watched {
		a.watched = true
		l.watchers.Go(func() { l.watch(a, after) })
	}
}

func (l *agents) watch(a *agent, after time.Duration) {
	timer := time.NewTimer(after)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-l.stopping.Done():
			return
		}
		l.mu.Lock()
		before := a.failures
		l.mu.Unlock()
		if l.probed(a, before, l.probe(l.stopping, a.address)) {
			return
		}
		timer.Reset(probeInterval)
	}
}

// probed takes a probe's outcome, and returns whether the agent lives. A failure since the probe began is newer than its outcome.
func (l *agents) probed(a *agent, before int, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		a.down.Store(true)
	}
	if err != nil || a.failures != before {
		return false
	}
	a.down.Store(false)
	a.watched = false
	return true
}

// close ends the probes. From then on the agents are tried in their order, since nobody would find that one lives again.
func (l *agents) close() {
	l.mu.Lock()
	l.stop()
	l.mu.Unlock()
	l.watchers.Wait()
	for _, a := range l.list {
		a.down.Store(false)
	}
}

// unreachable is the error of a connect to an agent: nothing of a request was sent on it.
type unreachable struct {
	address string
	err     error
}

func (e *unreachable) Error() string {
	return fmt.Sprintf("connecting to the agent %s: %v", e.address, e.err)
}
func (e *unreachable) Unwrap() error { return e.err }

// Timeout tells whether the connect took too long; it makes the error a net.Error of that kind.
func (e *unreachable) Timeout() bool { return isTimeout(e.err) }

// Temporary is what net.Error still asks for.
func (e *unreachable) Temporary() bool { return e.Timeout() }

// noService is a name that is reserved, so that no service has it.
const noService = "i"

// probe is nil if an agent answers and has a configuration. It asks in both modes at once for a service that there isn't: by the
// header where requests are forwarded, by the query where the DNS hands out instances.
func (c *Client) probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+bypassPath+"?command=get&service="+noService, nil)
	if err != nil {
		return err
	}
	req.Header[headerService] = []string{noService}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	discard(resp)
	switch resp.Header.Get(headerError) {
	case "":
		return errors.New("it is no agent")
	case reasonNotSynced:
		return errors.New("the agent has no configuration")
	}
	return nil
}

// discard reads what is left of a short answer, so that its connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	_ = resp.Body.Close()
}
