package scenarios

import (
	"fmt"
	"time"
)

// row is one line of the table: a scenario, and what must be shown.
type row struct {
	key          string // names its test and its plot
	name, wanted string
	variants     []*setup
	ufcOnly      int // so many of the last variants are for UFC alone
	seeds        int
	shorten      int // by what the quick form divides the length
	judge        judge
	// insists is what the test holds the row to where what is wanted isn't reached, or not by each few seeds: the table says
	// so, and the test that it gets no worse. nil: what is wanted.
	insists judge
	plot    *curve[*ledger]
}

// rows are the whole table.
func rows() (all []row) {
	all = append(all, failing()...)
	all = append(all, deviating()...)
	all = append(all, healthyRows()...)
	all = append(all, atLarge()...)
	all = append(all, differing()...)
	return append(all, quiet()...)
}

func atRate(rate float64) []source { return []source{{rate: rate}} }

// untilFound ends a run once the faulty instance is banned.
func untilFound(l *ledger) bool {
	if l.given.Load() == 0 {
		return false
	}
	_, found := l.found()
	return found
}

// failing are single instances whose communication fails.
func failing() []row {
	f := func(share fault, after time.Duration) []*setup {
		return []*setup{{
			instances: oneOf(4, share), sources: atRate(20), warm: 30 * time.Second, after: after, stop: untilFound,
		}}
	}
	return []row{
		{
			key: "refuses", name: "1 of 4 instances refuses, 20 requests/s", wanted: "banned after ≤ 3 failed attempts in all",
			seeds: 200, variants: f(fault{ailment: refuses}, time.Minute), judge: withinFailures(3, 1),
		},
		{
			key: "fails-half", name: "1 of 4 fails half of its requests, 20 requests/s", wanted: "banned within 10 failed attempts in ≥ 95 %",
			seeds: 200, variants: f(fault{ailment: fails, share: 0.5}, 2*time.Minute), judge: withinFailures(10, 0.95),
			plot: &curve[*ledger]{y: "share of attempts on the faulty one", value: faultyShare,
				from: -20 * time.Second, to: 100 * time.Second, step: 4 * time.Second},
		},
	}
}

// deviating are single instances whose answers or latency deviate.
func deviating() (list []row) {
	notFound := func(n int, rate, share float64, after time.Duration) []*setup {
		warm := time.Minute
		if rate < 20 {
			warm = 15 * time.Minute // what is normal takes time to learn
		}
		return []*setup{{
			instances: oneOf(n, fault{ailment: answers, share: share, code: 404}), sources: atRate(rate), warm: warm,
			after: after, stop: untilFound, background: background{statuses: 0.01, codes: []int{404}},
		}}
	}
	for _, rate := range []float64{200, 20, 2} {
		limit := 10 * time.Second
		if rate < 20 {
			limit = time.Minute
		}
		for _, n := range []int{2, 4, 20} {
			r := row{
				key:    fmt.Sprintf("404-1-of-%d-at-%.0f", n, rate),
				name:   fmt.Sprintf("1 of %d answers 404, the others 1 %%, %.0f requests/s", n, rate),
				wanted: fmt.Sprintf("banned within %.0f s in ≥ 95 %%", limit.Seconds()),
				seeds:  200, variants: notFound(n, rate, 1, 2*limit), judge: withinTime(limit, 0.95),
			}
			if n == 20 && rate == 2 {
				// The faulty one is asked six times in the minute, give or take, and five are what certainty takes: 97 % of the seeds
				// find it in time, so that by chance 200 may show a little under 95 %.
				r.insists = withinTime(limit, 0.9)
			}
			if n == 4 && rate == 200 {
				r.plot = &curve[*ledger]{y: "share of calls with a good answer", value: successShare,
					from: -20 * time.Second, to: 100 * time.Second, step: time.Second}
			}
			list = append(list, r)
		}
	}
	list = append(list, row{
		key: "404-half", name: "1 of 4 answers 404 to half, the others 1 %, 20 requests/s", wanted: "banned within 15 s in ≥ 95 %",
		seeds: 200, variants: notFound(4, 20, 0.5, time.Minute), judge: withinTime(15*time.Second, 0.95),
	})
	return append(list, slowRow())
}

func slowRow() row {
	return row{
		key: "slow", name: "latency of 1 of 10 grows ten times, 500 requests/s", wanted: "p99 under twice normal from 15 s on, in ≥ 95 %", seeds: 50,
		variants: []*setup{{
			instances: oneOf(10, fault{ailment: slows, factor: 10}), sources: atRate(500), warm: 30 * time.Second,
			after: 25 * time.Second, sample: true,
		}},
		judge: staysQuick(15*time.Second, 2),
		plot: &curve[*ledger]{y: "99th percentile of the latency, ms", value: slowest,
			from: -20 * time.Second, to: 100 * time.Second, step: 2 * time.Second},
	}
}
