package health

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Policy is what a callee's documents say of its bans.
type Policy struct {
	model.Ban
	Hashes bool // the balance policy sends the requests of one user to one instance
	// TrialTimeout is how long to wait for the outcome of a trial: timeouts.total.
	TrialTimeout time.Duration
	Check        *model.Check // nil: no checks
}

// Member is an address of a callee's list.
type Member struct {
	Address netip.AddrPort
	IDC     string // logical: the cap and panic count by it
	Serving bool   // neither drained nor down
}

// Listener is told each decision of a callee, in their order, one at a time, under no lock. instance is nil for a decision on the
// callee as a whole.
type Listener func(instance *Instance, decision *Decision)

// Service is the health of one callee's instances.
type Service struct {
	name     string
	monitor  *Monitor
	listener Listener
	heard    Heard // nil: nobody is told
	policy   atomic.Pointer[Policy]
	journals atomic.Pointer[[]journal]
	awake    atomic.Bool // tick runs at intervals
	_        [128]byte   // what each request reads stays out of the cache lines of what the judge writes

	delivering sync.Mutex // orders what the listener is told; taken before mu

	mu        sync.Mutex // of what follows
	instances roster
	groups    map[string]*group // by logical IDC
	peers     peers
	strata    map[*Stratum]struct{}
	// dirty tells by slot that something is held against the instance, so that a success changes more than a count.
	dirty     []bool
	free      []int32    // slots without an instance
	pending   []verdict  // not told yet
	decisions []Decision // the last ones, for explain
	ticker    *time.Timer
	checking  checking
	idle      int           // ticks without an outcome
	fresh     bool          // outcomes came since the last tick
	faulted   time.Duration // when a service fault was told last; 0: never
	closed    bool
	overload  bool // the callee as a whole can't keep up: see Overload
}

type verdict struct {
	instance *Instance
	decision Decision
}

// group is what the cap and panic count, for one logical IDC.
type group struct {
	idc      string
	serving  int       // instances that are listed and serve
	banned   int       // of those, banned or half open, for any reason
	suspects int       // of those, banned by suspicion
	least    *Instance // the least bad of the suspects; nil: unknown
	panicked bool
}

// left is how many instances serve and aren't banned.
func (g *group) left() int { return g.serving - g.banned }

// Under tells whether under half of the serving instances are left: that is panic.
func Under(left, serving int) bool { return serving > 0 && 2*left < serving }

// NewService returns the health of a callee without instances yet.
func (m *Monitor) NewService(name string, policy *Policy, listener Listener, heard Heard) *Service {
	s := &Service{
		name: name, monitor: m, listener: listener, heard: heard,
		groups: map[string]*group{}, strata: map[*Stratum]struct{}{},
	}
	s.policy.Store(policy)
	return s
}

// SetPolicy puts a new ban policy in force. Bans that stand keep their end.
func (s *Service) SetPolicy(policy *Policy) { s.policy.Store(policy) }

// Retain makes members the callee's list of instances, and returns their health in the same order. An instance that stays keeps
// its state. One that leaves while it is banned is remembered until its ban ends, so that coming back doesn't end it. place
// returns the Pulse for the nth member, if it is new.
func (s *Service) Retain(members []Member, place func(n int) *Pulse) []*Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		i.gone = true
	}
	result := make([]*Instance, len(members))
	for n, member := range members {
		i := s.instances.find(member.Address)
		if i == nil {
			i = &Instance{Address: member.Address, service: s, Pulse: place(n)}
			s.seat(i)
		}
		i.gone, i.idc, i.serving = false, member.IDC, member.Serving
		result[n] = i
	}
	listed := roster(slices.Clone(result))
	for _, i := range s.instances {
		switch {
		case !i.gone:
		case i.ban == nil:
			s.forget(i)
		default:
			listed = append(listed, i)
		}
	}
	listed.sort()
	s.instances = slices.Clip(listed)
	s.regroup()
	for _, g := range s.groups {
		s.panic(g)
	}
	if len(s.pending) > 0 {
		s.monitor.run(s.deliver) // the caller may hold what the listener needs
	}
	return result
}

// seat gives an instance a slot, its index in dirty and in the strata's tables.
func (s *Service) seat(i *Instance) {
	if last := len(s.free) - 1; last >= 0 {
		i.slot, s.free = s.free[last], s.free[:last]
	} else {
		i.slot, s.dirty = int32(len(s.dirty)), append(s.dirty, false)
	}
}

// forget takes an instance out of all that is counted, and frees its slot.
func (s *Service) forget(i *Instance) {
	s.clean(i) // first, since it may add outcomes to the peers
	s.peers.drop(i)
	s.dirty[i.slot] = false
	s.free = append(s.free, i.slot)
}

// clean empties the instance's cells.
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

// Remembers tells whether the callee has instances, those that have left the list while banned included.
func (s *Service) Remembers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.instances) > 0
}

// Close stops the timers of a callee that no longer exists. Its instances are neither banned nor come back any more.
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
	s.instances = nil
}

// quiet is after how many ticks without an outcome the ticks end.
const quiet = 60

// wake begins the ticks, when the first outcome comes after a time without any.
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
	s.CatchUp()
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

// dropAll forgets the strata of a callee that nobody calls any more.
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
