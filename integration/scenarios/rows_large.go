package scenarios

import (
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// atLarge are faults of more than one instance, and of one that comes and goes.
func atLarge() []row {
	list := []row{
		blipRow("blip-300ms", "0.3 s", 300*time.Millisecond), blipRow("blip-3s", "3 s", 3*time.Second),
		dieRow("killed", "40 % of 20 instances are killed at once", refuses),
		dieRow("vanished", "40 % of 20 instances vanish at once, machines and all", silent),
		flapRow("flapping", "1 of 4 flaps: 20 s up, 20 s refusing, 1 h", fault{ailment: refuses}),
		flapRow("flapping-open", "1 of 4 flaps: 20 s up, 20 s failing with its port open, 1 h", fault{ailment: fails, share: 1}),
		idcRow("idc-refuses", "an IDC's 10 instances refuse for a minute", refuses),
		idcRow("idc-vanishes", "an IDC's 10 instances vanish for a minute", silent),
	}
	return list
}

func blipRow(key, name string, length time.Duration) row {
	r := row{
		key:    key,
		name:   "the network loses everything for " + name + ", 20 instances, 20 / 200 / 1,000 requests/s",
		wanted: "no ban by suspicion", seeds: 50, judge: nobodySuspected,
	}
	for _, rate := range []float64{20, 200, 1000} {
		r.variants = append(r.variants, &setup{
			instances: healthy(20), sources: atRate(rate), warm: 30 * time.Second, after: 15 * time.Second, blip: length,
			background: background{failures: 0.005},
		})
	}
	return r
}

func dieRow(key, name string, how ailment) row {
	all := healthy(20)
	for n := range 8 {
		all[n].faults = []fault{{ailment: how}}
	}
	return row{
		key: key, name: name + ", 200 requests/s", wanted: "≥ 95 % success in the first minute, no empty answer, ≤ 6 suspects banned",
		seeds: 20, judge: keepsServing(0.95, 6),
		variants: []*setup{{instances: all, sources: atRate(200), warm: 30 * time.Second, after: time.Minute}},
		plot: &curve[*ledger]{y: "share of calls with a good answer", value: successShare,
			from: -10 * time.Second, to: time.Minute, step: time.Second},
	}
}

func flapRow(key, name string, f fault) row {
	f.down, f.up = 20*time.Second, 20*time.Second
	doubling := &setup{instances: oneOf(4, f), sources: atRate(20), warm: 30 * time.Second, after: time.Hour}
	fixed := *doubling
	fixed.change = func(s *model.Service) { s.Ban.MaxDuration = s.Ban.Duration }
	return row{
		key: key, name: name, wanted: "failures ≤ 0.1 of those with bans of a fixed length", seeds: 20, judge: converges(0.1),
		insists:  converges(0.14), // of two seeds, which the quick form has, one ban more or less is 0.01
		variants: []*setup{doubling, &fixed}, ufcOnly: 1,
		plot: &curve[*ledger]{y: "failed attempts so far", value: failuresSoFar, log: true,
			from: 0, to: time.Hour, step: 20 * time.Second},
	}
}

func idcRow(key, name string, how ailment) row {
	const healed = time.Minute
	return row{
		key: key, name: name + ", 200 requests/s", wanted: "spilled within 2 s, back, half of the traffic at most in the first 5 s",
		seeds: 20, judge: spillsAndReturns(2*time.Second, healed),
		variants: []*setup{{
			instances: inTwoIDCs(10, fault{ailment: how, to: healed}, true), groups: halves(10, 100, 0), topology: twoIDCs(100, 0),
			idc: "north-1", sources: atRate(200), warm: 30 * time.Second, after: healed + 3*time.Minute, bin: idcStep,
		}},
		plot: &curve[*ledger]{y: "share of attempts on the IDC", value: faultyShare,
			from: -10 * time.Second, to: 3 * time.Minute, step: time.Second},
	}
}

// inTwoIDCs returns n instances in each of two IDCs, those of the first with the fault if faulty.
func inTwoIDCs(n int, f fault, faulty bool) []instance {
	all := healthy(2 * n)
	for i := range all {
		all[i].idc = "south-1"
		if i < n {
			all[i].idc = "north-1"
			if faulty {
				all[i].faults = []fault{f}
			}
		}
	}
	return all
}

// twoIDCs is a topology whose north sends so much of its traffic to itself, and to the south.
func twoIDCs(north, south int) *model.Topology {
	return &model.Topology{
		IDCs:   map[string]model.IDC{"north-1": {Logical: "north"}, "south-1": {Logical: "south"}},
		Routes: map[string][]model.IDCWeight{"north": {{To: "north", Weight: north}, {To: "south", Weight: south}}},
	}
}

// halves returns two groups, of the first n instances and of as many after them.
func halves(n int, first, second float64) []group {
	groups := []group{{weight: first}, {weight: second}}
	for i := range n {
		groups[0].members = append(groups[0].members, i)
		groups[1].members = append(groups[1].members, n+i)
	}
	return groups
}
