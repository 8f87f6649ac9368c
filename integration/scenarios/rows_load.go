package scenarios

import (
	"fmt"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// loadRow is a row whose instances queue. It is beside other comparators: the rivals.
type loadRow struct {
	key, name, wanted string
	variants          []*load
	ufcOnly           int // so many of the last variants are for UFC alone
	seeds             int
	judge             loadJudge
	beside            func(ufc [][]*flow, others [][][]*flow) finding // nil: they needn't be compared
	plots             []curve[*flow]
	open              bool // not reached yet: the table says so, and the test doesn't fail for it
}

const (
	usualLoad = 0.7 // of the capacity, before and after
	warmUp    = 30 * time.Second
	queueOf   = 128 // of each instance, where it is bounded
)

// sizes are how large the rows' services are. The quick form's are smaller, with as many requests per agent.
type sizes struct {
	quick     bool
	instances int
}

// agents returns how many there are instead of so many in the full form.
func (s sizes) agents(n int) int {
	if s.quick {
		return max(1, n*s.instances/fullSize)
	}
	return n
}

// fullSize is the instances of the full form: with 8 servers and 50 ms each, 1,600 requests/s.
const fullSize = 10

// loadRows are the whole table. Rows share variants, whose runs are made once.
func loadRows(quick bool) (all []loadRow) {
	size := sizes{instances: fullSize}
	if quick {
		size = sizes{true, 3}
	}
	all = append(all, overloads(size)...)
	all = append(all, weighted(size)...)
	all = append(all, shrinking(size)...)
	all = append(all, gone(size)...)
	all = append(all, hung(), errorsAllDay(quick), tightTimeouts())
	return append(all, manyAgents(size))
}

// crowd is so many agents, and instances of 8 servers and 50 ms with queues of a limit, under the usual load.
func crowd(agents, instances, limit int) *load {
	l := &load{
		setup:   setup{instances: healthy(instances), agents: agents, warm: warmUp, step: time.Millisecond},
		service: service{servers: 8, time: 50 * time.Millisecond, limit: limit},
		demand:  []demand{{share: usualLoad}},
		repeats: 2, pause: 100 * time.Millisecond,
	}
	l.change = l.document
	return l
}

// overloaded has a minute of demand that is so many times the capacity.
func (l *load) overloaded(times float64) *load {
	l.demand = append(l.demand, demand{0, times}, demand{overload, usualLoad})
	l.after = overload + 50*time.Second
	return l
}

var overloadTimes = []float64{1.5, 3, 10}

// times are the overloads of a row: the quick form leaves the last one out but for one row.
func (s sizes) times(agents, limit int) []float64 {
	if s.quick && (agents != 20 || limit != 0) {
		return overloadTimes[:2]
	}
	return overloadTimes
}

// crowds are the shapes of the overloads.
var crowds = []struct{ agents, limit int }{{1, 0}, {20, 0}, {200, 0}, {1, queueOf}, {20, queueOf}, {200, queueOf}}

func overloads(size sizes) (list []loadRow) {
	var ends []loadRow
	for _, c := range crowds {
		var variants []*load
		for _, times := range size.times(c.agents, c.limit) {
			variants = append(variants, size.crowd(c.agents, c.limit).overloaded(times))
		}
		key, name := naming(c.agents, c.limit, variants[0])
		r := loadRow{
			key: "overload-" + key, name: "overload of 1.5 / 3 / 10 times the capacity for a minute, " + name,
			wanted: "≥ 95 % of the capacity, ≥ 90 % once begun, steady, above the others' (queues of 128: no 2 % under)",
			seeds:  3, variants: variants, judge: deliversInOverload, beside: atLeastAsOthers,
		}
		if c.agents == 20 && c.limit == 0 {
			r.plots = append(curves(1, "3-times", "overload of 3 times the capacity, "+name), curves(2, "10-times", "overload of 10 times the capacity, "+name)...)
		}
		list = append(list, r)
		ends = append(ends, loadRow{
			key: "recovery-" + key, name: "the overload ends, " + name,
			wanted: "as before within 10 s, or 20 s with few requests per agent; no dip under 90 % after",
			seeds:  3, variants: variants, judge: recovers(overload, 10*time.Second),
		})
	}
	return append(list, ends...)
}

// crowd is one of so many agents in the full form. A single agent's service is smaller: it has the requests for it.
func (s sizes) crowd(agents, limit int) *load {
	if agents == 1 {
		return crowd(1, 3, limit)
	}
	return crowd(s.agents(agents), s.instances, limit)
}

// naming returns the key and the name of what a row of so many agents has in common.
func naming(agents, limit int, l *load) (key, name string) {
	queues, kind := "unbounded queues", "unbounded"
	if limit > 0 {
		queues, kind = fmt.Sprintf("queues of %d", limit), "bounded"
	}
	each := fmt.Sprintf("%d agents", l.agents)
	if l.agents == 1 {
		each = "1 agent"
	}
	return fmt.Sprintf("%d-%s", agents, kind), fmt.Sprintf("%s × %.3g requests/s, %s", each, l.perAgent(), queues)
}

// curves are the plots of one variant.
func curves(variant int, key, title string) []curve[*flow] {
	frame := curve[*flow]{variant: variant, title: title, from: -20 * time.Second, to: overload + 40*time.Second, step: time.Second}
	goodput, admitted := frame, frame
	goodput.key, goodput.y = key+"-goodput", "goodput, share of the capacity"
	goodput.value = func(f *flow, at, step time.Duration) float64 {
		sum := f.between(at, at+step)
		return float64(sum.allGood()) / f.load.capacity() / step.Seconds()
	}
	admitted.key, admitted.y = key+"-admitted", "share of calls admitted"
	admitted.value = func(f *flow, at, step time.Duration) float64 {
		sum := f.between(at, at+step)
		return sum.admitted()
	}
	return []curve[*flow]{goodput, admitted}
}

// Two ways of being the heavier half.
var (
	byLevel = []way{
		{caller: "vital", level: 2, class: agent.DefaultClass, heavy: true}, {caller: "spare", level: 4, class: agent.DefaultClass},
	}
	byClass = []way{{class: 6, heavy: true}, {class: 2}}
)

// weighted are overloads by two halves that differ in weight.
func weighted(size sizes) (list []loadRow) {
	for _, c := range crowds {
		if c.agents != 20 && (c.limit != 0 || size.quick) {
			continue
		}
		var variants []*load
		ways, by := byLevel, "level"
		if c.agents == 1 {
			ways, by = byClass, "class"
		}
		for _, times := range size.times(c.agents, c.limit) {
			l := size.crowd(c.agents, c.limit).overloaded(times)
			l.ways, l.after = ways, overload
			variants = append(variants, l)
		}
		key, name := naming(c.agents, c.limit, variants[0])
		r := loadRow{
			key: "weights-" + key, name: "overload of 1.5 / 3 / 10 times, half of it heavier by " + by + ", " + name,
			wanted: "the heavier half gets ≥ 90 / 95 / 95 % of its demand, or of the capacity",
			seeds:  3, variants: variants, judge: favoursTheHeavier,
			open: c.agents == 200 && c.limit == 0,
		}
		if c.limit == 0 {
			r.ufcOnly = len(variants)
		}
		list = append(list, r)
	}
	return list
}

// slower returns instances whose capacity falls to one part of so many, until a moment.
func slower(n int, parts float64, until time.Duration) []instance {
	return allWith(n, fault{ailment: slows, factor: parts, to: until})
}

func allWith(n int, f fault) []instance {
	all := healthy(n)
	for i := range all {
		all[i].faults = []fault{f}
	}
	return all
}

// shrinking are services whose capacity falls.
func shrinking(size sizes) (list []loadRow) {
	for _, limit := range []int{0, queueOf} {
		var variants []*load
		for _, parts := range []float64{2, 3, 10} {
			l := size.crowd(20, limit)
			l.instances = slower(len(l.instances), parts, overload)
			l.after = overload + 50*time.Second
			variants = append(variants, l)
		}
		key, name := naming(20, limit, variants[0])
		r := loadRow{
			key: "shrinks-" + key, name: "capacity falls to a half / a third / a tenth for a minute, " + name,
			wanted: "≥ 95 / 90 / 60 % of what is left", seeds: 3, variants: variants, judge: deliversWhatIsLeft(0.95, 0.9, 0.6),
		}
		if limit == 0 {
			r.plots = curves(1, "third", "capacity falls to a third, "+name)
		}
		list = append(list, r, loadRow{
			key: "regrows-" + key, name: "capacity is back after a half / a third / a tenth, " + name,
			wanted: "as before within 10 s, no dip under 90 % after", seeds: 3, variants: variants, judge: recovers(overload, 10*time.Second),
		})
	}
	return list
}

// gone are services that are dead for minutes.
func gone(size sizes) []loadRow {
	dead := 5 * time.Minute
	if size.quick {
		dead = 90 * time.Second
	}
	f := func(agents int, how ailment) *load {
		l := crowd(agents, 4, 0)
		l.instances = allWith(4, fault{ailment: how, to: dead})
		l.after = dead + 50*time.Second
		return l
	}
	variants := []*load{f(8, refuses), f(8, hangs), f(80, refuses)}
	name := "8 agents × 56 requests/s, refuses / hangs; 80 × 5.6, refuses"
	return []loadRow{
		{
			key: "dead", name: fmt.Sprintf("the callee is dead for %.0f s, %s", dead.Seconds(), name),
			wanted: "attempts ≤ 1 % of the calls, or 0.2 a second and agent, from 10 s on", seeds: 3, variants: variants, judge: holdsOff(dead),
		},
		{
			key: "revival", name: "the dead callee returns, " + name, wanted: "as before within 15 s, no dip under 90 % after", seeds: 3,
			variants: variants, judge: each(func(seeds []*flow) finding { return recovered(seeds, dead, 15*time.Second) }),
		},
	}
}

// hung is a fault of points, which is the bans' business. The load is 70 % of what the others can do, or 93 %.
func hung() loadRow {
	f := func(of, n int, share float64, unfused bool) *load {
		l := crowd(8, of, 0)
		for i := range n {
			l.instances[i].faults = []fault{{ailment: hangs, to: overload}}
		}
		l.demand[0].share, l.unfused = share, unfused
		l.after = overload + 20*time.Second
		return l
	}
	return loadRow{
		key: "hung", name: "1 of 4 instances hangs / 4 of 10 hang for a minute, 8 agents", wanted: "success no more than 1 % under that without a fuse",
		seeds: 3, variants: []*load{f(4, 1, 0.7, false), f(10, 4, 0.42, false), f(4, 1, 0.7, true), f(10, 4, 0.42, true)}, ufcOnly: 2,
		judge: noWorseUnfused,
	}
}

func errorsAllDay(quick bool) loadRow {
	l := crowd(1, 4, 0)
	l.demand[0].share = 20 / l.capacity()
	l.errors, l.after = 0.1, 24*time.Hour
	if quick {
		l.after = time.Hour
	}
	return loadRow{
		key: "errors", name: fmt.Sprintf("10 %% of the attempts fail at random, %.0f h at 20 requests/s", l.after.Hours()),
		wanted: "≤ 0.01 % refused", seeds: 1, variants: []*load{l}, judge: hardlyRefuses(0.0001),
	}
}

// tightTimeouts are services that take about as long as an avalanche's timeout, or longer.
func tightTimeouts() loadRow {
	f := func(takes, read time.Duration) *load {
		l := crowd(1, 4, 0)
		l.service.time = takes
		l.timeouts = &model.DefaultService(callee).Timeouts
		l.timeouts.Avalanche.Read, l.timeouts.Avalanche.Total = model.Duration(read), model.Duration(2*read)
		return l.overloaded(3)
	}
	return loadRow{
		key: "tight", name: "overload of 3 times for a minute, 1 agent, service times of 50 / 200 / 500 / 1,000 ms; 50 ms with an avalanche's timeout of 50 ms",
		wanted: "as before within 15 s of its end", seeds: 5,
		variants: []*load{
			f(50*time.Millisecond, time.Second), f(200*time.Millisecond, time.Second), f(500*time.Millisecond, time.Second),
			f(time.Second, time.Second), f(50*time.Millisecond, 50*time.Millisecond),
		},
		judge: each(func(seeds []*flow) finding { return recovered(seeds, overload, 15*time.Second) }),
	}
}

// manyAgents are agents that are too slow to measure alone.
func manyAgents(size sizes) loadRow {
	if size.quick {
		size.instances = 2
	}
	l := size.crowd(2000, 0).overloaded(3)
	l.warm = 5 * time.Minute // in which an agent sees a hundred answers
	l.after = overload
	_, name := naming(2000, 0, l)
	return loadRow{

		key: "many-agents", name: "overload of 3 times for a minute, " + name, wanted: "≥ 60 % of the capacity",
		seeds: 3, variants: []*load{l}, judge: delivers(0.6),
	}
}
