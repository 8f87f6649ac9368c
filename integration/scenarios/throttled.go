package scenarios

import (
	"math/rand/v2"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// throttle is a published rule of others that refuses calls.
type throttle interface {
	// admit tells whether a call may go on, and gives a ticket for its outcome. random is uniform in [0, 1).
	admit(now time.Duration, random float64) (ticket uint32, ok bool)
	// learn tells whether the attempt of a ticket succeeded.
	learn(now time.Duration, ticket uint32, success bool)
}

// rival is a rule of others by its name.
type rival struct {
	name string
	make func() throttle
}

var rivals = []rival{
	{"no protection", func() throttle { return open{} }},
	{"on/off breaker", func() throttle { return &breaker{} }},
	{"adaptive throttling", func() throttle { return &adaptive{} }},
	{"admission control", func() throttle { return &admission{} }},
}

// open admits everything.
type open struct{}

func (open) admit(time.Duration, float64) (uint32, bool) { return 0, true }

func (open) learn(time.Duration, uint32, bool) {}

// throttled is a guard by such a rule: one for each agent. It chooses by least request of two, doesn't retry, and knows only
// the normal timeouts.
type throttled struct {
	throttle
	random   *rand.Rand
	inFlight []int // by instance
}

// runRival runs a load with a rule of others.
func runRival(rule rival, l *load, seed uint64) *flow {
	w := newRush(l, seed)
	for n := range max(l.agents, 1) {
		w.guards = append(w.guards, newThrottled(rule, l, seed, n))
	}
	return w.run(func(time.Duration) {})
}

// newThrottled returns the nth agent's guard.
func newThrottled(rule rival, l *load, seed uint64, n int) *throttled {
	return &throttled{rule.make(), stream(seed, guardStream+n), make([]int, len(l.instances))}
}

func (g *throttled) pick(now time.Duration, r *request) int {
	if r.attempts > 0 {
		return -1
	}
	ticket, ok := g.admit(now, g.random.Float64())
	if !ok {
		return -1
	}
	r.ticket = ticket
	chosen, other := g.random.IntN(len(g.inFlight)), g.random.IntN(len(g.inFlight))
	if g.inFlight[other] < g.inFlight[chosen] {
		chosen = other
	}
	g.inFlight[chosen]++
	return chosen
}

func (g *throttled) done(now time.Duration, r *request, o outcome) {
	g.inFlight[r.instance()]--
	g.learn(now, r.ticket, o.result == health.OK)
}

func (g *throttled) end(*request, int) {}

func (g *throttled) timeouts(*request) (attempt, whole time.Duration) {
	return readTimeout, callTimeout
}

// breaker is the usual circuit breaker: it opens when half of the last 20 have failed, lets a trial pass after 5 s, and that
// one's outcome closes it or opens it again.
type breaker struct {
	recent   [breakerOf]bool // whether they failed
	seen     int
	failed   int
	state    breakerState
	until    time.Duration // it is open
	life     uint32        // an outcome of an older state says nothing of this one
	trialing bool
}

type breakerState int

const (
	closed breakerState = iota
	opened
	halfOpen
)

const (
	breakerOf    = 20
	breakerShare = 0.5
	breakerOpen  = 5 * time.Second
)

func (b *breaker) enter(state breakerState) {
	*b = breaker{state: state, life: b.life + 1, until: b.until}
}

func (b *breaker) admit(now time.Duration, _ float64) (uint32, bool) {
	if b.state == opened && now >= b.until {
		b.enter(halfOpen)
	}
	switch {
	case b.state == opened || b.state == halfOpen && b.trialing:
		return 0, false
	case b.state == halfOpen:
		b.trialing = true
	}
	return b.life, true
}

func (b *breaker) learn(now time.Duration, ticket uint32, success bool) {
	if ticket != b.life {
		return
	}
	if b.state == halfOpen {
		if success {
			b.enter(closed)
		} else {
			b.open(now)
		}
		return
	}
	at := &b.recent[b.seen%breakerOf]
	if *at {
		b.failed--
	}
	*at = !success
	if *at {
		b.failed++
	}
	b.seen++
	if b.seen >= breakerOf && float64(b.failed) >= breakerShare*breakerOf {
		b.open(now)
	}
}

func (b *breaker) open(now time.Duration) {
	b.enter(opened)
	b.until = now + breakerOpen
}

// pair counts requests and, of them, those that succeeded.
type pair struct{ requests, accepts int }

// window counts pairs over the last seconds.
type window struct {
	seconds []pair // a ring
	last    int    // the newest second
	sum     pair
}

// at returns the pair of a moment, for which time must not run backwards, and lets go of what is too old.
func (w *window) at(now time.Duration, length time.Duration) *pair {
	if w.seconds == nil {
		w.seconds = make([]pair, length/time.Second)
	}
	for second := int(now / time.Second); w.last < second; {
		w.last++
		old := &w.seconds[w.last%len(w.seconds)]
		w.sum.requests -= old.requests
		w.sum.accepts -= old.accepts
		*old = pair{}
	}
	return &w.seconds[w.last%len(w.seconds)]
}

func (w *window) count(now, length time.Duration, requests, accepts int) {
	at := w.at(now, length)
	at.requests += requests
	at.accepts += accepts
	w.sum.requests += requests
	w.sum.accepts += accepts
}

// adaptive is the client-side throttling of Google's SRE book, chapter 21, "Handling Overload": over the last two minutes,
// with the requests that the application attempted, refused ones too, and those of them that the backend accepted, a request
// is rejected with probability
//
//	max(0, (requests − K · accepts) / (requests + 1)), K = 2
type adaptive struct{ window }

const (
	adaptiveWindow = 2 * time.Minute
	adaptiveK      = 2
)

func (a *adaptive) admit(now time.Duration, random float64) (uint32, bool) {
	a.at(now, adaptiveWindow)
	rejects := rejectAdaptively(a.sum)
	a.count(now, adaptiveWindow, 1, 0)
	return 0, random >= rejects
}

func (a *adaptive) learn(now time.Duration, _ uint32, success bool) {
	if success {
		a.count(now, adaptiveWindow, 0, 1)
	}
}

func rejectAdaptively(p pair) float64 {
	return max(0, float64(p.requests-adaptiveK*p.accepts)/float64(p.requests+1))
}

// admission is Envoy's HTTP filter admission_control, by its documentation: over the sampling window, with the requests that
// it let pass and that are over, a request is rejected with probability
//
//	((n_total − s) / (n_total + 1)) ^ (1 / aggression), s = n_success / threshold
//
// and never with more than max_rejection_probability. The defaults: 30 s, 95 %, aggression 1, at most 80 %; no minimum of
// requests a second.
type admission struct{ window }

const (
	admissionWindow = 30 * time.Second
	admissionShare  = 0.95
	admissionMost   = 0.8
)

func (a *admission) admit(now time.Duration, random float64) (uint32, bool) {
	a.at(now, admissionWindow)
	return 0, random >= rejectBySuccess(a.sum)
}

func (a *admission) learn(now time.Duration, _ uint32, success bool) {
	accepts := 0
	if success {
		accepts = 1
	}
	a.count(now, admissionWindow, 1, accepts)
}

// rejectBySuccess has an aggression of 1.
func rejectBySuccess(p pair) float64 {
	total := float64(p.requests)
	return min(max(0, (total-float64(p.accepts)/admissionShare)/(total+1)), admissionMost)
}
