package scenarios

import (
	"fmt"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

var errorShares = []float64{0.01, 0.05, 0.10, 0.20}

// healthyRows are services with nothing wrong but errors in common.
func healthyRows() (list []row) {
	for _, busy := range []bool{true, false} {
		for _, statuses := range []bool{false, true} {
			for _, bursts := range []bool{false, true} {
				list = append(list, healthyRow(busy, statuses, bursts))
			}
		}
	}
	return list
}

func healthyRow(busy, statuses, bursts bool) row {
	rate, length, step, span := 5.0, 24*time.Hour, time.Duration(0), "24 h"
	if busy {
		rate, length, step, span = 1000, time.Hour, time.Millisecond, "1 h"
	}
	kind, form := "failures", "steady"
	if statuses {
		kind = "404s and 5xx"
	}
	if bursts {
		form = "half of them in bursts"
	}
	r := row{
		key:    strings.ReplaceAll(fmt.Sprintf("healthy-%.0f-%s-%s", rate, strings.Fields(kind)[0], strings.Fields(form)[0]), "half", "bursts"),
		name:   fmt.Sprintf("healthy, 20 instances, %s at %.0f requests/s; 1 / 5 / 10 / 20 %% %s, %s", span, rate, kind, form),
		wanted: "no ban", seeds: 1, shorten: 30, judge: nobodyBanned,
	}
	for _, share := range errorShares {
		s := &setup{
			instances: healthy(20), sources: atRate(rate), after: length, step: step, bin: time.Minute,
			background: background{failures: share, bursts: bursts},
		}
		if statuses {
			s.background = background{statuses: share, codes: []int{404, 500, 503}, bursts: bursts}
		}
		r.variants = append(r.variants, s)
	}
	if busy && !statuses && bursts {
		r.plot = &curve[*ledger]{y: "bans so far, at 5 % failures", value: bansSoFar, variant: 1, log: true,
			from: 0, to: time.Hour, step: time.Minute}
	}
	return r
}

// quiet are rows with little traffic.
func quiet() []row {
	f := func(ailing fault) []*setup {
		return []*setup{{
			instances: oneOf(50, ailing), sources: atRate(1), warm: 5 * time.Minute, after: 2 * time.Hour, stop: untilFound,
		}}
	}
	return []row{
		{
			key: "quiet-refuses", name: "1 request/s over 50 instances, 1 refuses", wanted: "banned after ≤ 3 failed attempts in all",
			seeds: 200, variants: f(fault{ailment: refuses}), judge: withinFailures(3, 1),
		},
		{
			key: "quiet-hangs", name: "1 request/s over 50 instances, 1 hangs", wanted: "banned within 10 failed attempts in ≥ 95 %",
			seeds: 200, variants: f(fault{ailment: hangs}), judge: withinFailures(10, 0.95),
		},
		{
			key: "quiet-healthy", name: "1 request/s of each of 10 agents over 50 healthy instances, 24 h, 1 % failures and 1 % 404s and 5xx", wanted: "no ban",
			seeds: 1, shorten: 30, judge: nobodyBanned,
			variants: []*setup{{
				instances: healthy(50), agents: 10, sources: atRate(1), after: 24 * time.Hour, bin: time.Minute,
				background: background{failures: 0.01, statuses: 0.01, codes: []int{404, 500, 503}},
			}},
		},
	}
}

// differing are instances and requests that differ, and nothing is wrong with the instances.
func differing() []row {
	usual := background{failures: 0.005, statuses: 0.01, codes: []int{404, 500}}
	base := setup{sources: atRate(200), after: 20 * time.Minute, bin: time.Minute, background: usual}
	f := func(key, name string, s ...*setup) row {
		return row{key: key, name: name, wanted: "no ban", seeds: 10, shorten: 4, judge: nobodyBanned, variants: s}
	}
	remote := base
	remote.idc, remote.topology = "north-1", twoIDCs(50, 50)
	remote.instances, remote.groups = inTwoIDCs(5, fault{}, false), halves(5, 50, 50)
	for n := 5; n < 10; n++ {
		remote.instances[n].median = 3 * usualMedian
	}
	return []row{
		f("remote-idc", "half of the traffic goes to a remote IDC, 3 times slower by nature", &remote),
		f("gray-version", "2 of 10 instances are a gray version that answers 404 to 30 % of its tenth of the requests", gray(base)),
		f("loud-user", "consistent hash: one user in turn has 10 requests/s answered with 404 / 500, for a minute", loudUsers(base, 404), loudUsers(base, 500)),
	}
}

func gray(s setup) *setup {
	s.instances, s.groups = healthy(10), halves(8, 90, 10)
	s.groups[1].members = []int{8, 9}
	for n := range s.instances {
		s.instances[n].labels = map[string]string{"version": "v1"}
		if n >= 8 {
			s.instances[n].labels = map[string]string{"version": "v2"}
			s.instances[n].answered = answered{0.3, 404}
		}
	}
	s.change = func(service *model.Service) {
		service.Routes = []model.Route{{Split: []model.Split{
			{Labels: map[string]string{"version": "v1"}, Weight: 90}, {Labels: map[string]string{"version": "v2"}, Weight: 10},
		}}}
	}
	return &s
}

func loudUsers(s setup, code int) *setup {
	s.instances = healthy(10)
	s.sources = []source{{rate: 100, users: 5000}}
	for n := range 8 {
		from := time.Duration(2*n+1) * time.Minute
		s.sources = append(s.sources, source{rate: 10, user: fmt.Sprintf("loud-%d", n), from: from, to: from + time.Minute, code: code})
	}
	s.change = func(service *model.Service) {
		service.Balance = model.Balance{Policy: model.ConsistentHash, Hash: "header:X-Uid"}
	}
	return &s
}
