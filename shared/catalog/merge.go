package catalog

import (
	"net/netip"
	"slices"

	"github.com/ufc-mesh/ufc/shared/model"
)

// touched is what a record does to the instance of an address.
type touched struct {
	address  netip.AddrPort
	instance *model.Instance // nil: it is gone
	// Where it is, or would be, in the list of before.
	index int
	known bool // it is
}

// SameInstances tells whether two lists are one and the same, without looking into them.
func SameInstances(a, b []*model.Instance) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// mergeInto returns the instances after the change, by address. Those that are as they were are the same, and if all are, the
// list is. Else the list is copied, 1,600 bytes of 200 instances, without a look at those that aren't touched: 200,000
// instances are more than a cache holds.
func (ch *change) mergeInto(before []*model.Instance) []*model.Instance {
	last := ch.lastTouched()
	for n := range last {
		last[n].index, last[n].known = find(before, last[n].address)
	}
	after := make([]*model.Instance, 0, ch.size(len(before), last))
	same := true // as before, so far
	next := 0    // index into before
	for n := range last {
		t := &last[n]
		if ch.whole {
			same = same && t.index == next // or else those between are gone
		} else {
			after = append(after, before[next:t.index]...)
		}
		next = t.index
		if t.known {
			next++
		}
		switch {
		case t.known && t.instance != nil && t.instance.Equal(before[t.index]):
			after = append(after, before[t.index])
		case t.instance != nil:
			after, same = append(after, t.instance), false
		case t.known:
			same = false
		}
	}
	if ch.whole {
		same = same && next == len(before)
	} else {
		after = append(after, before[next:]...)
	}
	if same {
		return before
	}
	return after
}

// lastTouched returns what was touched by address, of each the last touch. The records of a list come in the order of their
// keys' texts, so that sorting them is a short work.
func (ch *change) lastTouched() []touched {
	byAddress := func(a, b touched) int { return a.address.Compare(b.address) }
	slices.SortStableFunc(ch.instances, byAddress)
	last := ch.instances[:0]
	for n, t := range ch.instances {
		if n+1 == len(ch.instances) || ch.instances[n+1].address != t.address {
			last = append(last, t)
		}
	}
	return last
}

// size returns how many instances there are after the change.
func (ch *change) size(before int, last []touched) int {
	size := before
	if ch.whole {
		size = 0
	}
	for n := range last {
		known := last[n].known && !ch.whole
		switch {
		case last[n].instance != nil && !known:
			size++
		case last[n].instance == nil && known:
			size--
		}
	}
	return size
}

// find returns the index of the instance with the address.
func find(instances []*model.Instance, address netip.AddrPort) (int, bool) {
	return slices.BinarySearchFunc(instances, address, func(i *model.Instance, a netip.AddrPort) int {
		return i.Address.Compare(a)
	})
}
