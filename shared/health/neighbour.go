package health

import (
	"net/netip"
	"time"
)

// silence is how long a neighbour's ban still holds after its end if nothing more is heard of it: the neighbour's probes and
// trials take time. After that the neighbour, or etcd, is taken to have died.
const silence = 30 * time.Second

// mostTold bounds how long a neighbour's ban holds. No policy allows longer bans.
const mostTold = 48 * time.Hour

// Told takes a ban by a neighbour, another agent of this machine: what it has found is true here too. why is its reason. The ban
// holds until Untold, or until silence after its end; Told again, until the new end. An instance that isn't listed, or that
// this agent has banned by itself, isn't touched.
func (s *Service) Told(address netip.AddrPort, why Reason, until time.Time, detail string) {
	s.mu.Lock()
	if i := s.instances.find(address); i != nil && !i.gone && !s.closed {
		// Not the end but the time left counts: the machine's clock may have been set since the monitor's began.
		left := min(time.Until(until), mostTold) + silence
		now := s.monitor.now()
		switch b := i.ban; {
		case b != nil && b.reason == ByNeighbour:
			b.stop()
			b.until = now + left
			b.timer = s.monitor.after(max(left, 0), func() { s.expire(i, b) })
		case (b == nil || b.halfOpen) && left > 0:
			s.impose(i, &ban{since: now, until: now + left, duration: left, doubtful: why != ByProof}, Decision{
				Kind: Banned, Reason: ByNeighbour, Rule: "another agent of this machine has banned it", Detail: detail,
			})
		}
	}
	s.mu.Unlock()
	s.deliver()
}

// Untold ends a neighbour's ban.
func (s *Service) Untold(address netip.AddrPort) {
	s.mu.Lock()
	if i := s.instances.find(address); i != nil && i.ban != nil && i.ban.reason == ByNeighbour {
		s.takeBack(i, "")
	}
	s.mu.Unlock()
	s.deliver()
}

// takeBack ends a neighbour's ban. The neighbour may have found the instance well, or may itself have ended, so the port is
// probed. The lock is held.
func (s *Service) takeBack(i *Instance, detail string) {
	s.end(i, Reopened, detail)
	if !i.gone {
		s.prove(i, "the agent that had banned it doesn't tell of it any more")
	}
}
