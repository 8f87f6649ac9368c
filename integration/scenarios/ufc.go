package scenarios

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
)

// ufc is the real agent as a guard.
type ufc struct {
	agent *agent.Agent
	spare *agent.Call // was refused: nobody else has it
}

// runUFC runs a setup with real agents, in a bubble of virtual time.
func runUFC(t *testing.T, s *setup, seed uint64) (result *ledger) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(s, seed)
		begun := time.Now()
		views := catalog.New(discard)
		views.Replace(1, s.records())
		for n := range max(s.agents, 1) {
			options := s.options(begun, w.onset, seed, n)
			listen(&options, begun, n, w.ledger)
			a := agent.New(views, options)
			defer a.Close()
			w.guards = append(w.guards, &ufc{agent: a})
		}
		result = w.run(time.Sleep)
	})
	return result
}

// runUFCRush is runUFC for a load.
func runUFCRush(t *testing.T, l *load, seed uint64) (result *flow) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newRush(l, seed)
		begun := time.Now()
		views := catalog.New(discard)
		views.Replace(1, l.records())
		for n := range max(l.agents, 1) {
			a := agent.New(views, l.options(begun, w.onset, seed, n))
			defer a.Close()
			w.guards = append(w.guards, &ufc{agent: a})
		}
		result = w.run(time.Sleep)
	})
	return result
}

// options are those of the nth agent in a world that began, and whose onset is, at a moment.
func (s *setup) options(begun time.Time, onset time.Duration, seed uint64, n int) agent.Options {
	probe := func(ctx context.Context, address netip.AddrPort, timeout time.Duration) error {
		return s.probe(ctx, time.Since(begun)-onset, address, timeout)
	}
	return agent.Options{IDC: s.idc, Probe: probe, Random: dice(seed, uint64(n))}
}

// dice returns an agent's own random numbers, which are the same again for a seed.
func dice(seed, of uint64) func() uint64 {
	var mu sync.Mutex
	numbers := rand.NewPCG(seed, 1<<32+of)
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return numbers.Uint64()
	}
}

func (u *ufc) pick(_ time.Duration, r *request) int {
	if r.attempts == 0 {
		u.begin(r)
		if u.agent.Begin(r.call) != nil {
			return -1
		}
	}
	attempt, err := u.agent.Pick(r.call)
	if err != nil {
		return -1
	}
	r.attempt = attempt
	return numberOf(attempt.Address())
}

// begin gives a request its call.
func (u *ufc) begin(r *request) {
	r.call, u.spare = u.spare, nil
	if r.call == nil {
		r.call = new(agent.Call)
	}
	*r.call = agent.Call{Callee: callee, Class: agent.DefaultClass, Key: r.user}
	if r.way != nil {
		r.call.Caller, r.call.Class = r.way.caller, r.way.class
	}
}

func (u *ufc) done(_ time.Duration, r *request, o outcome) {
	r.attempt.Done(agent.Outcome{Result: o.result, Code: o.code, Latency: o.took})
}

func (u *ufc) end(r *request, code int) {
	r.call.End(code)
	if r.attempts == 0 {
		u.spare = r.call
	}
}

// timeouts implements limiter.
func (u *ufc) timeouts(r *request) (attempt, whole time.Duration) {
	set := r.call.Timeouts()
	return set.Read.Std(), set.Total.Std()
}

// probe is what an instance's port does with a connect. It runs beside the world, and looks at nothing that changes.
func (s *setup) probe(ctx context.Context, since time.Duration, address netip.AddrPort, timeout time.Duration) error {
	takes, cause := roundTrip, error(nil)
	if ailing := s.instances[numberOf(address)].ails(since); since >= 0 && since < s.blip || ailing != nil && ailing.ailment == silent {
		takes, cause = timeout, os.ErrDeadlineExceeded
	} else if ailing != nil && ailing.ailment == refuses {
		cause = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(takes):
	}
	if cause == nil {
		return nil
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(address), Err: cause}
}
