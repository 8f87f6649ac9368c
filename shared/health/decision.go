package health

import (
	"net/netip"
	"time"
)

// Kind says what was decided.
type Kind string

// The kinds.
const (
	Banned    Kind = "banned"        // the instance is taken out of the choice
	Extended  Kind = "extended"      // the ban's time was over, and the port didn't answer the probe
	Capped    Kind = "capped"        // it would have been banned, had not too many been already
	HalfOpen  Kind = "half_open"     // the port answered: one request at a time
	Reopened  Kind = "reopened"      // back: a slow start begins
	Relapsed  Kind = "relapsed"      // a trial failed while half open: banned again
	Slowed    Kind = "slowed"        // its latency deviates: its weight was cut
	Lifted    Kind = "lifted"        // the ban ended without trials: it wasn't the instance's fault, a worse one took its place, or it left
	Fault     Kind = "service_fault" // so many fail or deviate that it is the service's fault, not an instance's
	Panic     Kind = "panic"         // under half of a callee's instances are left
	PanicOver Kind = "panic_over"    // half of them or more are left again

	// Those of package fuse, which the agent passes on beside these.
	Avalanche     Kind = "avalanche"      // the callee is overloaded, and what reaches it is limited
	AnotherRate   Kind = "fuse"           // the limit is another one
	AvalancheOver Kind = "avalanche_over" // all is admitted again
)

// Decision is one verdict on an instance or a callee, with what led to it, so that a person can follow it.
type Decision struct {
	Time     time.Time      `json:"time"`
	Kind     Kind           `json:"kind"`
	Service  string         `json:"service"`
	Instance netip.AddrPort `json:"instance,omitzero"` // zero: the callee as a whole
	IDC      string         `json:"idc,omitempty"`     // logical IDC that panic is in or over; else empty
	Reason   Reason         `json:"reason,omitempty"`  // of the ban
	// Rule is the formula in words. Its names are the keys of Inputs.
	Rule      string             `json:"rule,omitempty"`
	Inputs    map[string]float64 `json:"inputs,omitempty"`
	Value     float64            `json:"value"`            // what the rule's formula comes to
	Threshold float64            `json:"threshold"`        // what the value is compared with
	Needed    string             `json:"needed,omitempty"` // what it would have taken for another verdict
	Detail    string             `json:"detail,omitempty"` // such as a probe's error
	Same      bool               `json:"-"`                // the decision changes nothing about which instances may be chosen
	// Duration is how long the ban is to last, in nanoseconds. BannedFor adds up how long the instance was banned since its
	// history of bans was last forgotten.
	Duration  time.Duration `json:"duration,omitempty"`
	BannedFor time.Duration `json:"banned_for,omitempty"`
}
