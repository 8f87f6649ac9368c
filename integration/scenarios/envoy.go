package scenarios

import (
	"math"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// comparator is a published rule of others.
type comparator struct {
	name    string
	inARow  int  // failures in a row that eject; 0: never
	success bool // eject by success share
	bad     int  // the least status that is an error. Envoy's is 500
}

var (
	unprotected = comparator{name: "no protection"}
	consecutive = comparator{name: "5 in a row", inARow: 5, bad: 500}
	successRate = comparator{name: "success rate", success: true, bad: 500}
	// successRate4xx is what Envoy can't be set to: it counts the statuses of this proving ground's faults.
	successRate4xx = comparator{name: "success rate, 4xx too", success: true, bad: 400}
	comparators    = []comparator{unprotected, consecutive, successRate, successRate4xx}
)

// Envoy's outlier detection: the defaults of its documentation.
const (
	interval        = 10 * time.Second // between looks at success shares, and at who may return
	ejectionTime    = 30 * time.Second // times how often in a row
	maxEjectionTime = 300 * time.Second
	maxEjected      = 0.1 // of the hosts, but at least one
	minimumHosts    = 5   // with minimumRequests, for success shares to be compared
	minimumRequests = 100
	deviations      = 1.9
)

// Reasons of comparators.
const (
	byRow   health.Reason = "in_a_row"
	bySigma health.Reason = "success_rate"
)

// host is an instance as a comparator sees it.
type host struct {
	ejected    bool
	until      time.Duration
	times      int // ejected, less the intervals of health since
	inARow     int
	good, seen int // in this interval
}

// ejector chooses by round robin among the hosts that aren't ejected. Its retries follow UFC's rules, so that only the
// rules that ban differ: two more at most, on other hosts, by a budget of a tenth that refused connections don't use.
type ejector struct {
	comparator
	number int // of the agent
	ledger *ledger
	hosts  []host
	groups []group
	turns  []int // by group
	sweeps time.Duration
	tokens float64
}

const (
	retries      = 2
	retryBudget  = 0.1
	retryDeposit = 10
)

func newEjector(rule comparator, number int, s *setup, l *ledger) *ejector {
	e := &ejector{comparator: rule, number: number, ledger: l, hosts: make([]host, len(s.instances)), sweeps: interval,
		groups: s.groups, tokens: retryDeposit}
	if e.groups == nil {
		all := group{weight: 1}
		for n := range s.instances {
			all.members = append(all.members, n)
		}
		e.groups = []group{all}
	}
	e.turns = make([]int, len(e.groups))
	return e
}

// runComparator runs a setup with a rule of others.
func runComparator(rule comparator, s *setup, seed uint64) *ledger {
	w := newWorld(s, seed)
	w.spares = true
	for n := range max(s.agents, 1) {
		w.guards = append(w.guards, newEjector(rule, n, s, w.ledger))
	}
	return w.run(func(time.Duration) {})
}

func (e *ejector) pick(now time.Duration, r *request) int {
	e.sweep(now)
	tried := r.tried[:r.attempts]
	if r.attempts == 0 {
		e.tokens = min(e.tokens+retryBudget, retryDeposit)
	} else if r.attempts > retries {
		return -1
	} else if r.outcome.result != health.ConnectError {
		if e.tokens < 1 {
			return -1
		}
		e.tokens--
	}
	first := e.groupOf(r.group)
	for _, ejectedToo := range []bool{false, true} {
		for n := range e.groups {
			if chosen := e.inTurn((first+n)%len(e.groups), tried, ejectedToo); chosen >= 0 {
				return chosen
			}
		}
	}
	return -1
}

// groupOf returns the group whose turn a random number is.
func (e *ejector) groupOf(random float64) int {
	total := 0.0
	for _, g := range e.groups {
		total += g.weight
	}
	for n, g := range e.groups {
		if random -= g.weight / total; random < 0 {
			return n
		}
	}
	return 0
}

func (e *ejector) inTurn(from int, tried []int, ejectedToo bool) int {
	members := e.groups[from].members
	for n := range members {
		chosen := members[(e.turns[from]+n)%len(members)]
		if (ejectedToo || !e.hosts[chosen].ejected) && !slices.Contains(tried, chosen) {
			e.turns[from] += n + 1
			return chosen
		}
	}
	return -1
}

func (e *ejector) end(*request, int) {}

func (e *ejector) done(now time.Duration, r *request, o outcome) {
	e.sweep(now)
	if e.bad == 0 {
		return
	}
	h := &e.hosts[r.instance()]
	h.seen++
	if o.result == health.OK && o.code < e.bad {
		h.good++
		h.inARow = 0
		return
	}
	h.inARow++
	if e.inARow > 0 && h.inARow >= e.inARow {
		h.inARow = 0
		e.eject(now, r.instance(), byRow)
	}
}

func (e *ejector) eject(now time.Duration, n int, reason health.Reason) {
	h, ejected := &e.hosts[n], 0
	for i := range e.hosts {
		if e.hosts[i].ejected {
			ejected++
		}
	}
	if h.ejected || ejected+1 > max(1, int(maxEjected*float64(len(e.hosts)))) {
		return
	}
	h.ejected = true
	h.times++
	h.until = now + min(time.Duration(h.times)*ejectionTime, maxEjectionTime)
	e.ledger.judged(now, e.number, n, true, reason)
}

// sweep does what is due each interval.
func (e *ejector) sweep(now time.Duration) {
	for ; now >= e.sweeps; e.sweeps += interval {
		for n := range e.hosts {
			h := &e.hosts[n]
			switch {
			case h.ejected && e.sweeps >= h.until:
				h.ejected = false
				e.ledger.judged(e.sweeps, e.number, n, false, "")
			case !h.ejected && h.times > 0:
				h.times--
			}
		}
		if e.success {
			for _, n := range outliers(e.hosts) {
				e.eject(e.sweeps, n, bySigma)
			}
		}
		for n := range e.hosts {
			e.hosts[n].good, e.hosts[n].seen = 0, 0
		}
	}
}

// outliers returns the hosts whose success share is under the mean less 1.9 standard deviations, of those with enough
// requests, if there are enough of those.
func outliers(hosts []host) (list []int) {
	var judged []int
	sum, squares := 0.0, 0.0
	for n := range hosts {
		if h := &hosts[n]; !h.ejected && h.seen >= minimumRequests {
			judged = append(judged, n)
			share := ratio(h.good, h.seen)
			sum += share
			squares += share * share
		}
	}
	if len(judged) < minimumHosts {
		return nil
	}
	count := float64(len(judged))
	mean := sum / count
	threshold := mean - deviations*math.Sqrt(max(squares/count-mean*mean, 0))
	for _, n := range judged {
		if ratio(hosts[n].good, hosts[n].seen) < threshold {
			list = append(list, n)
		}
	}
	return list
}
