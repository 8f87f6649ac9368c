package agent

import (
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// handBans are the bans by an operator that a callee's agent obeys.
type handBans map[netip.AddrPort]*model.HandBan

// leave tells whether the bans, the instance's own state and the topology let an instance serve.
func (b handBans) leave(record *model.Instance, idcs *route.IDCs) bool {
	return record.Serving() && !idcs.Drained(record.IDC) && b[record.Address] == nil
}

// byHand returns the bans by hand of a view that are in force now, and the time when the first of them ends, which is zero if
// none of them has an end. If they leave no instance that serves, none of them is obeyed: a callee with instances never
// refuses because all of them are banned.
func byHand(view *catalog.View, idcs *route.IDCs, now time.Time) (bans handBans, ends time.Time) {
	for address, ban := range view.Bans {
		if !ban.InForce(now) {
			continue
		}
		if !ban.Until.IsZero() && (ends.IsZero() || ban.Until.Before(ends)) {
			ends = ban.Until
		}
		if bans == nil {
			bans = handBans{}
		}
		bans[address] = ban
	}
	for _, record := range view.Instances {
		if bans.leave(record, idcs) {
			return bans, ends
		}
	}
	return nil, ends
}

// awaitEnd puts the view in force again at the time when one of its bans by hand ends. A zero time: at none, and what was
// awaited before is no longer. The service's lock is held.
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
