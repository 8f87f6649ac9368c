package health

import (
	"math"
	"slices"
	"time"
)

// Stratum is the attempts that may be compared with each other: those of one caller that took one route and split. What
// callers ask differs, and so does what they get.
type Stratum struct {
	Name string // for people

	// What follows is the judge's, under the service's lock.
	cells  []cell // by slot
	last   time.Duration
	bad    bool    // an error came since the last judgement
	slow   bool    // a slow answer came since the last judgement
	usual  float64 // running mean of ln(ms)
	shifts [kinds]shift
}

// NewStratum returns a stratum without outcomes.
func NewStratum(name string) *Stratum { return &Stratum{Name: name} }

// at returns the cell of an instance, nil if there was no outcome since it is what it is.
func (t *Stratum) at(i *Instance, slot int32) *cell {
	if int(slot) < len(t.cells) && t.cells[slot].instance == i {
		return &t.cells[slot]
	}
	return nil
}

// each yields the cells that have outcomes.
func (t *Stratum) each(yield func(*cell) bool) {
	for n := range t.cells {
		if c := &t.cells[n]; c.instance != nil && !yield(c) {
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

// counts are what came of attempts in some time.
type counts struct {
	n      uint32
	bad    [kinds]uint32
	timed  uint32
	ln, sq float32 // sums of ln(ms) and of its square
}

func (c *counts) join(o *counts) {
	c.n += o.n
	for k := range c.bad {
		c.bad[k] += o.bad[k]
	}
	c.timed, c.ln, c.sq = c.timed+o.timed, c.ln+o.ln, c.sq+o.sq
}

func (c *counts) leave(o *counts) {
	c.n -= o.n
	for k := range c.bad {
		c.bad[k] -= o.bad[k]
	}
	c.timed, c.ln, c.sq = c.timed-o.timed, c.ln-o.ln, c.sq-o.sq
}

func (c *counts) latency() moments {
	return moments{float64(c.timed), float64(c.ln), float64(c.sq)}
}

// The windows: the last 10 s by seconds, the last 30 s and 60 s by spans of 10 s, of which the present one is begun.
const (
	windows       = 3
	fineSlots     = 10 // of a second
	coarseSeconds = 10
	coarseSlots   = 7
	// baselineLife is the time in which the memory of what came before the windows loses half of its weight.
	baselineLife = 5 * time.Minute
)

// coarseOf is how many spans of 10 s a window has, besides the first.
var coarseOf = [windows]uint32{1: 3, 2: 7}

// cell is what came of a stratum's attempts on one instance: 48 bytes, which are all that a usual outcome touches.
type cell struct {
	instance   *Instance // nil: none
	generation uint32
	second     uint32 // that present is of
	present    counts // not in the rings yet
	*history
}

// history is the rest of a cell.
type history struct {
	fine     [fineSlots]counts
	coarse   [coarseSlots]counts
	baseline baseline      // of what is older than the windows
	errors   []keyed       // counted errors, where the policy hashes
	slowed   time.Duration // since when the weight is cut for its latency; 0: it isn't
}

// baseline is the share of errors in the past, fading.
type baseline struct {
	n   float64
	bad [kinds]float64
}

func (b *baseline) join(o *baseline, sign float64) {
	b.n += sign * o.n
	for k := range b.bad {
		b.bad[k] += sign * o.bad[k]
	}
}

// settle takes what is present into the rings, and into what is known of the instance. The lock is held.
func (s *Service) settle(c *cell) {
	if c.present.n == 0 {
		return
	}
	c.fine[c.second%fineSlots].join(&c.present)
	c.coarse[c.second/coarseSeconds%coarseSlots].join(&c.present)
	c.instance.past.outcomes[OK] += uint64(c.present.n)
	s.peers.add(c.instance, c.present.n, 0)
	c.present = counts{}
}

// settleOf settles the cells of one instance. The lock is held.
func (s *Service) settleOf(i *Instance) {
	for t := range s.strata {
		if c := t.at(i, i.slot); c != nil {
			s.settle(c)
		}
	}
}

// settleAll settles all cells. The lock is held.
func (s *Service) settleAll() {
	for t := range s.strata {
		for c := range t.each {
			s.settle(c)
		}
	}
}

// turn settles, and empties what the rings hold of times that are over. The lock is held.
func (s *Service) turn(c *cell, second uint32) {
	s.settle(c)
	if second <= c.second {
		return
	}
	empty(c.fine[:], c.second, second, nil)
	before, now := c.second/coarseSeconds, second/coarseSeconds
	if now > before {
		c.baseline.fade(math.Exp2(-float64(now-before) * coarseSeconds / baselineLife.Seconds()))
		empty(c.coarse[:], before, now, c.baseline.take)
	}
	c.second = second
}

// empty clears the slots of a ring between two moments, in slots, after leave has taken what was in them.
func empty(ring []counts, before, now uint32, leave func(*counts)) {
	size := uint32(len(ring))
	first := before + 1
	if now >= size {
		first = max(first, now-size+1)
	}
	for slot := first; slot <= now; slot++ {
		old := &ring[slot%size]
		if leave != nil {
			leave(old)
		}
		*old = counts{}
	}
}

func (b *baseline) fade(factor float64) {
	b.n *= factor
	for k := range b.bad {
		b.bad[k] *= factor
	}
}

func (b *baseline) take(old *counts) {
	b.n += float64(old.n)
	for k := range b.bad {
		b.bad[k] += float64(old.bad[k])
	}
}

func secondOf(now time.Duration) uint32 { return uint32(now / time.Second) }

// sum returns the counts of a window. The lock is held.
func (s *Service) sum(c *cell, window int, now time.Duration) (total counts) {
	second := secondOf(now)
	s.turn(c, second)
	if window == 0 {
		for n := range c.fine {
			total.join(&c.fine[n])
		}
		return total
	}
	slot := second / coarseSeconds
	for back := range min(coarseOf[window], slot+1) {
		total.join(&c.coarse[(slot-back)%coarseSlots])
	}
	return total
}

// keyed is a counted error of one user.
type keyed struct {
	key uint64
	at  time.Duration
}

const (
	errorsPerKey = 2  // of one user that count within keyWindow, where the policy hashes
	mostKeyed    = 64 // remembered
	keyWindow    = time.Minute
)

// counts tells whether an error of a user counts: where requests of one user all go to one instance, his bad day isn't
// the instance's. When there are more than can be remembered, the oldest is forgotten: of so many users it is no one's bad
// day, and were the rest not counted, a busy instance's successes would hide them.
func (c *cell) counts(key uint64, now time.Duration) bool {
	kept, mine := c.errors[:0], 0
	for _, e := range c.errors {
		if now-e.at < keyWindow {
			kept = append(kept, e)
			if e.key == key {
				mine++
			}
		}
	}
	c.errors = kept
	if mine >= errorsPerKey {
		return false
	}
	if len(kept) >= mostKeyed {
		c.errors = slices.Delete(kept, 0, 1)
	}
	c.errors = append(c.errors, keyed{key, now})
	return true
}

// cell returns the cell of an outcome's instance in its stratum. The lock is held.
func (s *Service) cell(o *Observation, now time.Duration) *cell {
	t, i := o.Stratum, o.Instance
	if c := t.at(i, i.slot); c != nil && c.generation == o.Generation {
		return c
	}
	s.strata[t] = struct{}{}
	if more := int(i.slot) + 1 - len(t.cells); more > 0 {
		t.cells = slices.Grow(t.cells, len(s.dirty)-len(t.cells))[:int(i.slot)+1]
	}
	t.cells[i.slot] = cell{instance: i, generation: o.Generation, second: secondOf(now), history: &history{}}
	return &t.cells[i.slot]
}

// compare takes an outcome for comparison. The lock is held.
func (s *Service) compare(c *cell, o *Observation, now time.Duration) {
	t := o.Stratum
	t.last = now
	if second := secondOf(now); second > c.second {
		s.turn(c, second)
	}
	k, bad := kindOf(o.Code)
	if bad && s.policy.Load().Hashes && !c.counts(o.Key, now) {
		c.instance.past.outcomes[OK]++
		return
	}
	c.present.n++
	if bad {
		c.present.bad[k]++
		t.bad = true
	}
	if o.Latency > 0 {
		ln := logMilliseconds(o.Latency)
		c.present.timed++
		c.present.ln += float32(ln)
		c.present.sq += float32(ln * ln)
		t.usual += (ln - t.usual) / 256
		if ln > t.usual+halfRatio {
			t.slow = true
		}
	}
}

func logMilliseconds(d time.Duration) float64 {
	return math.Log(float64(d) / float64(time.Millisecond))
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
