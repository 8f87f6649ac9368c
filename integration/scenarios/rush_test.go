package scenarios

import (
	"math"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// one is a lone instance with an agent that never refuses, under a demand from the onset on.
func one(s service, share float64, after time.Duration, faults ...fault) *load {
	return &load{
		setup:   setup{instances: []instance{{faults: faults}}, after: after},
		service: s,
		demand:  []demand{{}, {0, share}},
	}
}

// waits keeps how long the attempts of a guard took.
type waits struct {
	limiter
	took    []time.Duration
	results map[health.Result]int
	order   []uint64 // of the requests, as they ended
}

func (g *waits) done(now time.Duration, r *request, o outcome) {
	g.took = append(g.took, o.took)
	g.results[o.result]++
	g.order = append(g.order, r.number)
	g.limiter.done(now, r, o)
}

func watch(l *load) (*flow, *waits) {
	w := newRush(l, 1)
	g := &waits{limiter: newThrottled(rivals[0], l, 1, 0), results: map[health.Result]int{}}
	w.guards = []limiter{g}
	return w.run(func(time.Duration) {}), g
}

func (g *waits) mean() float64 {
	total := time.Duration(0)
	for _, t := range g.took {
		total += t
	}
	return total.Seconds() / float64(len(g.took))
}

// erlangC is the probability that a request has to wait in an M/M/k queue at a utilisation (Erlang 1917).
func erlangC(k int, utilisation float64) float64 {
	offered := float64(k) * utilisation
	term, sum := 1.0, 0.0
	for n := range k {
		sum += term
		term *= offered / float64(n+1)
	}
	last := term / (1 - utilisation)
	return last / (sum + last)
}

// The mean time in an M/M/k queue is 1/μ + C/(kμ − λ), in an M/D/1 one 1/μ + ρ/(2μ(1 − ρ)).
func TestQueueingTimes(t *testing.T) {
	const takes = 50 * time.Millisecond
	f := func(s service, utilisation, want float64) {
		t.Helper()
		l := one(s, utilisation, 6*time.Hour/time.Duration(s.servers))
		flow, g := watch(l)
		if got := g.mean(); math.Abs(got-want) > 0.06*want {
			t.Errorf("%+v at %g: %.4g s on average, want %.4g s", s, utilisation, got, want)
		}
		if got := flow.goodput(0, l.after); math.Abs(got-utilisation) > 0.02 {
			t.Errorf("%+v: the goodput is %.3g of the capacity, want %g", s, got, utilisation)
		}
	}
	utilisations := []float64{0.3, 0.7, 0.9}
	if raceDetector {
		utilisations = utilisations[:1]
	}
	for _, utilisation := range utilisations {
		for _, k := range []int{1, 8} {
			mu := 1 / takes.Seconds()
			wait := erlangC(k, utilisation) / (float64(k) * mu * (1 - utilisation))
			f(service{servers: k, time: takes}, utilisation, 1/mu+wait)
		}
	}
	f(service{servers: 1, time: takes, fixed: true}, 0.7, 0.05+0.7*0.05/(2*0.3))
}

func TestDeadWork(t *testing.T) {
	// Twice the capacity on an unbounded queue: the wait grows by half a second a second, so that after 10 s all that is
	// answered was given up 5 s after it came. All of it is worked off nevertheless.
	l := one(service{servers: 8, time: 50 * time.Millisecond}, 2, time.Minute)
	flow, g := watch(l)
	if sum := flow.between(0, 9*time.Second); sum.wasted > 0 || flow.goodput(0, 9*time.Second) < 0.95 {
		t.Errorf("in the first 9 s %d answers came to nobody, and the goodput was %.2f", sum.wasted, flow.goodput(0, 9*time.Second))
	}
	sum := flow.between(15*time.Second, l.after)
	if share := float64(sum.wasted) / flow.capacity(15*time.Second, l.after); sum.allGood() > 0 || math.Abs(share-1) > 0.05 {
		t.Errorf("from 15 s on %d answers came in time, and %.2f of the capacity was wasted", sum.allGood(), share)
	}
	if longest := slices.Max(g.took); longest != readTimeout {
		t.Errorf("an attempt took %s, which may take %s", longest, readTimeout)
	}
}

func TestBoundedQueue(t *testing.T) {
	// Twice the capacity on a queue of 128: it is always full, the wait is 128 of 160 a second, and half is reset.
	l := one(service{servers: 8, time: 50 * time.Millisecond, limit: 128}, 2, time.Minute)
	flow, g := watch(l)
	if goodput := flow.goodput(10*time.Second, l.after); math.Abs(goodput-1) > 0.03 {
		t.Errorf("the goodput is %.2f", goodput)
	}
	if share := ratio(g.results[health.Reset], len(g.took)); math.Abs(share-0.5) > 0.03 {
		t.Errorf("%.2f of the attempts were reset", share)
	}
	if longest := slices.Max(g.took); longest > 2*time.Second || longest < 800*time.Millisecond {
		t.Errorf("the longest attempt took %s", longest)
	}
}

func TestStationFaults(t *testing.T) {
	// One server takes 1 ms for each of 200 requests, which come every 10 ms from 5 ms on.
	f := func(limit int, ailing fault, want map[health.Result]int) {
		t.Helper()
		l := one(service{servers: 1, time: time.Millisecond, fixed: true, limit: limit}, 0, 30*time.Second, ailing)
		w := newRush(l, 1)
		g := &waits{limiter: newThrottled(rivals[0], l, 1, 0), results: map[health.Result]int{}}
		w.guards = []limiter{g}
		for n := range 200 {
			r := &request{way: &usualWays[0], number: uint64(n) * maxRepeats, born: w.onset + time.Duration(5+10*n)*time.Millisecond}
			w.queue.plan(event{at: r.born, kind: repeats, request: r})
		}
		w.run(func(time.Duration) {})
		if len(g.results) != len(want) {
			t.Errorf("%+v: %v, want %v", ailing, g.results, want)
		}
		for result, count := range want {
			if g.results[result] != count {
				t.Errorf("%+v: %v, want %v", ailing, g.results, want)
			}
		}
	}
	f(0, fault{ailment: refuses, to: time.Second}, map[health.Result]int{health.ConnectError: 100, health.OK: 100})
	f(0, fault{ailment: silent, to: time.Second}, map[health.Result]int{health.ConnectTimeout: 100, health.OK: 100})
	f(0, fault{ailment: hangs}, map[health.Result]int{health.ReadTimeout: 200})
	f(0, fault{ailment: hangs, to: time.Second}, map[health.Result]int{health.OK: 200}) // all that waited is answered at its end
	f(50, fault{ailment: hangs}, map[health.Result]int{health.ReadTimeout: 50, health.Reset: 150})
	// 20 times as slow, it is behind by 2 s at the end.
	f(0, fault{ailment: slows, factor: 20}, map[health.Result]int{health.OK: 200})
	f(50, fault{ailment: slows, factor: 20}, map[health.Result]int{health.OK: 150, health.Reset: 50})
}

// What an instance has when it dies is reset, and nobody hears of it again when it is back.
func TestDeathResets(t *testing.T) {
	l := one(service{servers: 1, time: 100 * time.Millisecond, fixed: true}, 0, 10*time.Second,
		fault{ailment: refuses, from: 250 * time.Millisecond, to: time.Second})
	w := newRush(l, 1)
	g := &waits{limiter: newThrottled(rivals[0], l, 1, 0), results: map[health.Result]int{}}
	w.guards = []limiter{g}
	for n := range 5 {
		r := &request{way: &usualWays[0], number: uint64(n) * maxRepeats, born: w.onset}
		w.queue.plan(event{at: r.born, kind: repeats, request: r})
	}
	flow := w.run(func(time.Duration) {})
	if g.results[health.OK] != 2 || g.results[health.Reset] != 3 {
		t.Errorf("of 5 requests of 100 ms, with a death after 250 ms: %v", g.results)
	}
	if sum := flow.between(0, l.after); sum.wasted != 0 {
		t.Errorf("%d answers of a dead instance", sum.wasted)
	}
}

// First come, first served.
func TestQueueIsInOrder(t *testing.T) {
	_, g := watch(one(service{servers: 1, time: 10 * time.Millisecond, fixed: true}, 0.95, time.Minute))
	if !slices.IsSorted(g.order) {
		t.Error("requests of one server were answered out of order")
	}
}

// A call that fails is repeated, twice at most, after 50 to 150 ms, and counts as one request.
func TestClientsRepeat(t *testing.T) {
	l := one(service{servers: 8, time: 50 * time.Millisecond}, 0.5, time.Minute, fault{ailment: refuses})
	l.repeats, l.pause = 2, 100*time.Millisecond
	flow, _ := watch(l)
	sum := flow.between(0, l.after-patience)
	if share := ratio(sum.allCalls(), sum.allOffered()); math.Abs(share-3) > 0.05 || sum.served != 0 {
		t.Errorf("%.2f calls a request, %d of them served", share, sum.served)
	}
	l.instances[0].faults[0].to = 30 * time.Second
	flow, _ = watch(l)
	if sum := flow.between(29*time.Second+600*time.Millisecond, 30*time.Second); sum.served == 0 {
		t.Error("no request succeeded by its repeat")
	}
}

func TestDemand(t *testing.T) {
	l := one(service{servers: 8, time: 50 * time.Millisecond, limit: 1}, 1.5, 3*time.Minute)
	l.demand = append(l.demand, demand{time.Minute, 10}, demand{2 * time.Minute, 0.25})
	l.ways = []way{{}, {heavy: true}}
	flow, _ := watch(l)
	for n, want := range []float64{1.5, 10, 0.25} {
		from := time.Duration(n) * time.Minute
		sum := flow.between(from, from+time.Minute)
		if got := float64(sum.allOffered()) / flow.capacity(from, from+time.Minute); math.Abs(got-want) > 0.05*want {
			t.Errorf("minute %d: a demand of %.2f times the capacity, want %g", n, got, want)
		}
		if share := ratio(sum.offered[1], sum.allOffered()); math.Abs(share-0.5) > 0.05 {
			t.Errorf("minute %d: %.2f are heavy", n, share)
		}
	}
}

// What a seed gives is the same again, and its traffic is the same for all guards; see TestRepeatable.
func TestRushIsRepeatable(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := crowd(4, 2, queueOf).overloaded(3)
	l.ways, l.after = byLevel, 8*time.Second
	for _, rule := range rivals {
		first := runRival(rule, l, 1)
		if again := runRival(rule, l, 1); !slices.Equal(first.waves, again.waves) {
			t.Errorf("%s: a seed gives another run the second time", rule.name)
		}
	}
	other, first, agents := runRival(rivals[0], l, 2), runRival(rivals[0], l, 1), runUFCRush(t, l, 1)
	if slices.Equal(first.waves, other.waves) {
		t.Error("two seeds give the same run")
	}
	for range 5 {
		if again := runUFCRush(t, l, 1); !slices.Equal(agents.waves, again.waves) {
			t.Fatal("a seed gives another run of the agents the second time")
		}
	}
	for n := range first.waves {
		if first.waves[n].offered != agents.waves[n].offered {
			t.Fatalf("in second %d the rival was asked for %v, the agents for %v", n, first.waves[n].offered, agents.waves[n].offered)
		}
	}
}

// weighed notes what the agent knows of its calls.
type weighed struct {
	*ufc
	waits
	seen map[way]int
}

func (g *weighed) pick(now time.Duration, r *request) int {
	chosen := g.ufc.pick(now, r)
	g.seen[way{caller: r.call.Caller, level: r.call.Level(), class: r.call.Class, heavy: r.way.heavy}]++
	return chosen
}

func (g *weighed) done(now time.Duration, r *request, o outcome) { g.waits.done(now, r, o) }

func (g *weighed) end(r *request, code int) { g.ufc.end(r, code) }

func (g *weighed) timeouts(r *request) (attempt, whole time.Duration) { return g.ufc.timeouts(r) }

// An agent gets the weight of a request as its way says, and attempts end by the timeouts in force: a read timeout, or what is
// left of the whole call's time.
func TestAgentsInARush(t *testing.T) {
	f := func(ways []way, read, total time.Duration, want []time.Duration) {
		t.Helper()
		l := one(service{servers: 1, time: time.Second}, 0.5, 30*time.Second, fault{ailment: hangs})
		l.instances = append(l.instances, l.instances[0], l.instances[0])
		l.change, l.ways = l.document, ways
		l.timeouts = &model.DefaultService(callee).Timeouts
		l.timeouts.Normal.Read, l.timeouts.Normal.Total = model.Duration(read), model.Duration(total)
		l.timeouts.Avalanche = l.timeouts.Normal // which this comes to
		g := &weighed{seen: map[way]int{}}
		synctest.Test(t, func(*testing.T) {
			w := newRush(l, 1)
			views := catalog.New(discard)
			views.Replace(1, l.records())
			a := agent.New(views, l.options(time.Now(), w.onset, 1, 0))
			defer a.Close()
			g.ufc = &ufc{agent: a}
			g.waits = waits{limiter: g.ufc, results: map[health.Result]int{}}
			w.guards = []limiter{g}
			w.run(time.Sleep)
		})
		if len(g.seen) != len(ways) {
			t.Errorf("calls of %v, want %v", g.seen, ways)
		}
		for _, w := range ways {
			if w.level == 0 {
				w.level = model.DefaultService("").Level
			}
			if g.seen[w] == 0 {
				t.Errorf("no call of %+v: %v", w, g.seen)
			}
		}
		slices.Sort(g.took)
		if took := slices.Compact(g.took); !slices.Equal(took, want) {
			t.Errorf("attempts ended after %v, want %v", took, want)
		}
	}
	f(byLevel, 2*time.Second, time.Minute, []time.Duration{2 * time.Second})
	f(byClass, 2*time.Second, 3*time.Second, []time.Duration{time.Second, 2 * time.Second})
}
