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
		// What is left of the ban, not its end, is what counts: the machine's clock may have been set since the monitor's began.
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
