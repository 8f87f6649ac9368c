package health

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
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
	logger *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex // guards closed, so that no work begins after Close began to wait
	closed  bool
	running sync.WaitGroup
}

// NewMonitor returns a monitor that probes with probe. Close it.
func NewMonitor(probe Probe, logger *slog.Logger) *Monitor {
	ctx, cancel := context.WithCancel(context.Background())
	return &Monitor{probe: probe, logger: logger, ctx: ctx, cancel: cancel}
}

// Close ends all probes and waits for them. No verdict changes afterwards.
func (m *Monitor) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
}

// run starts f as a goroutine of the monitor's, unless it is closed.
func (m *Monitor) run(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.running.Go(f)
	}
}

// Service is the health of one callee's instances.
type Service struct {
	Name    string
	monitor *Monitor
	changed func(instance *Instance, banned bool, reason Reason)
	policy  atomic.Pointer[model.Ban]

	mu        sync.Mutex
	instances map[netip.AddrPort]*Instance
}

// NewService returns the health of a callee without instances yet. changed is called, under no lock, after an instance
// was banned or came back; reason says why it is, or was, banned.
func (m *Monitor) NewService(name string, policy *model.Ban, changed func(*Instance, bool, Reason)) *Service {
	s := &Service{Name: name, monitor: m, changed: changed, instances: map[netip.AddrPort]*Instance{}}
	s.policy.Store(policy)
	return s
}

// SetPolicy puts a new ban policy in force. Bans that stand keep their end.
func (s *Service) SetPolicy(policy *model.Ban) { s.policy.Store(policy) }

// Retain makes addresses the callee's list and returns their health, in the same order. Who stays keeps his state. Who
// leaves while banned is remembered until his ban ends, so that a list that flaps heals nobody. place says where the pulse
// of the nth is to be, if he is new.
func (s *Service) Retain(addresses []netip.AddrPort, place func(n int) *Pulse) []*Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := make(map[netip.AddrPort]*Instance, len(addresses))
	result := make([]*Instance, len(addresses))
	for n, address := range addresses {
		instance := s.instances[address]
		if instance == nil {
			instance = &Instance{Address: address, service: s, Pulse: place(n)}
		}
		instance.setGone(false)
		listed[address], result[n] = instance, instance
	}
	for address, instance := range s.instances {
		if listed[address] != nil {
			continue
		}
		instance.setGone(true)
		if instance.Banned() {
			listed[address] = instance
		}
	}
	s.instances = listed
	return result
}

// forget drops an instance that has left the list, once its ban's time is over, and tells whether it has.
func (s *Service) forget(instance *Instance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !instance.isGone() {
		return false
	}
	if s.instances[instance.Address] == instance {
		delete(s.instances, instance.Address)
	}
	return true
}

// Remembers tells whether the callee has instances, be it a banned one that has left the list.
func (s *Service) Remembers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.instances) > 0
}

// Close stops the timers of a callee that no longer exists.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, instance := range s.instances {
		instance.mu.Lock()
		instance.gone = true
		if instance.ban != nil {
			instance.ban.timer.Stop()
		}
		instance.mu.Unlock()
	}
	s.instances = map[netip.AddrPort]*Instance{}
}
