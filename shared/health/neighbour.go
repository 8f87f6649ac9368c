package health

import (
	"net/netip"
	"time"
)

// Told takes a ban by another agent of this machine: what it has found is as true here. It holds until then, unless Untold
// comes first, or for ever. An instance that isn't listed, or is banned already, isn't touched.
func (s *Service) Told(address netip.AddrPort, until time.Time, detail string) {
	s.mu.Lock()
	if i := s.instances[address]; i != nil && !i.gone && (i.ban == nil || i.ban.halfOpen) && !s.closed {
		s.toldOf(i, until, detail)
	}
	s.mu.Unlock()
	s.deliver()
}

func (s *Service) toldOf(i *Instance, until time.Time, detail string) {
	now := s.monitor.now()
	if i.ban != nil {
		i.ban.stop()
		s.count(i, i.ban.reason, -1)
	}
	b := &ban{reason: ByNeighbour, since: now, until: until.Sub(s.monitor.epoch), lastErr: detail}
	b.duration = max(b.until-now, time.Second)
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
		s.end(i, Reopened, "")
	}
	s.mu.Unlock()
	s.deliver()
}
