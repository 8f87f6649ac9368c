package health

import (
	"math"
	"slices"
)

// peers are the recent outcomes of all instances of a callee, by which one instance is compared with the others. The others'
// share of failures, p0, is the larger of two: over the callee's last 1,000 to 2,000 outcomes, and over the others' last 100,
// which rises at once when the whole callee fails. Both leave out up to 30 % of the instances, the worst: a fault of single
// instances isn't what is normal for the callee.
//
// The worst are left out only if they fail more than the rest by 3 standard deviations. By rank alone those that merely had bad
// luck would be left out: of 1,000 instances with two outcomes each and 20 % of errors, all that have failed at all.
type peers struct {
	all     []*Instance // instances that had outcomes
	total   uint64      // outcomes so far
	ring    []outcome   // the last ones, ringSize of them; nil: there was none yet
	next    int         // index of the last one in ring
	summed  uint64      // total as of the last sum
	n, fail float64     // the last sum: outcomes and failures, without the worst instances
}

type outcome struct {
	instance *Instance
	failed   bool
}

const (
	epochSize   = 1000 // outcomes of the callee
	ringSize    = 256  // outcomes of the callee
	lastOthers  = 100  // outcomes of the others that short looks at
	worstShare  = 0.3  // of the instances, that may be left out
	worstSigmas = 3    // standard deviations over the rest, to be left out
)

// recent counts one instance's outcomes in the callee's present epoch and the one before.
type recent struct {
	epoch   uint64    // number of the present one
	n, fail [2]uint32 // of the present epoch, and of the one before
	place   int       // in peers.all, from 1; 0: not in it
	pooled  tally     // its part in the last sum
	short   int       // scratch of peers.short: its place in the tallies there, from 1
}

// turn brings the counts to the present epoch.
func (r *recent) turn(epoch uint64) {
	if r.epoch == epoch {
		return
	}
	if r.epoch+1 == epoch {
		r.n[1], r.fail[1] = r.n[0], r.fail[0]
	} else {
		r.n[1], r.fail[1] = 0, 0
	}
	r.n[0], r.fail[0], r.epoch = 0, 0, epoch
}

// pool adds up both epochs.
func (r *recent) pool(epoch uint64) tally {
	r.turn(epoch)
	return tally{n: float64(r.n[0] + r.n[1]), failed: float64(r.fail[0] + r.fail[1])}
}

func (p *peers) epoch() uint64 { return p.total / epochSize }

// pass puts an outcome into the ring, as a success. add, which may come later, counts it for the instance.
func (p *peers) pass(i *Instance) {
	if p.ring == nil {
		p.ring = make([]outcome, ringSize)
	}
	p.total++
	p.next = (p.next + 1) % ringSize
	p.ring[p.next] = outcome{i, false}
}

// add counts outcomes of an instance. A failure must be the outcome that was passed last, alone.
func (p *peers) add(i *Instance, successes uint32, failures uint32) {
	r := &i.past.recent
	r.turn(p.epoch())
	if r.place == 0 {
		p.all = append(p.all, i)
		r.place = len(p.all)
	}
	r.n[0] += successes + failures
	r.fail[0] += failures
	if failures > 0 {
		p.ring[p.next].failed = true
	}
}

// drop forgets an instance.
func (p *peers) drop(i *Instance) {
	if i.past == nil || i.past.recent.place == 0 {
		return
	}
	last := len(p.all) - 1
	moved := p.all[last] // the last one takes the free place, in constant time: thousands may leave at once
	p.all[i.past.recent.place-1], p.all[last] = moved, nil
	moved.past.recent.place, p.all = i.past.recent.place, p.all[:last]
	i.past.recent = recent{}
	for n := range p.ring {
		if p.ring[n].instance == i {
			p.ring[n] = outcome{}
		}
	}
	p.summed = 0
}

// p0 is the others' share of failures. The lock is held.
//
// The sum over all instances is made anew when as many outcomes have come as there are instances, so that it costs each
// outcome the same, however many there are.
func (s *Service) p0(of *Instance) float64 {
	p := &s.peers
	if p.summed == 0 || p.total-p.summed >= uint64(len(p.all)) {
		s.settleAll()
		p.sum()
	}
	return max(leastShare, p.long(of), p.short(of))
}

// sum adds up the callee's last 1,000 to 2,000 outcomes, without the worst instances.
func (p *peers) sum() {
	p.summed = p.total
	tallies := make([]tally, 0, len(p.all))
	for _, i := range p.all {
		r := &i.past.recent
		if r.pooled = r.pool(p.epoch()); r.pooled.n > 0 {
			r.pooled.of = i
			tallies = append(tallies, r.pooled)
		}
	}
	n, failed, worst := trim(tallies, int(math.Round(worstShare*float64(len(tallies)-1)))+1)
	p.n, p.fail = n, failed
	for _, t := range tallies[:worst] {
		t.of.past.recent.pooled = tally{}
	}
}

// long is the others' share as of the last sum.
func (p *peers) long(of *Instance) float64 {
	mine := of.past.recent.pooled
	if n := p.n - mine.n; n >= 1 {
		return (p.fail - mine.failed) / n
	}
	return 0
}

// tally counts outcomes and failures of one instance.
type tally struct {
	of        *Instance
	n, failed float64
}

// trim sorts the tallies by share of failures, the worst first. It leaves out up to most of the worst, and returns the sums over
// the others and how many it left out.
func trim(tallies []tally, most int) (n, failed float64, worst int) {
	slices.SortFunc(tallies, func(a, b tally) int {
		switch left, right := a.failed*b.n, b.failed*a.n; {
		case left > right:
			return -1
		case left < right:
			return 1
		}
		return 0
	})
	for _, t := range tallies {
		n, failed = n+t.n, failed+t.failed
	}
	for worst < min(most, len(tallies)-1) {
		t := tallies[worst]
		p := (failed - t.failed) / (n - t.n) // of the rest
		p = min(max(p, leastShare), 1-leastShare)
		if (t.failed-t.n*p)/math.Sqrt(t.n*p*(1-p)) < worstSigmas {
			break
		}
		n, failed, worst = n-t.n, failed-t.failed, worst+1
	}
	return n, failed, worst
}

// short is the share of failures among the last 100 outcomes of the others.
func (p *peers) short(of *Instance) float64 {
	if p.ring == nil {
		return 0
	}
	var tallies []tally
	seen := 0
	for back := 1; back <= ringSize && seen < lastOthers; back++ {
		o := p.ring[(p.next+1-back+ringSize)%ringSize]
		if o.instance == nil || o.instance == of {
			continue
		}
		seen++
		r := &o.instance.past.recent
		if r.short == 0 {
			tallies = append(tallies, tally{of: o.instance})
			r.short = len(tallies) // the place, from 1
		}
		t := &tallies[r.short-1]
		if t.n++; o.failed {
			t.failed++
		}
	}
	for _, t := range tallies {
		t.of.past.recent.short = 0
	}
	if len(tallies) == 0 {
		return 0
	}
	n, failed, _ := trim(tallies, int(math.Round(worstShare*float64(len(tallies)))))
	return failed / n
}
