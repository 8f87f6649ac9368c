package model

import (
	"maps"
	"net/netip"
	"slices"
)

// check validates a decoded Instances document.
func (s *Instances) check(c checker) {
	c.must("service", CheckName(s.Service))
	if s.Instances == nil {
		c.fail("instances", missing) // which is not "none": that is instances: []
	}
	first := make(map[netip.AddrPort]int, len(s.Instances))
	for i := range s.Instances {
		instance := &s.Instances[i]
		at := c.element("instances", i)
		instance.check(at)
		if !instance.Address.IsValid() {
			continue
		}
		if other, ok := first[instance.Address]; ok {
			at.fail("address", "%q is there already, at instances[%d]", instance.Address, other)
			continue
		}
		first[instance.Address] = i
	}
}

// check validates a decoded Instance. It allocates nothing unless it fails, since 200,000 of them are read at a start.
func (i *Instance) check(c checker) {
	if !i.Address.IsValid() {
		c.fail("address", missing)
	}
	if i.IDC != "" {
		c.must("idc", CheckIDC(i.IDC))
	}
	between(c, "weight", i.Weight, 0, maxWeight)
	if len(i.Labels) > 0 {
		c.labels(i.Labels)
	}
	switch i.State {
	case Up, Drain, Down:
	default:
		oneOf(c, "state", i.State, Up, Drain, Down)
	}
}

// check validates a decoded Topology.
func (t *Topology) check(c checker) {
	logical := make(map[string]bool, len(t.IDCs))
	for _, name := range slices.Sorted(maps.Keys(t.IDCs)) {
		at, idc := c.entry("idcs", name), t.IDCs[name]
		at.must("", CheckIDC(name))
		at.must("logical", CheckIDC(idc.Logical))
		logical[idc.Logical] = true
	}
	c.idcTables("routes", t.Routes, logical)
	for i, name := range t.Drained {
		if _, ok := t.IDCs[name]; !ok {
			c.element("drained", i).fail("", "%s is not one of idcs", quote(name))
		}
	}
	unique(c, "drained", "", t.Drained)
}
