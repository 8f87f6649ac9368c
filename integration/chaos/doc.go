// Package chaos is the breaking ground: it breaks the parts of a mesh one after another, under load, and holds what the mesh
// promises against what its clients saw.
//
// The mesh is a whole one: three members of etcd, two data centres with an agent (bin/caddy), a DNS (bin/coredns) and
// backends each, every part a process of its own, which can be killed and stopped like one. Between agents and etcd, between
// etcd's members, and before some backends stand links that can be cut.
//
// A row of the table is a fault: what is done, and the promises that must hold meanwhile, as predicates over what was sampled.
// A promise that isn't kept fails the test. Nothing imports this package.
package chaos
