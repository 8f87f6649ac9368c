package health

import (
	"net/netip"
	"time"
)

// silence is how long after its end a neighbour's ban still holds without a word of him: his trials take time. Then he has
// died, or etcd has.
const silence = 30 * time.Second

// mostTold bounds a neighbour's ban: no policy has longer ones.
const mostTold = 48 * time.Hour

// Told takes a ban by another agent of this machine: what it has found is as true here. It holds until Untold, or until
// silence after its end; told again with a later end, until then. An instance that isn't listed, or that this agent has
// banned by itself, isn't touched.
// why is the other agent's reason.
func (s *Service) Told(address netip.AddrPort, why Reason, until time.Time, detail string) {
	s.mu.Lock()
	if i := s.instances[address]; i != nil && !i.gone && !s.closed {
		// By what is left of it now: the machine's clock may have been set since the monitor's began.
		until := s.monitor.now() + min(time.Until(until), mostTold) + silence
		switch b := i.ban; {
		case b != nil && b.reason == ByNeighbour:
			b.stop()
			b.until = until
			b.timer = s.monitor.after(max(until-s.monitor.now(), 0), func() { s.expire(i, b) })
		case (b == nil || b.halfOpen) && until > s.monitor.now():
			s.toldOf(i, why, until, detail)
		}
	}
	s.mu.Unlock()
	s.deliver()
}

// toldOf bans an instance by a neighbour's word. The lock is held.
func (s *Service) toldOf(i *Instance, why Reason, until time.Duration, detail string) {
	now := s.monitor.now()
	if i.ban != nil {
		i.ban.stop()
		s.count(i, i.ban.reason, -1)
	}
	b := &ban{reason: ByNeighbour, since: now, until: until, duration: until - now, lastErr: detail, silent: why != ByProof}
	i.ban = b
	s.clean(i)
	i.set(Out)
	s.count(i, ByNeighbour, 1)
	s.decide(i, Decision{
		Kind: Banned, Reason: ByNeighbour, Rule: "another agent of this machine has banned it", Detail: detail, Duration: b.duration,
	})
	s.panic(s.groups[i.idc])
	b.timer = s.monitor.after(b.duration, func() { s.expire(i, b) })
}

// Untold says that a neighbour's ban is over.
func (s *Service) Untold(address netip.AddrPort) {
	s.mu.Lock()
	if i := s.instances[address]; i != nil && i.ban != nil && i.ban.reason == ByNeighbour {
		s.takeBack(i, "")
	}
	s.mu.Unlock()
	s.deliver()
}

// takeBack ends a neighbour's ban. He may have found the instance well, or have ended himself: so its port is probed. The lock
// is held.
func (s *Service) takeBack(i *Instance, detail string) {
	s.end(i, Reopened, detail)
	if !i.gone {
		s.prove(i, "the agent that had banned it doesn't tell of it any more")
	}
}
