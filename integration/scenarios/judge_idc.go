package scenarios

import (
	"fmt"
	"slices"
	"time"
)

// idcStep is the width of the bins that spillsAndReturns looks at.
const idcStep = 250 * time.Millisecond

// never is what didn't happen, in seconds.
const never = 1e6

// spillsAndReturns wants the traffic to have left the faulty IDC within a time from its loss, to be back when it is healed,
// and to come slowly: in the first 5 s of its return it gets half of the traffic at most.
func spillsAndReturns(limit, healed time.Duration) judge {
	return each(func(seeds []*ledger) finding {
		var spilled, back, early []float64
		for _, l := range seeds {
			spilled = append(spilled, l.firstShare(0, healed, 2*time.Second, func(share float64) bool { return share < 0.05 }))
			back = append(back, l.firstShare(healed, l.setup.after, time.Second, func(share float64) bool { return share > 0.9 }))
			begins := l.firstShare(healed, l.setup.after, time.Second, func(share float64) bool { return share > 0.05 })
			first := healed + time.Duration(begins*float64(time.Second))
			sum := l.between(first, first+5*time.Second)
			early = append(early, ratio(sum.faulty, sum.attempts))
		}
		return finding{
			worst(spilled, back, early),
			slices.Max(spilled) <= limit.Seconds() && slices.Max(back) < never && slices.Max(early) <= 0.5,
		}
	})
}

// worst tells the worst of all seeds.
func worst(spilled, back, early []float64) string {
	if slices.Max(spilled) >= never {
		return "never spilled"
	}
	text := fmt.Sprintf("spilled after %.1f s", slices.Max(spilled))
	if slices.Max(back) >= never {
		return text + ", never back"
	}
	return text + fmt.Sprintf(", back after %.1f s, %.0f %% in its first 5 s (the worst of each)", slices.Max(back), 100*slices.Max(early))
}

// firstShare returns how many seconds after from the share of attempts that go to the faulty, over a time, is first as ok
// wants it; never if it isn't until to.
func (l *ledger) firstShare(from, to, over time.Duration, ok func(float64) bool) float64 {
	for at := from; at+over <= to; at += idcStep {
		if sum := l.between(at, at+over); ok(ratio(sum.faulty, sum.attempts)) {
			return (at - from).Seconds()
		}
	}
	return never
}
