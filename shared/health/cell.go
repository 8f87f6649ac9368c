package health

import (
	"math"
	"slices"
	"time"
)

// counts are the outcomes of attempts in some span of time.
type counts struct {
	n      uint32
	bad    [kinds]uint32
	timed  uint32  // outcomes whose latency is known
	ln, sq float32 // sums of ln(ms) and of its square, over those
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

// The windows are the last 10 s, in slots of 1 s, and the last 30 s and 60 s, in slots of 5 s. The newest slot is the one that
// is being filled, so that a window may be a slot shorter than its name.
const (
	windows       = 3
	fineSlots     = 10 // of a second
	coarseSeconds = 5
	coarseSlots   = 12
	// baselineLife is the time in which the memory of what came before the windows loses half of its weight.
	baselineLife = 5 * time.Minute
)

// coarseOf is how many coarse slots make each window; the first window is made of fine slots.
var coarseOf = [windows]uint32{1: 6, 2: 12}

// windowSeconds are the lengths of the windows, as decisions tell them.
var windowSeconds = [windows]float64{10, 30, 60}

// present is the outcomes of a stratum's attempts on one instance in the current second, before settle adds them to the cell.
// Its 32 bytes are all that a usual outcome touches. Errors are added to the cell at once.
type present struct {
	instance   *Instance // nil: there is no cell
	generation uint32    // of the instance when the cell was made
	second     uint32    // by the monitor's clock
	n, timed   uint32
	ln, sq     float32
}

// cell is the outcomes of a stratum's attempts on one instance since its last ban or return.
type cell struct {
	stratum  *Stratum
	instance *Instance
	fine     [fineSlots]counts   // ring, by second
	coarse   [coarseSlots]counts // ring, by span of coarseSeconds
	baseline baseline            // of what has left the longest window
	errors   []keyed             // counted errors, where the policy hashes
	slowed   time.Duration       // since when the weight is cut for its latency; 0: it isn't
}

// baseline counts the outcomes and errors of the past, which lose weight with time.
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

func (c *cell) present() *present { return &c.stratum.present[c.instance.slot] }

// at returns the slots of a second, one in each ring.
func (c *cell) at(second uint32) (fine, coarse *counts) {
	return &c.fine[second%fineSlots], &c.coarse[second/coarseSeconds%coarseSlots]
}

// settle adds the current second's outcomes to the rings, to the instance's totals and to the peers. The lock is held.
func (s *Service) settle(c *cell) {
	p := c.present()
	if p.n == 0 {
		return
	}
	fine, coarse := c.at(p.second)
	sum := counts{n: p.n, timed: p.timed, ln: p.ln, sq: p.sq}
	fine.join(&sum)
	coarse.join(&sum)
	c.instance.past.outcomes[OK] += uint64(p.n)
	s.peers.add(c.instance, p.n, 0)
	p.n, p.timed, p.ln, p.sq = 0, 0, 0, 0
}

// settleOf settles the cells of one instance. The lock is held.
func (s *Service) settleOf(i *Instance) {
	for t := range s.strata {
		if c := t.at(i); c != nil {
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

// turn brings a cell to a second: it settles what came before, and empties the slots that are used anew. The lock is held.
func (s *Service) turn(c *cell, second uint32) {
	s.settle(c)
	p := c.present()
	if second <= p.second {
		return
	}
	empty(c.fine[:], p.second, second, nil)
	before, now := p.second/coarseSeconds, second/coarseSeconds
	if now > before {
		c.baseline.fade(math.Exp2(-float64(now-before) * coarseSeconds / baselineLife.Seconds()))
		empty(c.coarse[:], before, now, c.baseline.take)
	}
	p.second = second
}

// empty clears the slots of a ring for the time after before and up to now, both counted in slots. leave, if any, is given what
// was in each of them.
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

// keyed is a counted error, by the key of its user.
type keyed struct {
	key uint64
	at  time.Duration
}

const (
	errorsPerKey = 2  // errors of one user that count within keyWindow, where the policy hashes
	mostKeyed    = 64 // errors that are remembered of a cell
	keyWindow    = time.Minute
)

// errorCounts tells whether an error of a user counts: where all requests of one user go to one instance, what is wrong with
// the user's requests isn't the instance's fault. When there are more errors than can be remembered, the oldest is forgotten:
// with so many users it isn't one's fault, and if the rest weren't counted, a busy instance's successes would hide them.
func (c *cell) errorCounts(key uint64, now time.Duration) bool {
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
