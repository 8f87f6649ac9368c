package scenarios

import (
	"fmt"
	"slices"
	"time"
)

// idcStep is the width of the bins that spillsAndReturns looks at.
const idcStep = 250 * time.Millisecond

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
		const never = 1000 // s
		text := func(list []float64) string {
			if slices.Max(list) > never {
				return "never"
			}
			return fmt.Sprintf("%.1f s", slices.Max(list))
		}
		return finding{
			fmt.Sprintf("spilled after %s, back after %s, %.0f %% in its first 5 s (the worst of each)", text(spilled), text(back), 100*slices.Max(early)),
			slices.Max(spilled) <= limit.Seconds() && slices.Max(back) < never && slices.Max(early) <= 0.5,
		}
	})
}

// firstShare returns how many seconds after from the share of attempts that go to the faulty, over a time, is first as ok
// wants it; 10⁶ if it never is until to.
func (l *ledger) firstShare(from, to, over time.Duration, ok func(float64) bool) float64 {
	for at := from; at+over <= to; at += idcStep {
		if sum := l.between(at, at+over); ok(ratio(sum.faulty, sum.attempts)) {
			return (at - from).Seconds()
		}
	}
	return 1e6
}
