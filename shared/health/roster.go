package health

import (
	"net/netip"
	"slices"
)

// roster is a callee's instances by address. It is a list and no map, since it is looked into at changes only, and a map of
// 200,000 instances takes 10 MiB more.
type roster []*Instance

func byAddress(i *Instance, address netip.AddrPort) int { return i.Address.Compare(address) }

// find returns the instance with an address; nil: there is none.
func (r roster) find(address netip.AddrPort) *Instance {
	if index, found := slices.BinarySearchFunc(r, address, byAddress); found {
		return r[index]
	}
	return nil
}

// remove takes an instance out, if it is in.
func (r *roster) remove(i *Instance) {
	if index, found := slices.BinarySearchFunc(*r, i.Address, byAddress); found && (*r)[index] == i {
		*r = slices.Delete(*r, index, index+1)
	}
}

// sort puts the instances into their order. Mostly they are.
func (r roster) sort() {
	slices.SortFunc(r, func(a, b *Instance) int { return a.Address.Compare(b.Address) })
}
