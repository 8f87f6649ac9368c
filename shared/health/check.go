package health

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// checkingFor is how long the instances of a callee are checked after somebody last asked for one.
const checkingFor = 5 * time.Minute

// askedAgain is the least time between two moments at which it is noted that somebody asks.
const askedAgain = time.Second

// checking is the agent's own checks of a callee whose callers never report: one instance after another, evenly over the
// interval, so that neither the agent nor the instances see them come in bursts.
type checking struct {
	timer *time.Timer      // nil: none are made
	order []netip.AddrPort // the instances of this round
	next  int              // index into order
	asked atomic.Int64     // when somebody asked last, by the monitor's clock; 0: never
}

func (c *checking) stop() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// Asked notes that somebody wants an instance of the callee: if its document asks for checks, they go on for 5 minutes.
func (s *Service) Asked() {
	if s.policy.Load().Check == nil {
		return
	}
	now := s.monitor.now()
	if last := time.Duration(s.checking.asked.Load()); last > 0 && now-last < askedAgain {
		return // fast path
	}
	s.checking.asked.Store(max(int64(now), 1))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking.timer == nil && !s.closed {
		s.checking.timer = s.monitor.after(0, s.check)
	}
}

// check checks the next instance, and sets the time of the one after it.
func (s *Service) check() {
	policy := s.policy.Load()
	s.mu.Lock()
	c := &s.checking
	if s.closed || policy.Check == nil || s.monitor.now()-time.Duration(c.asked.Load()) > checkingFor {
		c.stop()
		s.mu.Unlock()
		return
	}
	if c.next >= len(c.order) {
		c.next, c.order = 0, c.order[:0]
		for _, i := range s.instances {
			if i.serving && !i.gone {
				c.order = append(c.order, i.Address)
			}
		}
	}
	var i *Instance
	pause := policy.Check.Interval.Std()
	if len(c.order) > 0 {
		i, pause = s.instances.find(c.order[c.next]), pause/time.Duration(len(c.order))
		c.next++
	}
	c.timer = s.monitor.after(s.monitor.jittered(pause), s.check)
	s.mu.Unlock()
	if i != nil {
		s.examine(i)
	}
}

// examine makes one check. Its result is an outcome like any other. A check that failed for want of something on this machine
// counts for nothing.
func (s *Service) examine(i *Instance) {
	generation, state := i.Generation(), i.State()
	if state == Out {
		return // the ban's own probes look after it
	}
	err := s.probe(i)
	if err == nil && state == Rarely || OwnFault(err) || s.monitor.ctx.Err() != nil {
		return // rarely: that the port answers was never in doubt
	}
	o := Observation{Instance: i, Generation: generation, Result: OK}
	if err != nil {
		o.Result = ConnectError
	}
	s.mu.Lock()
	s.take(&o, s.monitor.now())
	s.mu.Unlock()
	s.deliver()
}
