package catalog

import (
	"maps"
	"net/netip"

	"github.com/ufc-mesh/ufc/shared/model"
)

// bans are all bans made by hand, by service. They are kept apart from the views, since a ban may be of a service that
// isn't known: it waits until the service is. They never change: a change of one is another map.
type bans map[string]serviceBans

// serviceBans are the bans of one service.
type serviceBans struct {
	byAddress map[netip.AddrPort]*model.HandBan // never empty
	revision  int64                             // the highest of its records'
}

// records yields all bans, and tells whether more is wanted.
func (b bans) records(yield func(model.Record) bool) bool {
	for name, of := range b {
		for address, ban := range of.byAddress {
			record := model.Record{
				Kind: model.KindBan, Name: name, Address: address.String(), Revision: of.revision, Ban: ban,
			}
			if !yield(record) {
				return false
			}
		}
	}
	return true
}

// ban notes a ban in a change; nil: it was lifted.
func (ch *change) ban(address netip.AddrPort, ban *model.HandBan) {
	if ch.bans == nil {
		ch.bans = map[netip.AddrPort]*model.HandBan{}
	}
	ch.bans[address] = ban
}

// applyBans puts the changes' bans in force, and returns all that are.
func (c *Catalog) applyBans(changes map[string]*change) bans {
	present := *c.bans.Load()
	next, owned := present, false
	for name, change := range changes {
		if len(change.bans) == 0 {
			continue
		}
		if !owned {
			next, owned = maps.Clone(present), true
		}
		if after := present[name].with(change); len(after.byAddress) > 0 {
			next[name] = after
		} else {
			delete(next, name)
		}
	}
	if owned {
		c.bans.Store(&next)
	}
	return next
}

// with returns the bans of a service after a change.
func (b serviceBans) with(change *change) serviceBans {
	after := serviceBans{map[netip.AddrPort]*model.HandBan{}, max(b.revision, change.revision)}
	maps.Copy(after.byAddress, b.byAddress)
	for address, ban := range change.bans {
		if ban != nil {
			after.byAddress[address] = ban
		} else {
			delete(after.byAddress, address)
		}
	}
	same := func(x, y *model.HandBan) bool { return *x == *y }
	if maps.EqualFunc(after.byAddress, b.byAddress, same) {
		after.byAddress = b.byAddress
	}
	return after
}
