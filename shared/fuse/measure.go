package fuse

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// worstShare of the instances is left out, at least one of two: what single ones do is for bans.
const worstShare = 0.3

// window is what has come since the last judgement, or in an avalanche of the attempts begun since the last change for the
// worse.
type window struct {
	begun     time.Duration
	good, bad float64    // outcomes
	waited    float64    // good ones that came later than half of the patience
	quick     float64    // good ones that took no longer than the usual 95th percentile
	late      float64    // bad ones whose time was over
	bySlot    []outcomes // of each instance
}

type outcomes struct{ good, bad float32 }

func (w *window) reset(now time.Duration) {
	w.begun, w.good, w.bad, w.waited, w.quick, w.late = now, 0, 0, 0, 0, 0
	clear(w.bySlot)
}

func (w *window) at(slot int32) *outcomes {
	if more := int(slot) + 1 - len(w.bySlot); more > 0 {
		w.bySlot = slices.Grow(w.bySlot, more)[:int(slot)+1]
	}
	return &w.bySlot[slot]
}

func (w *window) add(slot int32, good bool) {
	if good {
		w.good++
		w.at(slot).good++
	} else {
		w.bad++
		w.at(slot).bad++
	}
}

// addLate counts attempts that are late, on whom they are under way: in proportion, since which of them are late isn't known.
func (w *window) addLate(late int, underWay func(yield func(slot int32, n int))) {
	total := 0
	underWay(func(_ int32, n int) { total += n })
	w.bad += float64(late)
	if total > 0 {
		underWay(func(slot int32, n int) { w.at(slot).bad += float32(float64(late) * float64(n) / float64(total)) })
	}
}

// sum adds up the outcomes without those of the worst instances. What isn't known of any instance counts. Of the good ones their share is
// left out: an answer counts when it begins, and for its instance not before it ends.
func (w *window) sum() (good, bad float64) {
	if w.bad == 0 {
		return w.good, 0
	}
	var active []outcomes
	ended := 0.0 // good ones
	for _, o := range w.bySlot {
		if o.good+o.bad > 0 {
			active = append(active, o)
			ended += float64(o.good)
		}
	}
	slices.SortFunc(active, func(a, b outcomes) int { return cmp.Compare(b.bad*(a.good+a.bad), a.bad*(b.good+b.bad)) })
	worst := int(worstShare * float64(len(active)))
	if len(active) > 1 {
		worst = max(worst, 1)
	}
	good, bad = w.good, w.bad
	for _, o := range active[:worst] {
		good, bad = good-float64(o.good)*w.good/max(ended, 1), bad-float64(o.bad)
	}
	return max(good, 0), max(bad, 0)
}

// usual is the callee's own share of failures in normal times, of the last minutes.
type usual struct {
	n, bad float64
	at     time.Duration
}

const (
	usualLife  = 5 * time.Minute // half of what was seen so long ago still counts
	leastUsual = 0.01
	mostUsual  = 0.2
	knownUsual = 100 // outcomes from which on it is known; before that it is mostUsual
)

func (u *usual) add(now time.Duration, good, bad float64) {
	fade := math.Exp2(-float64(now-u.at) / float64(usualLife))
	u.n, u.bad, u.at = u.n*fade+good+bad, u.bad*fade+bad, now
}

func (u *usual) share() float64 {
	if u.n < knownUsual {
		return mostUsual
	}
	return min(max(u.bad/u.n, leastUsual), mostUsual)
}
