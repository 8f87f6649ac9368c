package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// answered makes a second of traffic: each instance so many answers, of which some have the status.
func (w *world) answered(in *Stratum, each int, bad map[int]int, code uint16) {
	for n, i := range w.all {
		w.answers(in, i, code, time.Millisecond, bad[n])
		w.answers(in, i, 200, time.Millisecond, each-bad[n])
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestStatusDeviation(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 30 {
			w.answered(in, 5, nil, 404)
		}
		for range 4 {
			w.answered(in, 5, map[int]int{1: 5}, 404)
		}
		bans := w.told(Banned)
		if len(bans) != 1 || bans[0].Instance != addressOf(1) || bans[0].Reason != ByStatus {
			t.Fatalf("one of four answers 404 and the others don't: %+v", bans)
		}
		if bans[0].Inputs["share"] < leastPoints || bans[0].Value >= bans[0].Threshold || bans[0].Rule == "" || bans[0].Needed == "" {
			t.Errorf("%+v doesn't say why", bans[0])
		}
	})
}

func TestNoStatusDeviation(t *testing.T) {
	f := func(what string, size int, change func(*Policy), bad map[int]int) {
		t.Helper()
		inWorld(t, size, change, func(t *testing.T, w *world) {
			in := NewStratum("caller web")
			for range 90 {
				w.answered(in, 10, bad, 404)
			}
			if bans := w.told(Banned); len(bans) != 0 {
				t.Errorf("%s: %+v", what, bans)
			}
		})
	}
	f("nobody answers 404", 4, nil, nil)
	f("all answer 404", 4, nil, map[int]int{0: 10, 1: 10, 2: 10, 3: 10})
	f("one has 10 points more", 4, nil, map[int]int{0: 1, 1: 2, 2: 1, 3: 1})
	f("20 points more, and not 3 times the odds", 4, nil, map[int]int{0: 5, 1: 7, 2: 5, 3: 5})
	f("half of them: it is the service", 10, nil, map[int]int{0: 9, 1: 9, 2: 9, 3: 9, 4: 9})
	f("alone", 1, nil, map[int]int{0: 10})
	f("consistent hash: what is asked differs", 4, func(p *Policy) { p.Hashes = true }, map[int]int{1: 10})
	f("switched off", 4, func(p *Policy) { p.Deviation.Status = false }, map[int]int{1: 10})
}

// Where the policy hashes, one user's errors aren't the instance's; many users' are, also those of a busy instance, of which more
// users get errors than are remembered.
func TestOneUsersErrorsAreNotTheInstances(t *testing.T) {
	f := func(rate, seconds, users uint64, banned int) {
		t.Helper()
		inWorld(t, 4, func(p *Policy) { p.Hashes = true }, func(t *testing.T, w *world) {
			in := NewStratum("caller web")
			time.Sleep(time.Second / 2)
			for second := range seconds {
				w.answered(in, int(rate), nil, 0)
				i := w.all[1]
				for n := range rate {
					w.service.Record(0, &Observation{
						Instance: i, Slot: i.Slot(), Stratum: in, Generation: i.Generation(), Code: 500, Key: 1 + (rate*second+n)%users,
					})
				}
			}
			if bans := w.told(Banned); len(bans) != banned {
				t.Errorf("%d users get 500 of one instance, %d times a second: %d bans, not %d", users, rate, len(bans), banned)
			}
		})
	}
	f(5, 60, 1, 0)
	f(5, 60, 100, 1)
	f(500, 20, 1, 0)
	f(500, 20, 10, 0)
	f(500, 20, 10_000, 1)
}

func TestStrataAreApart(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		asks, probes := NewStratum("caller web"), NewStratum("caller scanner")
		for range 60 { // the scanner asks one instance only, and for what isn't there
			w.answered(asks, 5, nil, 404)
			w.answers(probes, w.all[1], 404, time.Millisecond, 5)
		}
		if bans := w.told(Banned); len(bans) != 0 {
			t.Errorf("%+v", bans)
		}
	})
}

func TestServiceFaultByStatus(t *testing.T) {
	inWorld(t, 10, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 20 {
			w.answered(in, 20, map[int]int{0: 20, 1: 20, 2: 20, 3: 20}, 503)
		}
		if bans, faults := w.told(Banned), w.told(Fault); len(bans) != 0 || len(faults) != 1 {
			t.Errorf("4 of 10 deviate, the cap is 3: %d bans, %d service faults", len(bans), len(faults))
		}
	})
}

func TestErrorsThatMoveAreTheRequests(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 30 {
			w.answered(in, 5, nil, 500)
		}
		for range 5 {
			w.answered(in, 5, map[int]int{1: 5}, 500)
		}
		if !w.all[1].Banned() {
			t.Fatal("not banned")
		}
		for range 8 { // the same requests go to another instance now
			w.answered(in, 5, map[int]int{2: 5}, 500)
		}
		if w.all[1].State() != Up || w.all[2].State() != Up || len(w.told(Lifted)) != 1 {
			t.Errorf("states %v and %v: it was the requests", w.all[1].State(), w.all[2].State())
		}
	})
}

func TestDeviationEndsByTrials(t *testing.T) {
	f := func(code uint16, trials int, state State) {
		t.Helper()
		inWorld(t, 4, nil, func(t *testing.T, w *world) {
			in := NewStratum("caller web")
			for range 10 {
				w.answered(in, 5, map[int]int{1: 5}, 404)
			}
			i := w.all[1]
			for range 8 {
				time.Sleep(time.Second)
				for _, other := range w.all {
					if other != i {
						w.answers(in, other, 200, time.Millisecond, 5)
					}
				}
			}
			if synctest.Wait(); i.State() != Rarely {
				t.Fatalf("state %v after its ban", i.State())
			}
			w.answers(in, i, code, time.Millisecond, trials)
			if i.State() != state {
				t.Errorf("state %v after %d trials with %d, not %v", i.State(), trials, code, state)
			}
		})
	}
	f(200, 19, Rarely)
	f(200, 20, Up)
	f(404, 12, Out)
}

func TestLatencyDeviation(t *testing.T) {
	f := func(what string, slow time.Duration, change func(*world), slowed, banned int) {
		t.Helper()
		inWorld(t, 10, nil, func(t *testing.T, w *world) {
			if change != nil {
				change(w)
			}
			in := NewStratum("caller web")
			for range 15 {
				for n, i := range w.all {
					latency := 20 * time.Millisecond
					if n == 1 {
						latency = slow
					}
					w.answers(in, i, 200, latency, 5)
					w.answers(in, i, 200, latency*3/2, 5)
				}
				time.Sleep(time.Second)
				synctest.Wait()
			}
			if len(w.told(Banned)) != banned || (len(w.told(Slowed)) > 0) != (slowed > 0) {
				t.Errorf("%s: %d bans, %d times slowed", what, len(w.told(Banned)), len(w.told(Slowed)))
			}
		})
	}
	f("ten times slower", 200*time.Millisecond, nil, 1, 1)
	f("twice as slow", 40*time.Millisecond, nil, 0, 0)
	f("elsewhere", 200*time.Millisecond, func(w *world) {
		members := make([]Member, len(w.all))
		for n := range members {
			members[n] = Member{Address: addressOf(n), Serving: true, IDC: "north"}
		}
		members[1].IDC = "south"
		w.service.Retain(members, nil)
	}, 0, 0)
	f("switched off", 200*time.Millisecond, func(w *world) {
		w.service.SetPolicy(policyOf(func(p *Policy) { p.Deviation = model.DeviationBan{Status: true, Interval: p.Deviation.Interval} }))
	}, 0, 0)
}

func TestExplain(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, nil, 404)
		}
		w.observe(w.all[0], "ff")
		e := w.all[0].Explain()
		if e.State != "up" || e.Sequential.Needed != 5 || e.Group != (GroupState{"", 4, 4, 0, 1, false}) || e.NextBan != 10 {
			t.Errorf("%+v", e)
		}
		if len(e.Deviation) != 1 || e.Deviation[0].Outcomes != 50 || e.Deviation[0].Others != 150 || e.Deviation[0].ErrorsRequired < 11 {
			t.Errorf("%+v", e.Deviation)
		}
	})
}

// A caller that was silent for long is judged again when it comes back.
func TestSilentStrataAreJudgedAgain(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in, other := NewStratum("caller web"), NewStratum("caller cron")
		for range 20 {
			w.answered(in, 5, nil, 404)
		}
		for range 15 * 60 {
			w.answers(other, w.all[0], 200, time.Millisecond, 1)
			time.Sleep(time.Second)
		}
		for range 6 {
			w.answered(in, 5, map[int]int{1: 5}, 404)
		}
		if bans := w.told(Banned); len(bans) != 1 {
			t.Errorf("%d bans of an instance that answers 404, after 15 minutes of silence", len(bans))
		}
		if n := w.all[0].Counts().Outcomes[OK]; n != 20*5+15*60+6*5 {
			t.Errorf("%d outcomes were counted", n)
		}
	})
}

// When thousands deviate the judge must not compare each with each, over and over, while requests wait for him.
func TestManyThatDeviateAreJudgedAtOnce(t *testing.T) {
	inWorld(t, 4000, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for n, i := range w.all {
			code := uint16(200)
			if n%2 == 0 {
				code = 503
			}
			w.answers(in, i, code, time.Millisecond, 40)
		}
		w.service.CatchUp()
		w.service.mu.Lock()
		all, total := w.service.samples(in, w.now())
		tests := 0
		found := worst(all, total, w.service.most(), func(one, rest *sample) (finding, bool) {
			tests++
			return finding{p: 0.5}, one.windows[0].bad[serverErrors] > 0
		})
		w.service.mu.Unlock()
		if len(found) != 2000 || tests != 4000 {
			t.Errorf("%d findings, %d tests", len(found), tests)
		}
	})
}

// Nor when nearly as many deviate as may be banned, all of which have to be found.
func TestManyThatMayBeBannedAreFoundInFewRounds(t *testing.T) {
	inWorld(t, 4000, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for n, i := range w.all {
			bad := 0
			if n%4 == 0 {
				bad = 15 + n%20
			}
			w.answers(in, i, 503, time.Millisecond, bad)
			w.answers(in, i, 200, time.Millisecond, 40-bad)
		}
		w.service.CatchUp()
		w.service.mu.Lock()
		all, total := w.service.samples(in, w.now())
		tests := 0
		found := worst(all, total, w.service.most(), func(one, rest *sample) (finding, bool) {
			tests++
			return deviates(one, rest, serverErrors, 4000)
		})
		w.service.mu.Unlock()
		if len(found) != 1000 || tests > 100*4000 {
			t.Errorf("%d findings of 1,000, %d tests of 4,000 instances", len(found), tests)
		}
		if first := found[0].windows[0].bad[serverErrors]; first != 31 {
			t.Errorf("the first found has %d errors of 40, the worst 31", first)
		}
	})
}

// Who is alone deviates from nobody: were the last one left banned again and again, its callee would be in panic for ever.
func TestTrialsWithoutOthersDontDeviate(t *testing.T) {
	inWorld(t, 2, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 10, map[int]int{1: 10}, 404)
		}
		time.Sleep(12 * time.Second)
		i := w.all[1]
		if i.State() != Rarely {
			t.Fatalf("state %v", i.State())
		}
		w.service.Retain([]Member{{Address: i.Address, Serving: true}}, nil)
		w.answers(in, i, 404, time.Millisecond, 20)
		if i.State() != Up {
			t.Errorf("state %v, and nobody else is there: %+v", i.State(), w.told(Relapsed))
		}
	})
}
