package fuse

import "time"

// Change says what was decided.
type Change string

// The changes.
const (
	Entered Change = "avalanche"      // a limit is in force now
	Changed Change = "fuse"           // the limit is another one
	Left    Change = "avalanche_over" // everything is admitted
)

// Decision is a change of what is admitted, with what led to it.
type Decision struct {
	At   time.Duration // by the caller's clock
	Kind Change
	// Rule is the formula in words; its names are those of Inputs.
	Rule      string
	Inputs    map[string]float64
	Value     float64 // of the rule
	Threshold float64 // that the value is compared with
	Needed    string  // what it would have taken for another verdict
}

// mostDecisions is how many are remembered.
const mostDecisions = 100

// Decisions returns the last ones, the oldest first.
func (f *Fuse) Decisions() []Decision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Decision{}, f.decisions...)
}

// decision adds to a decision how things stand after it.
func (f *Fuse) decision(now time.Duration, d Decision) Decision {
	d.At = now
	if d.Inputs == nil {
		d.Inputs = map[string]float64{}
	}
	d.Inputs["rate"], d.Inputs["in_flight"], d.Inputs["in_flight_limit"] = f.rate, float64(f.flight.total), f.limit()
	d.Inputs["arrivals"], d.Inputs["admitted"] = f.cut.lately, f.cut.share()
	return d
}

// Info is how a fuse stands.
type Info struct {
	Avalanche     bool    `json:"avalanche"`
	AdmittedRatio float64 `json:"admitted_ratio"` // of the last two seconds' requests
	// Rate is what the callee delivers in an avalanche, in answers per second; 0 in normal times.
	Rate         float64 `json:"delivery_rate"`
	InFlight     int     `json:"in_flight"`
	InFlightMost float64 `json:"in_flight_limit,omitzero"`
	CutWeight    int     `json:"cut_weight,omitzero"` // requests that weigh less are refused
	Success      float64 `json:"success"`             // share, at the last judgement
	UsualBad     float64 `json:"usual_failures"`      // share of failures that is normal
	P95          float64 `json:"normal_p95_ms"`       // of the latency in normal times; 0: unknown
}

// Info returns how the fuse stands.
func (f *Fuse) Info() Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	info := Info{
		AdmittedRatio: 1, InFlight: f.flight.all(f.stripes), Success: f.success, UsualBad: f.usual.share(),
		P95: float64(f.p95) / float64(time.Millisecond),
	}
	if f.active.Load() {
		info.Avalanche, info.AdmittedRatio, info.Rate, info.InFlightMost = true, f.cut.share(), f.rate, f.limit()
		if !f.cut.learning {
			info.CutWeight = f.cut.weight
		}
	}
	return info
}
