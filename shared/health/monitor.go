package health

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Probe connects to an instance's port within the timeout, and returns why it couldn't.
type Probe func(ctx context.Context, address netip.AddrPort, timeout time.Duration) error

// DialProbe is the Probe of real life: a TCP connect, closed at once.
func DialProbe(ctx context.Context, address netip.AddrPort, timeout time.Duration) error {
	dialer := net.Dialer{Timeout: timeout}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// Monitor owns the timers and probes of all bans of an agent.
type Monitor struct {
	probe  Probe
	random func() uint64
	epoch  time.Time // the monitor's clock begins here
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards closed, so that no work begins after Close began to wait
	closed  bool
	running sync.WaitGroup
}

// NewMonitor returns a monitor that makes its probes by probe, and takes its random numbers from random. Close it.
func NewMonitor(probe Probe, random func() uint64) *Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	return &Monitor{probe: probe, random: random, epoch: time.Now(), ctx: ctx, cancel: cancel}
}

// Close ends all probes and waits for them. No verdict changes afterwards.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
}

// now is the monitor's clock.
func (m *Monitor) now() time.Duration { return time.Since(m.epoch) }

// run starts f as a goroutine of the monitor's, unless it is closed.
func (m *Monitor) run(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.running.Go(f)
	}
}

// after runs f after a while, unless the monitor is closed by then.
func (m *Monitor) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() { m.run(f) })
}

// jittered returns the duration ±10 %, so that many agents that begin something at once don't go on in step.
func (m *Monitor) jittered(d time.Duration) time.Duration {
	fraction := float64(m.random()>>11) / (1 << 53)
	return d + time.Duration((fraction*0.2-0.1)*float64(d))
}
