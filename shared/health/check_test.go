package health

import (
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestChecks(t *testing.T) {
	check := model.Check{Interval: model.Duration(5 * time.Second), Type: "tcp"}
	inWorld(t, 4, func(p *Policy) { p.Check = &check }, func(t *testing.T, w *world) {
		w.dead.Store(addressOf(2), true)
		time.Sleep(time.Minute)
		if n := w.probes.Load(); n != 0 {
			t.Fatalf("%d checks though nobody asked", n)
		}
		w.service.Asked()
		time.Sleep(6 * time.Second)
		if !w.all[2].Banned() || w.all[0].Counts().Outcomes[OK] == 0 {
			t.Fatalf("banned %v, outcomes %v after a round of checks", w.all[2].Banned(), w.all[0].Counts().Outcomes)
		}
		time.Sleep(10 * time.Minute)
		n := w.all[0].Counts().Outcomes[OK]
		if n < 50 || n > 72 { // for 5 minutes each 5 s
			t.Errorf("%d checks of one instance in 5 minutes", n)
		}
		time.Sleep(10 * time.Minute)
		if more := w.all[0].Counts().Outcomes[OK]; more != n {
			t.Errorf("%d checks more, long after anybody asked", more-n)
		}
	})
}

// A port that answers is no trial of an instance that was banned for what it answers.
func TestChecksEndNoBanByDeviation(t *testing.T) {
	check := model.Check{Interval: model.Duration(5 * time.Second), Type: "tcp"}
	inWorld(t, 4, func(p *Policy) { p.Check = &check }, func(t *testing.T, w *world) {
		w.service.Asked()
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{1: 5}, 404)
		}
		time.Sleep(3 * time.Minute)
		if state := w.all[1].State(); state != Rarely {
			t.Fatalf("state %v by checks alone", state)
		}
		w.service.Asked()
		w.dead.Store(addressOf(1), true)
		time.Sleep(6 * time.Second)
		if state := w.all[1].State(); state != Out {
			t.Errorf("state %v though its port is dead", state)
		}
	})
}
