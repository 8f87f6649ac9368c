package scenarios

import (
	"testing"
	"time"
)

// oracle knows how much it may let pass: a token bucket.
type oracle struct {
	rate, tokens float64
	last         time.Duration
}

func (o *oracle) admit(now time.Duration, _ float64) (uint32, bool) {
	o.tokens = min(o.tokens+o.rate*(now-o.last).Seconds(), max(1, o.rate/4))
	o.last = now
	if o.tokens < 1 {
		return 0, false
	}
	o.tokens--
	return 0, true
}

func (*oracle) learn(time.Duration, uint32, bool) {}

// What is wanted can be reached, and isn't by doing nothing.
func TestLoadJudges(t *testing.T) {
	for _, limit := range []int{0, queueOf} {
		l := crowd(6, 3, limit).overloaded(3)
		knows := rival{"oracle", func() throttle { return &oracle{rate: l.capacity() / float64(l.agents)} }}
		oracles, nothing := [][]*flow{{runRival(knows, l, 1)}}, [][]*flow{{runRival(rivals[0], l, 1)}}
		if f := deliversInOverload(oracles); !f.reached {
			t.Errorf("an oracle delivers %s", f.shows)
		}
		if f := recovers(overload, 10*time.Second)(oracles); !f.reached {
			t.Errorf("an oracle recovers after %s", f.shows)
		}
		if f := atLeastAsOthers(oracles, [][][]*flow{nothing}); !f.reached {
			t.Errorf("an oracle is worse than nothing: %s", f.shows)
		}
		if limit > 0 {
			continue // which protects
		}
		if f := deliversInOverload(nothing); f.reached {
			t.Errorf("doing nothing delivers %s", f.shows)
		}
		if f := recovers(overload, 10*time.Second)(nothing); f.reached || f.shows != "> 29 s" {
			t.Errorf("doing nothing recovers after %s", f.shows)
		}
		if f := atLeastAsOthers(nothing, [][][]*flow{oracles}); f.reached {
			t.Errorf("doing nothing is better than an oracle: %s", f.shows)
		}
	}
}

func TestRecovery(t *testing.T) {
	l := &load{setup: setup{instances: healthy(1), after: 60 * time.Second}, service: service{servers: 1, time: time.Second}, demand: []demand{{share: 100}}}
	f := newFlow(l, 0)
	for n := range f.waves {
		f.waves[n] = wave{offered: [2]int{100, 0}, calls: [2]int{100, 0}, served: 100}
	}
	expect := func(when string, took, dip float64) {
		t.Helper()
		gotTook, gotDip := f.recovery(10 * time.Second)
		if gotTook != took || gotDip != dip {
			t.Errorf("%s: after %g s, then %g; want %g s, %g", when, gotTook, gotDip, took, dip)
		}
	}
	expect("all well", 0, 1)
	f.waves[14].refused[0] = 3 // of 500 in 5 s
	expect("refusals in the 5th second", 5, 1)
	f.waves[30].refused[1] = 20
	expect("a later dip", 5, 0.8)
	for n := range f.waves {
		f.waves[n].served = 94
	}
	expect("clients without an answer", never, 0)
}
