package fuse

import (
	"math"
	"time"
)

// Who is admitted.
const (
	// What a bucket holds, in seconds of its rate, and at least so many: arrivals come at random.
	burstTime  = 250 * time.Millisecond
	leastBurst = 8
	// settled is how long nobody at the cut may have been refused before lighter ones pass. When the cut rises, heavier ones are
	// refused at once, though lighter ones passed just before.
	settled = time.Second
	// What is left of the arrivals' histograms after a second.
	fade, fadeSoon = 0.9, 0.5
	// markedShare of what is admitted is marked, the lightest.
	markedShare = 0.25
	// known is how many arrivals make the histogram known.
	known = 10
)

// cut is who is refused in an avalanche: those lighter than the weight at the cut. Those heavier pass. Those that weigh just
// so much pass as far as the rate and the number in flight allow, so that only they are told apart by the moment.
type cut struct {
	weight   int
	learning bool // who arrives isn't known yet: the cut is the heaviest that was refused

	arrivals arrivals
	recent   arrivals
	arrived  [MaxWeight + 1]time.Duration // the last one of each weight, in an avalanche
	lately   float64                      // arrivals per second, of the last two seconds
	count    float64                      // since the last tick
	begun    time.Duration
	ticked   time.Duration

	rate      float64 // that the callee delivers; headroom times as many tokens come
	floorRate float64 // how many a second pass in any case

	tokens  float64 // may be owed to those heavier
	dead    float64 // attempts nobody waits for anymore, whose work the callee has yet to do
	floor   float64 // a token of those that pass in any case, if nothing else does
	filled  time.Duration
	refused time.Duration // when one at the cut was
	last    time.Duration // when any was
	mark    int           // the heaviest that is told to shed optional work
	unheard int           // admitted since the last outcome

	admittedLately, arrivedLately float64 // faded, for the share
}

func newCut() cut { return cut{arrivals: arrivals{fade: fade}, recent: arrivals{fade: fadeSoon}} }

// admits puts in force how many attempts a second the callee delivers, and how many pass in any case.
func (c *cut) admits(rate, floor float64) { c.rate, c.floorRate = rate, floor }

func (c *cut) target() float64 { return headroom * c.rate }

// begin begins an avalanche. queued tells whether more is in flight than may be.
func (c *cut) begin(now time.Duration, rate float64, queued bool) {
	*c = cut{
		arrivals: c.arrivals, recent: c.recent, lately: c.lately,
		rate: rate, learning: c.arrivals.total < known, begun: now, ticked: now, filled: now, tokens: 1, refused: now, last: now,
	}
	switch {
	case !queued: // what comes as before passes, such as after single instances have died
		c.tokens = c.burst()
		if !c.learning {
			c.weight = c.arrivals.of(c.target())
		}
	case !c.learning:
		c.weight = c.arrivals.next(MaxWeight+1, -1)
	}
}

// arrive counts requests.
func (c *cut) arrive(weight int, n float64) {
	c.arrivals.add(weight, n)
	c.recent.add(weight, n)
	c.count += n
}

// turn lets what is known of the arrivals fade.
func (c *cut) turn(now time.Duration) {
	seconds := (now - c.ticked).Seconds()
	if seconds <= 0 {
		return
	}
	c.ticked = now
	c.arrivals.turn(now)
	c.recent.turn(now)
	keep := math.Exp(-seconds / 2)
	c.lately = c.lately*keep + c.count/seconds*(1-keep)
	c.count = 0
	c.admittedLately, c.arrivedLately = c.admittedLately*keep, c.arrivedLately*keep
}

func (c *cut) burst() float64 { return max(leastBurst, c.target()*burstTime.Seconds()) }

// fill adds the tokens of the time that has passed.
func (c *cut) fill(now time.Duration) {
	seconds := (now - c.filled).Seconds()
	if seconds <= 0 {
		return
	}
	c.filled = now
	c.dead = max(c.dead-seconds*c.rate, 0)
	c.tokens = min(c.tokens+seconds*c.target(), c.burst())
	c.floor = min(c.floor+seconds*c.floorRate, 1)
}

// admit decides on a request. room tells whether another one may be in flight.
func (c *cut) admit(now time.Duration, weight int, room bool) Verdict {
	c.arrive(weight, 1)
	c.arrived[weight] = now
	c.arrivedLately++
	c.fill(now)
	switch {
	case weight > c.weight && !c.learning:
		if c.tokens--; c.tokens < -c.burst() { // no later than at the next tick
			c.weight, c.tokens = c.arrivals.next(c.weight, 1), 0
		}
	case weight < c.weight:
		c.last = now
		return Verdict{}
	case room && c.tokens >= 1:
		c.tokens--
	case c.floor >= 1:
		if c.tokens > 0 {
			c.tokens = max(c.tokens-1, 0)
		}
	default:
		c.refused, c.last = now, now
		if c.learning {
			c.weight = weight // the heaviest so far: a lighter one is refused above
		}
		return Verdict{}
	}
	c.floor = max(c.floor-1, 0)
	c.admittedLately++
	c.unheard++
	if c.learning || weight <= c.mark {
		return Verdict{true, c.degrade()}
	}
	return Verdict{Admitted: true}
}

// degrade is how much optional work is to be left out by those just over the cut: the more the less is admitted.
func (c *cut) degrade() int {
	switch share := c.share(); {
	case share >= 2.0/3:
		return 1
	case share >= 1.0/3:
		return 2
	default:
		return 3
	}
}

// tick moves the cut. crowded tells that there is more to do than may be, spacious that there is less than half of it.
func (c *cut) tick(now time.Duration, crowded, spacious bool) {
	c.fill(now)
	c.turn(now)
	target := c.target()
	switch {
	case c.learning && now-c.begun >= settled:
		c.learning = false
	case c.learning:
	case c.tokens < 0 || crowded: // the heavier ones alone are too many
		c.weight, c.tokens = max(c.arrivals.of(target), c.arrivals.next(c.weight, 1)), max(c.tokens, 0)
	case now-c.refused >= settled && c.tokens >= 1 && spacious && c.recent.from(c.weight) < target:
		// nobody is refused but those lighter, and the others don't need all of it
		c.weight, c.refused = c.lighter(now), now // those of the new one were refused until now
	}
	c.mark = c.arrivals.above(c.weight, markedShare*target)
}

// lighter returns the next lighter weight that has arrived just now; the cut if there is none.
func (c *cut) lighter(now time.Duration) int {
	for w := c.weight - 1; w >= 0; w-- {
		if now-c.arrived[w] < settled {
			return w
		}
	}
	return c.weight
}

// share is what part of the last seconds' arrivals was admitted.
func (c *cut) share() float64 {
	if c.arrivedLately < 1e-9 {
		return 1
	}
	return min(c.admittedLately/c.arrivedLately, 1)
}
