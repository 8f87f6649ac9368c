package model

// Kind of a document.
type Kind string

// The kinds.
const (
	KindService   Kind = "Service"
	KindInstances Kind = "Instances"
	KindTopology  Kind = "Topology"
	KindBan       Kind = "Ban"     // by hand; a key of etcd, but not a document of a file
	KindConfirm   Kind = "Confirm" // a Confirmation; a key of etcd, too
	KindAgent     Kind = "Agent"   // what an agent tells of itself; no document either, and nobody watches it
)

// Record is one watched key of the configuration, as the store read it: exactly one of Service, Instance, Topology, Ban
// and Confirm is set, or Deleted, or Err when the value was refused. A refused record must leave the last good version in place.
type Record struct {
	Kind     Kind   // KindInstances for one instance
	Name     string // the service; empty for the topology and for a confirmation of all
	Address  string // the instance's key, as written; only for KindInstances and KindBan
	Revision int64  // etcd's mod revision of the key

	Service  *Service
	Instance *Instance
	Topology *Topology
	Ban      *HandBan
	Confirm  *Confirmation
	Deleted  bool
	Err      error // why the value was refused
}
