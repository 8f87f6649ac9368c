package scenarios

import (
	"fmt"
	"testing"
	"time"
)

func TestScratch(t *testing.T) {
	for _, limit := range []int{0, 128} {
		for _, factor := range []float64{1.5, 3, 10} {
			l := &load{
				setup:   setup{instances: healthy(10), agents: 20, warm: 30 * time.Second, after: 150 * time.Second, step: time.Millisecond},
				service: service{servers: 8, time: 50 * time.Millisecond, limit: limit},
				demand:  []demand{{share: .7}, {0, factor}, {60 * time.Second, .7}}, repeats: 2, pause: 100 * time.Millisecond,
			}
			l.change = l.document
			for _, r := range rivals {
				at := time.Now()
				f := runRival(r, l, 1)
				sum := f.between(0, 60*time.Second)
				fmt.Println(limit, factor, r.name, f.goodput(0, 60*time.Second), sum.admitted(), sum.allCalls(), time.Since(at))
			}
			at := time.Now()
			f := runUFCRush(t, l, 1)
			sum := f.between(0, 60*time.Second)
			fmt.Println(limit, factor, "ufc", f.goodput(0, 60*time.Second), sum.admitted(), sum.allCalls(), sum.attempts, time.Since(at))
		}
	}
}
