package protect

import "time"

const (
	// window is the time within which a loss is one loss: "at once". A tool deletes 200,000 keys in some seconds, and leases
	// of the same TTL run out within that; what takes longer than a minute, people can see and stop.
	window = time.Minute
	// resolution is how finely the past is remembered. It bounds the marks of a set.
	resolution = time.Second
	// least is the smallest loss of a set that is held, and leastOfFew that while the mesh as a whole has too few.
	least      = 2
	leastOfFew = 1
)

// set is something of which too much may not go at once. In force is what the catalog has, left is what of it etcd has.
type set struct {
	marks []mark // of the last window, the oldest first
	held  int    // in force, though it isn't left
	hold  *hold  // nil: nothing is held for this set's sake
}

// mark is how many were in force before a change.
type mark struct {
	at      time.Time
	inForce int
}

// hold is the time in which a set stays as it was.
type hold struct {
	since     time.Time
	reference int       // how many there were
	calm      time.Time // since when the loss isn't over the share; zero: it is
}

// reference is the number that is compared with: what was in force when the window began, or the hold.
func (s *set) reference(now time.Time, inForce int) int {
	if s.hold != nil {
		return s.hold.reference
	}
	for _, m := range s.marks {
		if now.Sub(m.at) < window {
			return m.inForce
		}
	}
	return inForce
}

// change notes how many were in force before a change.
func (s *set) change(now time.Time, before int) {
	s.forget(now)
	if n := len(s.marks); n > 0 && now.Sub(s.marks[n-1].at) < resolution {
		return
	}
	s.marks = append(s.marks, mark{now, before})
}

// include counts what was there all the time, and is only followed from now on.
func (s *set) include(more int) {
	for n := range s.marks {
		s.marks[n].inForce += more
	}
	if s.hold != nil {
		s.hold.reference += more
	}
}

// forget drops the marks that are older than the window, and tells whether the set is as if it had never been touched.
func (s *set) forget(now time.Time) bool {
	old := 0
	for old < len(s.marks) && now.Sub(s.marks[old].at) >= window {
		old++
	}
	if s.marks = s.marks[old:]; len(s.marks) == 0 {
		s.marks = nil
	}
	return s.marks == nil && s.hold == nil && s.held == 0
}

// begin begins a hold, unless there is one.
func (s *set) begin(now time.Time, reference int) {
	if s.hold == nil {
		s.hold, s.marks = &hold{since: now, reference: reference}, nil
	}
}

// end ends the hold, and begins the past anew.
func (s *set) end() { s.hold, s.marks = nil, nil }

// settle ends the hold if nothing is held any more, as many are left as before, or the loss hasn't been over the share for a
// window.
func (s *set) settle(now time.Time, left int, over bool) {
	switch h := s.hold; {
	case h == nil:
	case s.held == 0 || left >= h.reference:
		s.end()
	case over:
		h.calm = time.Time{}
	case h.calm.IsZero():
		h.calm = now
	case now.Sub(h.calm) >= window:
		s.end()
	}
}

// confirmed takes what is in force for what should be.
func (s *set) confirmed(inForce int) {
	s.marks = nil
	if s.hold != nil {
		s.hold.reference = inForce
	}
}

// over tells whether a set that falls from one number to another loses more than the share, and smallest at least.
func over(share float64, from, to, smallest int) bool {
	loss := from - to
	return share > 0 && loss >= smallest && float64(loss) > share*float64(from)
}
