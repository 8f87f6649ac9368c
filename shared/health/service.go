package health

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Policy is what a callee's documents say of its bans.
type Policy struct {
	model.Ban
	Hashes bool // requests of one user go to one instance
	// TrialTimeout ends a trial of which nobody tells what came of it: timeouts.total.
	TrialTimeout time.Duration
	Check        *model.Check // nil: no checks
}

// Member is an address of a callee's list.
type Member struct {
	Address netip.AddrPort
	IDC     string // logical: within it the cap counts
	Serving bool   // neither drained nor down
}

// Listener is told of what was decided, one decision after another, under no lock.
type Listener func(instance *Instance, decision *Decision)

// Service is the health of one callee's instances.
type Service struct {
	Name     string
	monitor  *Monitor
	listener Listener
	policy   atomic.Pointer[Policy]
	journals atomic.Pointer[[]journal]
	awake    atomic.Bool // the tick goes on

	delivering sync.Mutex // orders what the listener is told; taken before mu

	mu        sync.Mutex // of what follows
	instances map[netip.AddrPort]*Instance
	groups    map[string]*group // by logical IDC
	peers     peers
	strata    map[*Stratum]struct{}
	// dirty tells by slot that a success of the instance changes more than a count.
	dirty     []bool
	free      []int32   // slots of nobody
	pending   []verdict // not told yet
	decisions []Decision
	ticker    *time.Timer
	checking  checking
	idle      int           // ticks without an outcome
	fresh     bool          // outcomes came since the last tick
	faulted   time.Duration // when a service fault was told last
	closed    bool
}

type verdict struct {
	instance *Instance
	decision Decision
}

// group is what the cap and panic count of a logical IDC.
type group struct {
	idc      string
	serving  int       // listed and serving
	banned   int       // of those: by whatever reason
	suspects int       // of those: banned by suspicion
	least    *Instance // the least bad of the suspects; nil: unknown
	panicked bool
}

// left is how many instances may be chosen without panic.
func (g *group) left() int { return g.serving - g.banned }

// Under tells whether under half of so many instances are left, which is panic.
func Under(left, serving int) bool { return serving > 0 && 2*left < serving }

// NewService returns the health of a callee without instances yet.
func (m *Monitor) NewService(name string, policy *Policy, listener Listener) *Service {
	s := &Service{
		Name: name, monitor: m, listener: listener,
		instances: map[netip.AddrPort]*Instance{}, groups: map[string]*group{}, strata: map[*Stratum]struct{}{},
	}
	s.policy.Store(policy)
	return s
}

// SetPolicy puts a new ban policy in force. Bans that stand keep their end.
func (s *Service) SetPolicy(policy *Policy) { s.policy.Store(policy) }

// Retain makes members the callee's list and returns their health, in the same order. Who stays keeps his state. Who
// leaves while banned is remembered until his ban ends, so that a list that flaps heals nobody. place says where the pulse
// of the nth is to be, if he is new.
func (s *Service) Retain(members []Member, place func(n int) *Pulse) []*Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := make(map[netip.AddrPort]*Instance, len(members))
	result := make([]*Instance, len(members))
	for n, member := range members {
		i := s.instances[member.Address]
		if i == nil {
			i = &Instance{Address: member.Address, service: s, Pulse: place(n)}
			s.seat(i)
		}
		i.gone, i.idc, i.serving = false, member.IDC, member.Serving
		listed[member.Address], result[n] = i, i
	}
	for address, i := range s.instances {
		if listed[address] != nil {
			continue
		}
		if i.ban == nil {
			i.gone = true
			s.forget(i)
			continue
		}
		i.gone, listed[address] = true, i
	}
	s.instances = listed
	s.regroup()
	for _, g := range s.groups {
		s.panic(g)
	}
	if len(s.pending) > 0 {
		s.monitor.run(s.deliver) // the caller may hold what the listener needs
	}
	return result
}

// seat gives an instance its slot: its place in lists by number.
func (s *Service) seat(i *Instance) {
	if last := len(s.free) - 1; last >= 0 {
		i.slot, s.free = s.free[last], s.free[:last]
	} else {
		i.slot, s.dirty = int32(len(s.dirty)), append(s.dirty, false)
	}
}

// forget takes an instance that has gone out of all that is counted.
func (s *Service) forget(i *Instance) {
	s.clean(i) // counts what it had left among the peers: before they drop it
	s.peers.drop(i)
	s.dirty[i.slot] = false
	s.free = append(s.free, i.slot)
}

// clean forgets what the instance is compared by.
func (s *Service) clean(i *Instance) {
	for t := range s.strata {
		if c := t.at(i); c != nil {
			s.settle(c)
			t.cells[i.slot], t.present[i.slot] = nil, present{}
		}
	}
}

// regroup counts the groups anew.
func (s *Service) regroup() {
	groups := map[string]*group{}
	for _, i := range s.instances {
		if i.gone || !i.serving {
			continue
		}
		g := groups[i.idc]
		if g == nil {
			g = &group{idc: i.idc}
			if before := s.groups[i.idc]; before != nil {
				g.panicked = before.panicked
			}
			groups[i.idc] = g
		}
		g.serving++
		if i.ban != nil { // half open, too: as count has it
			g.banned++
			if i.ban.reason.suspicion() {
				g.suspects++
			}
		}
	}
	s.groups = groups
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
	s.closed = true
	for _, i := range s.instances {
		i.gone = true
		if i.ban != nil {
			i.ban.stop()
		}
	}
	if s.ticker != nil {
		s.ticker.Stop()
	}
	s.checking.stop()
	s.instances = map[netip.AddrPort]*Instance{}
}

// quiet is how many ticks without an outcome end the ticking.
const quiet = 60

// wake begins to tick, when the first outcome comes after a while without any.
func (s *Service) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.awake.CompareAndSwap(false, true) {
		return
	}
	s.idle = 0
	if s.ticker != nil {
		s.ticker.Stop()
	}
	s.ticker = s.monitor.after(s.interval(), s.tick)
}

func (s *Service) interval() time.Duration {
	return s.monitor.jittered(s.policy.Load().Deviation.Interval.Std())
}

// tick judges by deviation what has come since the last tick.
func (s *Service) tick() {
	s.catchUp()
	s.mu.Lock()
	if s.fresh {
		s.idle, s.fresh = 0, false
		s.deviation(s.monitor.now())
	} else if s.idle++; s.idle >= quiet {
		s.awake.Store(false)
	}
	switch {
	case s.closed:
	case s.awake.Load():
		s.ticker = s.monitor.after(s.interval(), s.tick)
	default:
		s.ticker = s.monitor.after(strataLife, s.dropAll)
	}
	s.mu.Unlock()
	s.deliver()
}

// dropAll forgets what is compared of a callee that nobody calls any more.
func (s *Service) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awake.Load() {
		return
	}
	for t := range s.strata {
		s.drop(t)
	}
}
