package scenarios

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// loadJudge reads a finding off the ledgers of all seeds, by variant.
type loadJudge = func(variants [][]*flow) finding

// The overloads of the rows last so long.
const overload = time.Minute

// busyAgents are those with so many requests a second each before the overload that they can measure quickly.
const busyAgents = 50

// perAgent is the requests a second of each agent before the onset.
func (l *load) perAgent() float64 {
	rate, _ := l.rate(-1)
	return rate / float64(max(l.agents, 1))
}

// peak is the largest demand, as a share of the capacity.
func (l *load) peak() (most float64) {
	for _, d := range l.demand {
		most = max(most, d.share)
	}
	return most
}

// worstOf returns the least of a value over the seeds.
func worstOf(seeds []*flow, value func(*flow) float64) float64 {
	least := math.Inf(1)
	for _, f := range seeds {
		least = min(least, value(f))
	}
	return least
}

// deliversInOverload wants 95 % of the capacity to come to something over the minute of overload, and 90 % over any 5 s of it
// once the beginning is over: from 10 s on, or 20 s at ten times the capacity with unbounded queues. With enough requests per
// agent, no 10 s may differ from the mean by more than 10 %. It tells the worst of each.
var deliversInOverload = each(func(seeds []*flow) finding {
	l := seeds[0].load
	begun := 10 * time.Second
	if l.peak() >= 10 && l.service.limit == 0 {
		begun = 20 * time.Second
	}
	mean := worstOf(seeds, func(f *flow) float64 { return f.goodput(0, overload) })
	least := worstOf(seeds, func(f *flow) float64 { return slices.Min(f.goodputs(begun, overload, 5*time.Second)) })
	swing := -worstOf(seeds, func(f *flow) float64 { return -f.swing(begun, overload) })
	text := fmt.Sprintf("%.0f %% (from %.0f s on ≥ %.0f %%, ± %.0f %%)", 100*mean, begun.Seconds(), 100*least, 100*swing)
	return finding{text, mean >= 0.95 && least >= 0.9 && (swing <= 0.1 || l.perAgent() < busyAgents)}
})

// goodputs are those of each piece of a time.
func (f *flow) goodputs(from, to, piece time.Duration) (list []float64) {
	for at := from; at+piece <= to; at += piece {
		list = append(list, f.goodput(at, at+piece))
	}
	return list
}

// swing is by what share of their mean the goodputs of 10 s differ from it at most.
func (f *flow) swing(from, to time.Duration) (most float64) {
	list, mean := f.goodputs(from, to, 10*time.Second), f.goodput(from, to)
	if mean == 0 {
		return 0
	}
	for _, g := range list {
		most = max(most, math.Abs(g/mean-1))
	}
	return most
}

// atLeastAsOthers wants UFC's goodput in the overload to be above each comparator's where queues are unbounded, and no more
// than 2 % under the best's where they are bounded, which protects by itself. Goodputs are means over the seeds.
func atLeastAsOthers(ufc [][]*flow, others [][][]*flow) finding {
	all := finding{reached: true}
	var texts []string
	for n, seeds := range ufc {
		own, best := meanGoodput(seeds), 0.0
		for _, other := range others {
			best = max(best, meanGoodput(other[n]))
		}
		texts = append(texts, fmt.Sprintf("%.0f %%", 100*best))
		if seeds[0].load.service.limit == 0 {
			all.reached = all.reached && own > best
		} else {
			all.reached = all.reached && own >= 0.98*best
		}
	}
	all.shows = "the best of the others: " + strings.Join(texts, " / ")
	return all
}

func meanGoodput(seeds []*flow) float64 {
	total := 0.0
	for _, f := range seeds {
		total += f.goodput(0, overload)
	}
	return total / float64(len(seeds))
}

// favoursTheHeavier wants the heavier half of the requests to get a share of what it can get at most: its demand, or the
// whole capacity. 95 %, but 90 % at less than twice the capacity, where the cut goes through the lighter half.
var favoursTheHeavier = each(func(seeds []*flow) finding {
	share := 0.95
	if seeds[0].load.peak() < 2 {
		share = 0.9
	}
	least := worstOf(seeds, (*flow).heavier)
	return finding{fmt.Sprintf("%.0f %%", 100*least), least >= share}
})

func (f *flow) heavier() float64 {
	sum := f.between(0, overload)
	return float64(sum.good[1]) / min(float64(sum.offered[1]), f.capacity(0, overload))
}

// recovers wants everything to be as before the onset within a time from the end of the trouble: for 5 s all calls but 0.5 % are admitted
// and 95 % of the clients get their answer. After that there must be no second with less than 90 % admitted. Agents with
// little traffic get twice the time.
func recovers(ends, limit time.Duration) loadJudge {
	return each(func(seeds []*flow) finding {
		limit := limit
		if seeds[0].load.perAgent() < busyAgents {
			limit *= 2
		}
		return recovered(seeds, ends, limit)
	})
}

func recovered(seeds []*flow, ends, limit time.Duration) finding {
	var took, dips []float64
	for _, f := range seeds {
		back, dip := f.recovery(ends)
		took, dips = append(took, back), append(dips, dip)
	}
	if slices.Max(took) >= never {
		seen := seeds[0].load.after - patience - well - ends
		return finding{shows: fmt.Sprintf("> %.0f s", seen.Seconds())}
	}
	text := fmt.Sprintf("%.0f s", slices.Max(took))
	if least := slices.Min(dips); least < 1 {
		text += fmt.Sprintf(", then ≥ %.0f %%", 100*least)
	}
	return finding{text, slices.Max(took) <= limit.Seconds() && slices.Min(dips) >= 0.9}
}

// patience is the longest that a client waits with all its repeats, give or take: what was asked later may not be over at the
// end.
const patience = 3*readTimeout + time.Second

// well is how long all must be well.
const well = 5 * time.Second

// allAdmitted is a share that counts as all: of 80 agents one may be the last to come back.
const allAdmitted = 0.995

// leastCalls is how many make a share that can be told from chance.
const leastCalls = 50

// recovery returns how many seconds after the end of the trouble everything is well again, and the least share of calls
// admitted in a second from then on, or in as many as bring 50.
func (f *flow) recovery(ends time.Duration) (took, dip float64) {
	for at := ends; at+well <= f.load.after-patience; at += time.Second {
		sum := f.between(at, at+well)
		if sum.admitted() < allAdmitted || ratio(sum.served, sum.allOffered()) < 0.95 {
			continue
		}
		dip = 1
		rate, _ := f.load.rate(-1)
		piece := time.Duration(max(1, math.Ceil(leastCalls/rate))) * time.Second
		for later := at; later+piece <= f.load.after; later += time.Second {
			some := f.between(later, later+piece)
			dip = min(dip, some.admitted())
		}
		return (at - ends).Seconds(), dip
	}
	return never, 0
}

// deliversWhatIsLeft wants shares of what capacity is left for the minute to come to something, by variant.
func deliversWhatIsLeft(shares ...float64) loadJudge {
	return func(variants [][]*flow) finding {
		all := finding{reached: true}
		var texts []string
		for n, seeds := range variants {
			least := worstOf(seeds, func(f *flow) float64 { return f.goodput(0, overload) })
			texts = append(texts, fmt.Sprintf("%.0f %%", 100*least))
			all.reached = all.reached && least >= shares[n]
		}
		all.shows = strings.Join(texts, " / ")
		return all
	}
}

// holdsOff wants few attempts on a callee that is dead until a moment: from 10 s on no more than 1 % of the calls, or 0.2 a
// second and agent, whichever is more, with a twentieth of it for chance.
func holdsOff(ends time.Duration) loadJudge {
	const begun = 10 * time.Second
	return each(func(seeds []*flow) finding {
		most, reached := 0.0, true
		for _, f := range seeds {
			sum := f.between(begun, ends)
			may := max(0.01*float64(sum.allCalls()), 0.2*float64(max(f.load.agents, 1))*(ends-begun).Seconds())
			most = max(most, ratio(sum.attempts, sum.allCalls()))
			reached = reached && float64(sum.attempts) <= 1.05*may
		}
		return finding{fmt.Sprintf("%.3g %% of the calls sent", 100*most), reached}
	})
}

// noWorseUnfused compares the clients' success in the minute from the onset with that of the same without a fuse, which the
// second half of the variants are: at most a hundredth less. Comparators have nothing that they could be without.
func noWorseUnfused(variants [][]*flow) finding {
	success := func(f *flow) float64 {
		sum := f.between(0, overload)
		return ratio(sum.served, sum.allOffered())
	}
	fused := slices.IndexFunc(variants, func(seeds []*flow) bool { return seeds[0].load.unfused })
	if fused < 0 {
		fused = len(variants)
	}
	all := finding{reached: true}
	var texts []string
	for n := range fused {
		own := worstOf(variants[n], success)
		text := fmt.Sprintf("%.1f %%", 100*own)
		if n+fused < len(variants) {
			unfused := worstOf(variants[n+fused], success)
			refused := -worstOf(variants[n+fused], func(f *flow) float64 { sum := f.between(0, overload); return -float64(sum.allRefused()) })
			text += fmt.Sprintf(" (%.1f %% without a fuse)", 100*unfused)
			all.reached = all.reached && own >= unfused-0.01 && refused == 0 // else it isn't without one
		}
		texts = append(texts, text)
	}
	all.shows = strings.Join(texts, " / ")
	return all
}

// hardlyRefuses wants a share of the calls at most to be refused.
func hardlyRefuses(most float64) loadJudge {
	return each(func(seeds []*flow) finding {
		refused, calls := 0, 0
		for _, f := range seeds {
			sum := f.between(0, f.load.after)
			refused += sum.allRefused()
			calls += sum.allCalls()
		}
		return finding{fmt.Sprintf("%.2g %%", 100*ratio(refused, calls)), ratio(refused, calls) <= most}
	})
}

// delivers wants a share of the capacity to come to something over the minute of overload.
func delivers(share float64) loadJudge {
	return each(func(seeds []*flow) finding {
		least := worstOf(seeds, func(f *flow) float64 { return f.goodput(0, overload) })
		return finding{fmt.Sprintf("%.0f %%", 100*least), least >= share}
	})
}
