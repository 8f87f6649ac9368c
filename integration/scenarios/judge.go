package scenarios

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// finding is what ledgers show, and whether that is what was wanted.
type finding struct {
	shows   string
	reached bool
}

// judge reads a finding off the ledgers of all seeds, by variant.
type judge func(variants [][]*ledger) finding

// each judges variant by variant; all must reach what is wanted.
func each[L any](one func(seeds []L) finding) func(variants [][]L) finding {
	return func(variants [][]L) finding {
		all := finding{reached: true}
		var texts []string
		for _, seeds := range variants {
			f := one(seeds)
			texts = append(texts, f.shows)
			all.reached = all.reached && f.reached
		}
		all.shows = strings.Join(texts, " / ")
		return all
	}
}

// enough tells whether so many of n seeds are the share wanted. Few seeds, of the quick form, get three standard deviations:
// a rule that reaches the share exactly must not fail by chance.
func enough(hits, n int, share float64) bool {
	wanted := share * float64(n)
	if n < 50 {
		wanted -= 3 * math.Sqrt(float64(n)*share*(1-share))
	}
	return float64(hits) >= wanted
}

// withinTime wants the faulty instance to be banned within a time in a share of the seeds, and no other in these.
func withinTime(limit time.Duration, share float64) judge {
	return found(limit.Seconds(), share, func(v *verdict) float64 { return v.at.Seconds() }, "%.1f s")
}

// withinFailures wants the faulty instance to be banned after so many failed attempts at most in a share of the seeds, and no
// other in these.
func withinFailures(limit int, share float64) judge {
	return found(float64(limit), share, func(v *verdict) float64 { return float64(v.failed) }, "%.0f failures")
}

func found(limit, share float64, cost func(*verdict) float64, unit string) judge {
	return each(func(seeds []*ledger) finding {
		var costs []float64
		hits, clean, wrong := 0, 0, 0
		for _, l := range seeds {
			others := len(l.wrong())
			wrong += others
			ban, banned := l.found()
			if !banned {
				continue
			}
			costs = append(costs, cost(&ban))
			if cost(&ban) <= limit {
				hits++
				if others == 0 {
					clean++
				}
			}
		}
		text := percent(hits, len(seeds))
		if len(costs) > 0 {
			text += fmt.Sprintf(" (median "+unit+", most "+unit+")", middle(costs), slices.Max(costs))
		}
		if wrong > 0 {
			text += fmt.Sprintf(", %d bans of healthy ones", wrong)
		}
		return finding{text, enough(clean, len(seeds), share)}
	})
}

// nobodyBanned wants no ban at all.
var nobodyBanned = each(func(seeds []*ledger) finding { return none(seeds, func(*verdict) bool { return true }) })

// nobodySuspected wants no ban but by proof.
var nobodySuspected = each(func(seeds []*ledger) finding {
	return none(seeds, func(v *verdict) bool { return v.reason != health.ByProof })
})

func none(seeds []*ledger, counts func(*verdict) bool) finding {
	bans := 0
	for _, l := range seeds {
		bans += len(l.bans(counts))
	}
	return finding{fmt.Sprint(bans), bans == 0}
}

// keepsServing wants, for a minute from the onset, a share of successes, no call without an instance to try, and no more
// suspects banned than the cap allows.
func keepsServing(success float64, suspects int) judge {
	return each(func(seeds []*ledger) finding {
		var shares []float64
		empty, most := 0, 0
		for _, l := range seeds {
			sum := l.between(0, time.Minute)
			shares = append(shares, sum.success())
			empty += l.empty
			most = max(most, l.mostSuspects())
		}
		return finding{
			fmt.Sprintf("%.1f %% success, %d empty, at most %d suspects banned", 100*slices.Min(shares), empty, most),
			slices.Min(shares) >= success && empty == 0 && most <= suspects,
		}
	})
}

// mostSuspects returns how many were banned at once, at most, without proof.
func (l *ledger) mostSuspects() (most int) {
	banned := map[int]bool{}
	for _, v := range l.verdicts {
		if v.agent != 0 {
			continue
		}
		if v.banned && v.reason != health.ByProof {
			banned[v.instance] = true
		} else {
			delete(banned, v.instance)
		}
		most = max(most, len(banned))
	}
	return most
}

// converges compares the failed attempts on a flapping instance with those that bans of a fixed length cost, which are the
// second variant: a share at most.
func converges(most float64) judge {
	return func(variants [][]*ledger) finding {
		doubling, fixed := meanFailures(variants[0]), 0.0
		text := fmt.Sprintf("%.0f failures", doubling)
		if len(variants) > 1 {
			fixed = meanFailures(variants[1])
			text += fmt.Sprintf(", %.0f with fixed bans: %.2f", fixed, doubling/fixed)
		}
		return finding{text, doubling <= most*fixed}
	}
}

func meanFailures(seeds []*ledger) float64 {
	total := 0
	for _, l := range seeds {
		sum := l.between(0, l.setup.after)
		total += sum.failed
	}
	return float64(total) / float64(len(seeds))
}

// staysQuick wants the 99th percentile of the good calls' latency, from a time after the onset on for ten seconds, to be under
// so many times the one before, in 95 % of the seeds.
func staysQuick(from time.Duration, times float64) judge {
	return each(func(seeds []*ledger) finding {
		var ratios []float64
		hits := 0
		for _, l := range seeds {
			usual := l.quantile(-30*time.Second, 0, 0.99)
			ratio := float64(l.quantile(from, from+10*time.Second, 0.99)) / float64(usual)
			ratios = append(ratios, ratio)
			if ratio < times {
				hits++
			}
		}
		text := fmt.Sprintf("%.2f times normal (median), %s under %.0f", middle(ratios), percent(hits, len(seeds)), times)
		return finding{text, enough(hits, len(seeds), 0.95)}
	})
}

func percent(part, all int) string { return fmt.Sprintf("%.3g %%", 100*ratio(part, all)) }

func middle(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
