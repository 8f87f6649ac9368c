package health

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestBackByProbeAndTrials(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.dead.Store(i.Address, true)
		w.observe(i, "r")
		time.Sleep(25 * time.Second) // two ends of its time, two failed probes
		if !i.Banned() || w.probes.Load() != 3 || len(w.told(Extended)) != 2 {
			t.Fatalf("banned %v after %d probes of a dead port, %+v", i.Banned(), w.probes.Load(), w.told(Extended))
		}
		w.dead.Clear()
		time.Sleep(11 * time.Second)
		if i.State() != Trying {
			t.Fatalf("state %v after the port answered", i.State())
		}
		if !i.Try(1, time.Second) || i.Try(2, time.Second) {
			t.Fatal("not one trial at a time")
		}
		if !i.Try(time.Second+1, time.Second) {
			t.Fatal("a trial of which nobody tells blocks for ever")
		}
		if i.Tried(1); i.Try(time.Second+2, time.Second) {
			t.Fatal("the end of the trial before has ended this one")
		}
		if i.Tried(time.Second + 1); !i.Try(time.Second+2, time.Second) {
			t.Fatal("a trial that has ended blocks the next")
		}
		w.observe(i, "..")
		if i.State() != Trying {
			t.Fatal("two successes suffice")
		}
		w.observe(i, ".")
		if i.State() != Up || len(w.told(Reopened)) != 1 {
			t.Fatalf("state %v after three successes", i.State())
		}
	})
}

func TestRelapse(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "fffffff")
		time.Sleep(12 * time.Second)
		w.observe(i, ".f")
		again := w.told(Relapsed)
		if !i.Banned() || len(again) != 1 || again[0].Duration < 18*time.Second || again[0].Duration > 22*time.Second {
			t.Fatalf("state %v, %+v after a trial failed", i.State(), again)
		}
	})
}

// Where nobody tells what came of the trials, three probes stand for them.
func TestProbesStandForUnreportedTrials(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		i := w.all[0]
		w.observe(i, "fffffff")
		time.Sleep(11*time.Second + 10*time.Second + 2*time.Second)
		synctest.Wait()
		if i.State() != Up || w.probes.Load() != 4 {
			t.Fatalf("state %v after %d probes", i.State(), w.probes.Load())
		}
	})
}

// Who leaves the list amid trials by traffic is forgotten when nobody has told of one for long.
func TestWhoLeavesAmidRareTrialsIsForgotten(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{3: 5}, 404)
		}
		time.Sleep(12 * time.Second)
		i := w.all[3]
		if i.State() != Rarely {
			t.Fatalf("state %v", i.State())
		}
		w.list(3)
		time.Sleep(time.Second)
		w.list(4)
		time.Sleep(time.Minute)
		if w.all[3] != i || i.State() != Rarely {
			t.Fatalf("state %v of who came back at once", w.all[3].State())
		}
		w.list(3)
		time.Sleep(forget)
		w.list(0)
		if w.service.Remembers() {
			t.Error("remembered for ever")
		}
	})
}

// Trials by traffic that nobody tells of don't go on for ever.
func TestRareTrialsThatNobodyTellsOfEnd(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 10 {
			w.answered(in, 5, map[int]int{3: 5}, 404)
		}
		time.Sleep(12 * time.Second)
		w.answered(in, 1, nil, 0) // a trial, too
		time.Sleep(forget)
		if state := w.all[3].State(); state != Rarely {
			t.Fatalf("state %v when the last trial is not long ago", state)
		}
		time.Sleep(forget)
		if state := w.all[3].State(); state != Up {
			t.Errorf("state %v after 10 minutes without a trial", state)
		}
	})
}
