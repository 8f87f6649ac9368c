package agent

import (
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// byHand are the bans of a view that an operator made and that are in force now, and when the first of them ends; zero: none
// does. If they leave nobody who serves, they aren't obeyed: a callee is never refused since everything is banned.
func byHand(view *catalog.View, idcs *route.IDCs, now time.Time) (bans map[netip.AddrPort]*model.HandBan, ends time.Time) {
	for address, ban := range view.Bans {
		if !ban.InForce(now) {
			continue
		}
		if !ban.Until.IsZero() && (ends.IsZero() || ban.Until.Before(ends)) {
			ends = ban.Until
		}
		if bans == nil {
			bans = map[netip.AddrPort]*model.HandBan{}
		}
		bans[address] = ban
	}
	for _, record := range view.Instances {
		if record.Serving() && !idcs.Drained(record.IDC) && bans[record.Address] == nil {
			return bans, ends
		}
	}
	return nil, ends
}

// awaitEnd follows the view again when a ban by hand ends by itself. The service's lock is held.
func (s *service) awaitEnd(view *catalog.View, ends time.Time) {
	if s.handEnds != nil {
		s.handEnds.Stop()
		s.handEnds = nil
	}
	if ends.IsZero() {
		return
	}
	s.handEnds = time.AfterFunc(time.Until(ends), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.state.Load().view == view {
			s.put(view)
		}
	})
}
