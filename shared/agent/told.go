package agent

import (
	"net/netip"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Told takes a ban by another agent of this machine; nil: the ban is over. If the callee or the instance isn't known yet, the ban
// comes into force when it is.
func (a *Agent) Told(service string, address netip.AddrPort, ban *model.ToldBan) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if ban == nil {
		if delete(a.told[service], address); len(a.told[service]) == 0 {
			delete(a.told, service)
		}
	} else {
		if a.told[service] == nil {
			a.told[service] = map[netip.AddrPort]*model.ToldBan{}
		}
		a.told[service][address] = ban
	}
	if s := a.service(service); s != nil && (ban != nil || !s.sleeps()) {
		s.awake()
		obey(s.health, address, ban)
	}
}

// obeyAll puts the neighbours' bans of a service in force. The lock is held.
func (a *Agent) obeyAll(s *service) {
	for address, ban := range a.told[s.name] {
		s.awake()
		obey(s.health, address, ban)
	}
}

func obey(on *health.Service, address netip.AddrPort, ban *model.ToldBan) {
	if ban == nil {
		on.Untold(address)
		return
	}
	on.Told(address, health.Reason(ban.Reason), ban.Until, ban.Agent+": "+ban.Reason+" "+ban.Detail)
}
