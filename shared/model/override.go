package model

import "cmp"

// WithOverride returns the service as it is for the callers of one of its overrides: what the override gives replaces the
// service's own. What it doesn't give is shared with the service, which stays as it is.
func (s *Service) WithOverride(o *CallerOverride) *Service {
	merged := *s
	if o.Level != nil {
		merged.Level = *o.Level
	}
	if o.Timeouts != nil {
		merged.Timeouts.override(o.Timeouts)
	}
	if o.Retries != nil {
		merged.Retries.override(o.Retries)
	}
	if o.Routes != nil { // an empty list is given too: these callers get all instances
		merged.Routes = o.Routes
	}
	return &merged
}

func (t *Timeouts) override(o *TimeoutsOverride) {
	t.Normal.override(&o.Normal)
	t.Avalanche.override(&o.Avalanche)
	if o.ClientOverride != nil {
		t.ClientOverride = *o.ClientOverride
	}
}

func (t *TimeoutSet) override(o *TimeoutSet) {
	t.Connect = cmp.Or(o.Connect, t.Connect)
	t.Write = cmp.Or(o.Write, t.Write)
	t.Read = cmp.Or(o.Read, t.Read)
	t.Total = cmp.Or(o.Total, t.Total)
}

func (r *Retries) override(o *RetriesOverride) {
	r.Normal.override(&o.Normal)
	r.Avalanche.override(&o.Avalanche)
	if o.Unsafe != nil {
		r.Unsafe = *o.Unsafe
	}
	if o.Budget != nil {
		r.Budget = *o.Budget
	}
}

func (r *RetrySet) override(o *RetrySetOverride) {
	if o.Attempts != nil {
		r.Attempts = *o.Attempts
	}
	if o.When != nil { // an empty list is given too: no stage
		r.When = o.When
	}
}
