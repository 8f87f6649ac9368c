package health

import (
	"slices"
	"time"
)

// Stratum is the attempts that may be compared with each other: those of one caller that took one route and split. Other
// callers and routes ask for other things, so that other statuses and latencies are normal for them.
type Stratum struct {
	Name string // for people

	// What follows is under the lock of the service whose attempts they are.
	cells   []*cell       // by slot; nil: no outcome yet
	present []present     // by slot
	last    time.Duration // when an outcome came last
	bad     bool          // an error came since the last judgement
	slow    bool          // a slow answer came since the last judgement, or an instance was slow in it
	usual   float64       // running mean of ln(ms)
	shifts  [kinds]shift
}

// strataLife is how long a stratum without outcomes is kept.
const strataLife = 10 * time.Minute

// NewStratum returns a stratum without outcomes.
func NewStratum(name string) *Stratum { return &Stratum{Name: name} }

// at returns the cell of an instance; nil if there was no outcome since its last ban or return.
func (t *Stratum) at(i *Instance) *cell {
	if slot := int(i.slot); slot < len(t.cells) && t.cells[slot] != nil && t.present[slot].instance == i {
		return t.cells[slot]
	}
	return nil
}

// each yields the cells that have outcomes.
func (t *Stratum) each(yield func(*cell) bool) {
	for _, c := range t.cells {
		if c != nil && !yield(c) {
			return
		}
	}
}

// kind of error that deviation looks at.
type kind int

const (
	clientErrors kind = iota // 4xx
	serverErrors             // 5xx
	kinds
)

func (k kind) String() string { return [...]string{"4xx", "5xx"}[k] }

func kindOf(code uint16) (kind, bool) {
	switch {
	case code >= 500:
		return serverErrors, true
	case code >= 400:
		return clientErrors, true
	}
	return 0, false
}

// drop forgets a stratum. If another outcome of it comes, newPresent makes it known again.
func (s *Service) drop(t *Stratum) {
	for c := range t.each {
		s.settle(c)
	}
	t.cells, t.present = nil, nil
	delete(s.strata, t)
}

// presentOf returns where an outcome counts; nil if there is no cell for it: it is the first in its stratum since the instance's
// last ban or return, or its attempt began before that.
func (o *Observation) presentOf() *present {
	if int(o.Slot) < len(o.Stratum.present) {
		if p := &o.Stratum.present[o.Slot]; p.instance == o.Instance && p.generation == o.Generation {
			return p
		}
	}
	return nil
}

// newPresent is presentOf for an outcome of the instance's present generation: it makes the cell if there is none. The lock is
// held.
func (s *Service) newPresent(o *Observation, now time.Duration) *present {
	if p := o.presentOf(); p != nil {
		return p
	}
	t, i := o.Stratum, o.Instance
	s.strata[t] = struct{}{}
	if more := int(i.slot) + 1 - len(t.cells); more > 0 {
		room := len(s.dirty) - len(t.cells)
		t.cells = slices.Grow(t.cells, room)[:i.slot+1]
		t.present = slices.Grow(t.present, room)[:i.slot+1]
	}
	t.cells[i.slot] = &cell{stratum: t, instance: i}
	t.present[i.slot] = present{instance: i, generation: o.Generation, second: secondOf(now)}
	return &t.present[i.slot]
}

// compare counts a success for comparison by status and latency. The lock is held.
func (s *Service) compare(p *present, o *Observation, now time.Duration) {
	t := o.Stratum
	t.last = now
	if second := secondOf(now); second > p.second {
		s.turn(t.cells[o.Slot], second)
	}
	if k, bad := kindOf(o.Code); bad {
		c := t.cells[o.Slot]
		if s.policy.Load().Hashes && !c.errorCounts(o.Key, now) {
			o.Instance.past.outcomes[OK]++
			return
		}
		fine, coarse := c.at(p.second)
		fine.bad[k]++
		coarse.bad[k]++
		t.bad = true
	}
	p.n++
	if o.Latency > 0 {
		ln := logMilliseconds(o.Latency)
		p.timed++
		p.ln += float32(ln)
		p.sq += float32(ln * ln)
		t.usual += (ln - t.usual) / 256 // exponential, over some 256 answers
		if ln > t.usual+halfRatio {
			t.slow = true
		}
	}
}

// others returns what came of the attempts on the other instances in the longest window, and the latency of those in the
// same IDC, of ln(ms).
func (s *Service) others(t *Stratum, than *Instance, now time.Duration) (n, bad float64, latency moments) {
	for c := range t.each {
		if c.instance == than {
			continue
		}
		sum := s.sum(c, windows-1, now)
		n += float64(sum.n)
		bad += float64(sum.bad[clientErrors] + sum.bad[serverErrors])
		if c.instance.idc == than.idc {
			latency.join(sum.latency())
		}
	}
	return n, bad, latency
}
