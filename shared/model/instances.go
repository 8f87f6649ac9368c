package model

import (
	"maps"
	"net/netip"
)

// Instances is the wanted set of instances of one service.
type Instances struct {
	Service   string     `json:"service"`
	Instances []Instance `json:"instances"`
}

// Instance is one address of a service, and one key of etcd.
type Instance struct {
	// Address is IP:port in its canonical form (netip.AddrPort.String), without zone. Port 1–65535.
	Address netip.AddrPort `json:"address"`
	// IDC is the physical IDC (data centre) where it runs. Empty, or not in the Topology: unknown; then callers that have a
	// table take it only when nobody else can be chosen.
	IDC string `json:"idc,omitempty"`
	// Weight is its share relative to the others', 0–1,000,000. Default 100. 0: no new requests.
	Weight int `json:"weight"`
	// Labels are what routes select by. At most 64, of up to 63 bytes. Default: none.
	Labels map[string]string `json:"labels,omitempty"`
	// State takes an instance out by hand. Default up.
	State State `json:"state"`
}

// State of an instance, set by hand.
type State string

// The states.
const (
	Up    State = "up"
	Drain State = "drain" // no new requests; those under way, and their connections, go on
	Down  State = "down"  // nothing
)

// Serving tells whether new requests may go to the instance, as far as its document says.
func (i *Instance) Serving() bool { return i.State == Up && i.Weight > 0 }

// Equal tells whether two documents say the same.
func (i *Instance) Equal(o *Instance) bool {
	return i.Address == o.Address && i.IDC == o.IDC && i.Weight == o.Weight && i.State == o.State && maps.Equal(i.Labels, o.Labels)
}
