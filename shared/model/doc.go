// Package model holds the documents of the mesh: Service, Instances and Topology, with their defaults and their
// validation. It is the one place where a document is parsed, and everything above it may rely on what it let pass.
//
// A document is read from a file (YAML 1.2 or JSON, several to a file) by Read, and from one key of etcd by ParseService,
// ParseInstance and ParseTopology. Both go through the same steps: decode strictly over the defaults, then validate.
// Package model decides nothing at run time and imports nothing of the project.
package model
