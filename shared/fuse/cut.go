package fuse

import (
	"math"
	"time"
)

// How much is admitted, in times of what is delivered.
const (
	// headroom over the rate of delivery lets it be seen when the callee can do more.
	headroom = 1.25
	// What a bucket holds, in seconds of its rate, and at least so many: arrivals come at random.
	burstTime  = 250 * time.Millisecond
	leastBurst = 8
	// fade is what is left of the arrivals' histogram after a second.
	fade = 0.9
	// settled is how long nobody at the cut may have been refused before lighter ones pass. When the cut rises, heavier ones are
	// refused at once, though lighter ones passed just before.
	settled = time.Second
)

// cut is who is refused in an avalanche: those lighter than the weight at the cut. Those heavier pass. Those that weigh just
// so much pass as far as the rate and the number in flight allow, so that only they are told apart by the moment.
type cut struct {
	weight   int
	learning bool // all weights are the one at the cut: who arrives isn't known yet

	arrivals [MaxWeight + 1]float64 // faded
	total    float64                // their sum
	lately   float64                // arrivals per second, of the last two seconds
	count    float64                // since the last tick
	begun    time.Duration
	ticked   time.Duration

	tokens  float64 // may be owed to those heavier
	dead    float64 // attempts nobody waits for anymore, whose work the callee has yet to do
	floor   float64 // a token of those that pass in any case, if nothing else does
	filled  time.Duration
	refused time.Duration // when one at the cut was
	last    time.Duration // when any was
	mark    int           // the heaviest that is told to shed optional work

	admittedLately, arrivedLately float64 // faded, for the share
}

// begin begins an avalanche. queued tells whether more is in flight than may be.
func (c *cut) begin(now time.Duration, bw float64, queued bool) {
	*c = cut{learning: true, begun: now, ticked: now, filled: now, tokens: 1, refused: now, last: now}
	if !queued { // what comes as before passes, such as after single instances have died
		c.tokens = burst(headroom * bw)
	}
}

// rate is the arrivals per second, by the histogram.
func (c *cut) rate(now time.Duration) float64 {
	age := max((now - c.begun).Seconds(), 0.1)
	return c.total * -math.Log(fade) / (1 - math.Pow(fade, age))
}

func burst(rate float64) float64 { return max(leastBurst, rate*burstTime.Seconds()) }

// fill adds the tokens of the time that has passed.
func (c *cut) fill(now time.Duration, bw, floorRate float64) {
	seconds := (now - c.filled).Seconds()
	if seconds <= 0 {
		return
	}
	c.filled = now
	c.dead = max(c.dead-seconds*bw, 0)
	rate := headroom * bw
	c.tokens = min(c.tokens+seconds*rate, burst(rate))
	c.floor = min(c.floor+seconds*floorRate, 1)
}

// admit decides on a request. room tells whether another one may be in flight.
func (c *cut) admit(now time.Duration, weight int, bw, floorRate float64, room bool) (admitted, marked bool) {
	c.arrivals[weight]++
	c.total++
	c.count++
	c.arrivedLately++
	c.fill(now, bw, floorRate)
	switch {
	case !c.learning && weight > c.weight:
		c.tokens = max(c.tokens-1, -burst(headroom*bw))
	case !c.learning && weight < c.weight:
		c.last = now
		return false, false
	case room && c.tokens >= 1:
		c.tokens--
	case !room && c.floor >= 1:
	default:
		c.refused, c.last = now, now
		return false, false
	}
	c.floor = max(c.floor-1, 0)
	c.admittedLately++
	return true, c.learning || weight <= c.mark
}

// tick moves the cut. crowded tells that there is more in flight than may be, spacious that there is less than half of it.
func (c *cut) tick(now time.Duration, bw, floorRate float64, crowded, spacious bool) {
	c.fill(now, bw, floorRate)
	seconds := (now - c.ticked).Seconds()
	if seconds <= 0 {
		return
	}
	c.ticked = now
	keep := math.Pow(fade, seconds)
	for w := range c.arrivals {
		c.arrivals[w] *= keep
	}
	c.total *= keep
	short := math.Exp(-seconds / 2)
	c.lately = c.lately*short + c.count/seconds*(1-short)
	c.count = 0
	c.admittedLately, c.arrivedLately = c.admittedLately*short, c.arrivedLately*short

	target := headroom * bw
	switch {
	case c.learning && now-c.begun >= settled:
		c.learning, c.weight = false, c.of(target, now)
	case c.learning:
	case c.tokens < 0 || crowded: // the heavier ones alone are too many
		c.weight = max(c.of(target, now), c.next(c.weight, 1))
	case now-c.refused >= settled && c.tokens >= 1 && spacious: // nobody is refused but those lighter
		c.weight, c.refused = c.next(c.weight, -1), now // those of the new one were refused until now
	}
	c.mark = c.heavier(target / 4)
}

// of returns the weight up to which, from the heaviest down, there are as many arrivals per second as the target.
func (c *cut) of(target float64, now time.Duration) int {
	scale := c.rate(now) / max(c.total, 1e-9)
	sum := 0.0
	for w := MaxWeight; w > 0; w-- {
		if sum += c.arrivals[w] * scale; sum >= target && c.arrivals[w] > 0 {
			return w
		}
	}
	return 0
}

// seen is how many faded arrivals make a weight count as present.
const seen = 0.05

// next returns the next weight that arrives, heavier or lighter; this one if there is none.
func (c *cut) next(weight, step int) int {
	for w := weight + step; w >= 0 && w <= MaxWeight; w += step {
		if c.arrivals[w] > seen {
			return w
		}
	}
	return weight
}

// heavier returns the heaviest of the requests at the cut and the next ones over it, of so many per second.
func (c *cut) heavier(rate float64) int {
	sum, scale := 0.0, c.rate(c.ticked)/max(c.total, 1e-9)
	for w := c.weight; w <= MaxWeight; w++ {
		if sum += c.arrivals[w] * scale; sum >= rate {
			return w
		}
	}
	return MaxWeight
}

// share is what part of the last seconds' arrivals was admitted.
func (c *cut) share() float64 {
	if c.arrivedLately < 1e-9 {
		return 1
	}
	return min(c.admittedLately/c.arrivedLately, 1)
}
