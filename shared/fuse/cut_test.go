package fuse

import (
	"math"
	"testing"
	"time"
)

// told is what a request was told.
type told struct {
	at       time.Duration
	weight   int
	cut      int // then
	admitted bool
}

// weighed runs an overload by requests of several weights, and returns what each was told once the cut was known.
func weighed(t *testing.T, overload float64, seed uint64, weights ...int) []told {
	w := newWorld(t, 1, seed, policy())
	q := newQueue(10, usualLatency)
	w.serve = w.through(q)
	w.ask(0.7*q.capacity(), 20*time.Second, w.anyOf(weights...))
	var all []told
	w.seen = func(weight int, v Verdict) {
		c := &w.fuse.cut
		if !w.fuse.active.Load() || c.learning {
			if !w.fuse.active.Load() {
				all = append(all, told{at: -1}) // what comes is another avalanche
			}
			return
		}
		all = append(all, told{w.now, weight, c.weight, v.Admitted})
		if weight > c.weight && !v.Admitted || weight < c.weight && v.Admitted {
			t.Errorf("a weight of %d, at a cut of %d: admitted is %v", weight, c.weight, v.Admitted)
		}
		if v.Degrade > 0 && (!v.Admitted || weight > c.mark) || v.Admitted && weight <= c.mark && v.Degrade == 0 {
			t.Errorf("a weight of %d is told to degrade by %d, of marks up to %d", weight, v.Degrade, c.mark)
		}
	}
	w.ask(overload*q.capacity(), 30*time.Second, w.anyOf(weights...))
	return all
}

var (
	mixed  = []int{10, 25, 40, 55, 70, 85, 100, MaxWeight}
	skewed = []int{20, 20, 20, 20, 20, 60, 60, 100}
)

// "settled is how long the order by weight must hold: who is heavier isn't refused while a lighter one passes within it": at any
// moment those heavier than the cut pass and those lighter don't, and who was refused sees none lighter pass for settled. Those that
// weigh as much as the cut are told apart by the moment, and until it is known all do.
func TestNoLighterOnePassesAfterAHeavierOneIsRefused(t *testing.T) {
	for seed := range uint64(4) {
		for _, overload := range []float64{1.3, 2, 4, 10} {
			for _, weights := range [][]int{mixed, skewed, {50}} {
				var refused [MaxWeight + 1]time.Duration // when each weight last was
				wrong := 0
				for _, one := range weighed(t, overload, seed, weights...) {
					if one.at < 0 {
						clear(refused[:])
						continue
					}
					if !one.admitted {
						refused[one.weight] = one.at
						continue
					}
					for heavier := one.weight + 1; heavier <= MaxWeight; heavier++ {
						if refused[heavier] > 0 && one.at-refused[heavier] < settled {
							if wrong++; wrong == 1 {
								t.Errorf("seed %d, %v times, at %v: %d passes, at a cut of %d, %v after %d was refused", seed, overload, one.at,
									one.weight, one.cut, one.at-refused[heavier], heavier)
							}
						}
					}
				}
				if wrong > 1 {
					t.Errorf("and %d more", wrong-1)
				}
			}
		}
	}
}

// The same the other way round isn't so: when the cut is raised, those under the new one, and some at it, are refused right after a
// lighter one has passed. It has to be rare.
func TestHeavierOnesAreSeldomRefusedAfterALighterOnePasses(t *testing.T) {
	for seed := range uint64(2) {
		for _, overload := range []float64{1.3, 2, 4, 10} {
			var passed [MaxWeight + 1]told // the last of each weight
			n, late := 0, 0
			for _, one := range weighed(t, overload, seed, mixed...) {
				if n++; one.at < 0 {
					clear(passed[:])
					continue
				}
				if one.admitted {
					passed[one.weight] = one
					continue
				}
				for _, lighter := range passed[:one.weight] {
					if lighter.at > 0 && one.at-lighter.at < settled {
						if late++; one.cut <= lighter.cut {
							t.Errorf("at %v %d is refused, at a cut of %d, after %d has passed at one of %d", one.at, one.weight, one.cut,
								lighter.weight, lighter.cut)
						}
						break
					}
				}
			}
			if late > n/10 {
				t.Errorf("seed %d, %v times: %d of %d are refused right after a lighter one has passed", seed, overload, late, n)
			}
		}
	}
}

// Only those at the cut and the next ones over it are told to leave out optional work: as few as make up a quarter of what is
// admitted.
func TestDegradeOnlyAtTheCut(t *testing.T) {
	w := newWorld(t, 1, 11, policy())
	q := newQueue(10, usualLatency)
	w.serve = w.through(q)
	weight := w.anyOf(mixed...)
	w.ask(0.7*q.capacity(), 20*time.Second, weight)
	marked, free := 0, 0
	w.ask(2*q.capacity(), 10*time.Second, weight)
	w.seen = func(weight int, v Verdict) {
		switch {
		case !v.Admitted:
		case v.Degrade > 0:
			marked++
		default:
			free++
		}
		if v.Degrade < 0 || v.Degrade > 3 {
			t.Fatalf("degrade by %d", v.Degrade)
		}
	}
	w.ask(2*q.capacity(), 20*time.Second, weight)
	if share := float64(marked) / float64(marked+free); share < 0.15 || share > 0.45 {
		t.Errorf("%v of those that pass are marked: %d, %d aren't", share, marked, free)
	}
}

// Degrade is the higher the less is admitted: 1 from two thirds on, 2 from a third on, else 3.
func TestDegradeGoesByShare(t *testing.T) {
	f := func(share float64, want int) {
		t.Helper()
		fuse := burning(time.Hour, 100, usualLatency)
		fuse.cut.arrivedLately, fuse.cut.admittedLately = 1e6, share*1e6
		if v := fuse.Admit(time.Hour, usually); v != (Verdict{true, want}) {
			t.Errorf("a share of %v: %+v", share, v)
		}
	}
	f(1, 1)
	f(0.7, 1)
	f(0.6, 2)
	f(0.34, 2)
	f(0.3, 3)
	f(0, 3)
}

// The cut is the weight up to which, from the heaviest down, there are as many arrivals per second as the target.
func TestCutOfTarget(t *testing.T) {
	a := newCut().arrivals
	a.turn(time.Hour)
	for _, weight := range mixed {
		a.add(weight, 100)
	}
	a.turn(time.Hour + time.Second)
	rate := a.total * a.scale()
	each := rate / float64(len(mixed))
	for n := range mixed {
		target := (float64(n) + 0.5) * each
		if got, want := a.of(target), mixed[len(mixed)-1-n]; got != want {
			t.Errorf("a target of %v of the arrivals: a cut of %d, not %d", target/each, got, want)
		}
	}
	if got := a.of(2 * rate); got != 0 {
		t.Errorf("all fit: a cut of %d", got)
	}
	if math.Abs(rate/float64(100*len(mixed))-1) > 0.1 {
		t.Errorf("%v arrivals a second of %d in one", rate, 100*len(mixed))
	}
}

// A request of any weight is no reason to fail.
func TestOddWeights(t *testing.T) {
	f := burning(time.Hour, 100, usualLatency)
	f.Admit(time.Hour, -5)
	f.Admit(time.Hour, MaxWeight+100)
}
