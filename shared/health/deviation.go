package health

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// What makes a deviation.
const (
	leastOutcomes = 5    // of the instance
	leastOthers   = 10   // of the others
	familyAlpha   = 1e-6 // probability that one judgement of a stratum finds a deviation of any healthy instance
	wilsonZ       = 1.96 // of the upper bound of the others' share
	leastPoints   = 0.20 // by which its share of errors must be over the others'
	leastOdds     = 3    // times the others' odds
	// doubt is the significance level of the test whether the others' share of errors is higher now than in their past.
	doubt = 0.01
	// movedWithin: if within this time after a ban another instance deviates that was sound before, it was the requests' fault.
	// For as long again nobody is banned for that kind of error.
	movedWithin = time.Minute
	// atOnce: worst takes 1/atOnce of the instances that deviate in each of its rounds.
	atOnce = 8
)

const byStatus = "P(errors or more in n, at p0) < alpha, and share >= others' share + 0.2, and odds >= 3 * others' odds"

// shift remembers the last ban by a kind of error, to see whether the errors move on to another instance.
type shift struct {
	of     *Instance // the one that was banned
	at     time.Duration
	sound  map[*Instance]bool // which instances had few errors then
	paused time.Duration      // until when nobody is banned
}

// deviation judges all strata. The lock is held.
func (s *Service) deviation(now time.Duration) {
	if s.overload {
		return
	}
	policy := s.policy.Load()
	for t := range s.strata {
		if now-t.last > strataLife {
			s.drop(t)
			continue
		}
		status, latency := t.bad && policy.Deviation.Status, t.slow && policy.Deviation.Latency
		if t.bad = false; !status && !latency {
			continue
		}
		all, total := s.samples(t, now)
		for k := range kinds {
			if status && (k != clientErrors || !policy.Hashes) && s.byStatus(t, k, all, total, now) {
				all, total = s.samples(t, now) // somebody is banned, or up again
			}
		}
		if latency {
			s.byLatency(t, all, now)
		}
	}
}

// sample is one instance's part in a judgement.
type sample struct {
	of       *Instance
	cell     *cell
	windows  [windows]counts
	baseline baseline
}

// samples returns the samples of the instances that are judged, by address, and their sum.
func (s *Service) samples(t *Stratum, now time.Duration) (all []sample, total sample) {
	for c := range t.each {
		if c.instance.ban != nil || c.instance.gone {
			continue
		}
		one := sample{of: c.instance, cell: c}
		for w := range one.windows {
			one.windows[w] = s.sum(c, w, now)
			total.windows[w].join(&one.windows[w])
		}
		one.baseline = c.baseline
		total.baseline.join(&one.baseline, 1)
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b sample) int { return a.of.Address.Compare(b.of.Address) })
	return all, total
}

// finding is a deviation.
type finding struct {
	sample
	p        float64 // orders the findings, the worst first: the probability of a deviation of status
	evidence Decision
}

// byStatus bans the instances of a stratum that answer with errors where the others don't: the worst first, each judged by
// those that are left. If more deviate than may be banned, it is the service's fault. It tells whether any ban has changed.
func (s *Service) byStatus(t *Stratum, k kind, all []sample, total sample, now time.Duration) bool {
	if now < t.shifts[k].paused {
		return false
	}
	tests := testsOf(all)
	found := worst(all, total, s.most(), func(one, rest *sample) (finding, bool) { return deviates(one, rest, k, tests) })
	if len(found) == 0 || s.manyDeviate(t, found, ByStatus, now) {
		return false
	}
	for _, f := range found {
		if s.moved(t, k, f.of, now) {
			return true
		}
	}
	sound := map[*Instance]bool{}
	for n := range all {
		w := &all[n].windows[0]
		sound[all[n].of] = w.n >= leastOutcomes && float64(w.bad[k]) < leastPoints*float64(w.n)
	}
	for _, f := range found {
		f.evidence.Reason, f.evidence.Detail = ByStatus, k.String()+" of "+t.Name
		f.evidence.Needed = fmt.Sprintf("%d errors or fewer", f.tolerated())
		s.suspect(f.of, f.evidence)
		if f.of.ban != nil {
			t.shifts[k] = shift{of: f.of, at: now, sound: sound}
		}
	}
	return true
}

// tolerated is the most errors with which a finding by status would have been none, in the same window.
func (f *finding) tolerated() int {
	in := f.evidence.Inputs
	x, n, alpha := in["errors"], in["n"], f.evidence.Threshold
	for x > 0 && muchMore(x, n, in["others_errors"], in["others_n"]) && statistics.BinomialTail(x, n, in["p0"]) < alpha {
		x--
	}
	return int(x)
}

// most is how many findings there may be before it is the service's fault in any case.
func (s *Service) most() (most int) {
	for _, g := range s.groups {
		most += max(s.allowed(g), 1)
	}
	return most
}

// testsOf counts the tests of a judgement, which share its alpha: windows with too few outcomes aren't tested.
func testsOf(all []sample) (tests float64) {
	for n := range all {
		for w := range windows {
			if all[n].windows[w].n >= leastOutcomes {
				tests++
			}
		}
	}
	return max(tests, 1)
}

// worst finds the instances that deviate. In rounds, it tests each instance against the sum of those that are left, and takes
// out those that deviate most, until none does. A round takes out an eighth of those that deviate: who deviates from a rest
// that holds worse ones deviates all the more without them. If more than most deviate in the first round, it returns these,
// since nobody is banned then. So of thousands of instances not each is compared with each.
func worst(all []sample, total sample, most int, test func(one, rest *sample) (finding, bool)) (found []finding) {
	all = slices.Clone(all)
	for len(all) > 1 && len(found) <= most {
		var these []finding
		for n := range all {
			rest := total.without(&all[n])
			if f, ok := test(&all[n], &rest); ok {
				f.sample = all[n]
				these = append(these, f)
			}
		}
		if len(these) == 0 || len(found) == 0 && len(these) > most {
			return append(found, these...)
		}
		slices.SortStableFunc(these, func(a, b finding) int { return cmp.Compare(a.p, b.p) })
		these = these[:max(1, len(these)/atOnce)]
		taken := make(map[*Instance]bool, len(these))
		for n := range these {
			total = total.without(&these[n].sample)
			taken[these[n].of] = true
		}
		found = append(found, these...)
		all = slices.DeleteFunc(all, func(one sample) bool { return taken[one.of] })
	}
	return found
}

// without is the sum without one sample.
func (total *sample) without(one *sample) sample {
	rest := *total
	for w := range rest.windows {
		rest.windows[w].leave(&one.windows[w])
	}
	rest.baseline.join(&one.baseline, -1)
	return rest
}

// deviates tests one instance against the rest, in each of the windows.
func deviates(one, rest *sample, k kind, tests float64) (best finding, ok bool) {
	best.p = 1
	for w := range windows {
		mine, theirs := &one.windows[w], &rest.windows[w]
		x, n, x0, n0 := float64(mine.bad[k]), float64(mine.n), float64(theirs.bad[k]), float64(theirs.n)
		if n < leastOutcomes || n0 < leastOthers || !muchMore(x, n, x0, n0) {
			continue
		}
		p0 := normalShare(x0, n0, rest.baseline.bad[k], rest.baseline.n)
		p, alpha := statistics.BinomialTail(x, n, p0), familyAlpha/tests
		if p < alpha && p < best.p {
			best.p, ok = p, true
			best.evidence = Decision{
				Rule: byStatus, Value: p, Threshold: alpha, Inputs: map[string]float64{
					"window": windowSeconds[w], "errors": x, "n": n, "share": x / n, "others_errors": x0, "others_n": n0,
					"others_share": x0 / n0, "p0": p0, "baseline_n": rest.baseline.n, "tests": tests,
				},
			}
		}
	}
	return best, ok
}

// muchMore is the effect floor of a deviation of status: it tells whether the share x of n is so much larger than x0 of n0 that
// the difference matters, however significant it is.
func muchMore(x, n, x0, n0 float64) bool {
	return x/n-x0/n0 >= leastPoints && odds(x, n) >= leastOdds*odds(x0, n0)
}

// normalShare estimates the share of errors that is normal, on the high side: the Wilson upper bound of the others' share in the
// window, x of n. Where the others' past holds more outcomes than the window, and the window doesn't contradict it, it is the
// past's upper bound, or the window's mean if that is higher. That matters at little traffic: one of 20 instances at 2 requests
// a second in all has 5 outcomes a minute, whose errors are significant only if errors are known to be rare.
func normalShare(x, n, pastX, pastN float64) float64 {
	bound := wilsonUpper(x, n, wilsonZ)
	if pastN <= n {
		return bound
	}
	past := wilsonUpper(max(pastX, 0), pastN, wilsonZ)
	if statistics.BinomialTail(x, n, past) < doubt {
		return bound
	}
	return min(bound, max(past, x/n))
}

// manyDeviate tells whether so many deviate that it is the service's fault, and says so once a minute.
func (s *Service) manyDeviate(t *Stratum, found []finding, reason Reason, now time.Duration) bool {
	in := map[string]int{}
	for _, f := range found {
		in[f.of.idc]++
	}
	for idc, n := range in {
		g := s.groups[idc]
		if g == nil || n <= max(s.allowed(g), 1) {
			continue
		}
		if s.faulted == 0 || now-s.faulted >= repeatAfter {
			s.faulted = max(now, 1)
			d := found[0].evidence
			d.Kind, d.Reason, d.Detail = Fault, reason, t.Name
			d.Inputs["deviating"], d.Inputs["cap"] = float64(n), float64(s.allowed(g))
			d.Needed = "no more deviating than the cap, for them to be banned"
			s.decide(nil, d)
		}
		return true
	}
	return false
}

// moved tells whether an instance that was sound deviates since another one was banned. Then the requests were at fault, and
// went on to this one: the other one's ban is lifted, and nobody is banned for a while.
func (s *Service) moved(t *Stratum, k kind, to *Instance, now time.Duration) bool {
	last := &t.shifts[k]
	if last.of == nil || last.of == to || now-last.at > movedWithin || !last.sound[to] {
		return false
	}
	if b := last.of.ban; b != nil && b.reason == ByStatus {
		s.end(last.of, Lifted, "the errors moved to "+to.Address.String()+": it was the requests")
	}
	*last = shift{paused: now + movedWithin}
	return true
}
