package health

import (
	"math"
	"slices"
	"time"
)

// Latency is compared by its logarithm, whose distribution is near to normal, and within an IDC, since distance is no fault.

// halfRatio is how far ln(latency) must be over its running mean for a judgement: half of what makes a deviation.
var halfRatio = math.Log(leastRatio) / 2

const (
	leastRatio  = 3   // times the others' geometric mean
	leastSlower = 20  // ms
	leastTimed  = 20  // answers a side
	leastWelch  = 4.0 // Welch's t
	// slowedFor is how long the weight is cut at least before a ban.
	slowedFor = 4 * time.Second
	byLatency = "mean of ln(latency): ratio >= 3, slower by >= 20 ms, Welch's t >= 4"
)

// byLatency cuts the weight of instances that are slow where the others of their IDC aren't, and bans them if they stay so.
func (s *Service) byLatency(t *Stratum, all []sample, now time.Duration) {
	byIDC := map[string][]sample{}
	for _, one := range all {
		byIDC[one.of.idc] = append(byIDC[one.of.idc], one)
	}
	t.slow = false
	for _, near := range byIDC {
		t.slow = s.slowIn(t, near, now) || t.slow
	}
}

// slowIn judges the instances of one IDC, and tells whether any is slow.
func (s *Service) slowIn(t *Stratum, near []sample, now time.Duration) bool {
	var total sample
	for n := range near {
		for w := range total.windows {
			total.windows[w].join(&near[n].windows[w])
		}
	}
	found := worst(near, total, s.most(), slower)
	for _, one := range near {
		if one.cell.slowed > 0 && !slices.ContainsFunc(found, func(f finding) bool { return f.of == one.of }) {
			one.cell.slowed = 0
		}
	}
	if len(found) == 0 || s.manyDeviate(t, found, ByLatency, now) {
		return len(found) > 0
	}
	for _, f := range found {
		f.evidence.Reason, f.evidence.Detail = ByLatency, t.Name
		c := f.cell
		switch {
		case c.slowed == 0:
			c.slowed = now
			f.evidence.Kind, f.evidence.Needed = Slowed, "a ban, if it is still so in some seconds"
			s.decide(f.of, f.evidence)
		case now-c.slowed >= slowedFor:
			f.evidence.Needed = "a ratio under 3, a difference under 20 ms, or t under 4"
			s.suspect(f.of, f.evidence)
		}
		if f.of.ban == nil && c.slowed < now { // repeated while it is slow, also where the cap protects it: the cut fades
			f.evidence.Kind = Slowed
			s.tell(f.of, f.evidence)
		}
	}
	return true
}

// slower tests whether one instance's latency deviates from the rest's, in any window. The longer windows come after the
// shorter ones, and the clearest counts.
func slower(one, rest *sample) (best finding, ok bool) {
	best.p = 1
	for w := range windows {
		mine, theirs := one.windows[w].latency(), rest.windows[w].latency()
		if mine.n < leastTimed || theirs.n < leastTimed {
			continue
		}
		ratio, t := math.Exp(mine.mean()-theirs.mean()), welch(mine, theirs)
		ms, others := millisecondsOf(mine), millisecondsOf(theirs)
		if ratio < leastRatio || ms-others < leastSlower || t < leastWelch {
			continue
		}
		if p := 1 / (1 + t); p < best.p { // no probability, but in the same order as one
			best.p, ok = p, true
			best.evidence = Decision{
				Rule: byLatency, Value: t, Threshold: leastWelch, Inputs: map[string]float64{
					"window": windowSeconds[w], "n": mine.n, "others_n": theirs.n, "ms": ms, "others_ms": others, "ratio": ratio,
				},
			}
		}
	}
	return best, ok
}

func millisecondsOf(ln moments) float64 { return math.Exp(ln.mean()) }
