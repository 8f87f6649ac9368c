package fuse

import (
	"math"
	"time"
)

// arrivals is a histogram of the requests that come, by weight, which fades.
type arrivals struct {
	fade  float64 // what is left of it after a second
	count [MaxWeight + 1]float64
	total float64
	begun time.Duration
	at    time.Duration
}

func (a *arrivals) add(weight int, n float64) {
	a.count[weight] += n
	a.total += n
}

// turn lets the histogram fade until now.
func (a *arrivals) turn(now time.Duration) {
	keep := math.Pow(a.fade, (now - a.at).Seconds())
	for w := range a.count {
		a.count[w] *= keep
	}
	a.total *= keep
	a.at = now
	if a.total < seen { // nobody was there for long
		a.begun = now
	}
}

// scale is the requests per second of each that is counted.
func (a *arrivals) scale() float64 {
	age := max((a.at - a.begun).Seconds(), 0.1)
	return -math.Log(a.fade) / (1 - math.Pow(a.fade, age))
}

// of returns the weight down to which, from the heaviest, there come as many per second as the target.
func (a *arrivals) of(target float64) int {
	sum, scale := 0.0, a.scale()
	for w := MaxWeight; w > 0; w-- {
		if sum += a.count[w] * scale; sum >= target && a.count[w] > 0 {
			return w
		}
	}
	return 0
}

// from is how many per second weigh so much or more.
func (a *arrivals) from(weight int) float64 {
	sum := 0.0
	for w := weight; w <= MaxWeight; w++ {
		sum += a.count[w]
	}
	return sum * a.scale()
}

// seen is how many that have faded make a weight count as present.
const seen = 0.05

// next returns the next weight that arrives, heavier or lighter; this one if there is none.
func (a *arrivals) next(weight, step int) int {
	for w := weight + step; w >= 0 && w <= MaxWeight; w += step {
		if a.count[w] > seen {
			return w
		}
	}
	return weight
}

// above returns the heaviest of those that weigh so much and the next ones over it, of so many per second.
func (a *arrivals) above(weight int, rate float64) int {
	sum, scale := 0.0, a.scale()
	for w := weight; w <= MaxWeight; w++ {
		if sum += a.count[w] * scale; sum >= rate {
			return w
		}
	}
	return MaxWeight
}
