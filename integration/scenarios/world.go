package scenarios

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

// guard decides whom attempts go to. Each agent of a world has one.
type guard interface {
	// pick returns the instance for a request's next attempt, −1 if there is none, or none is left to try.
	pick(now time.Duration, r *request) int
	// done tells what came of the attempt picked last.
	done(now time.Duration, r *request, o outcome)
	// end tells that the caller has its answer, or its refusal: a status.
	end(r *request, code int)
}

// request is one request of a caller.
type request struct {
	number   uint64
	at       time.Duration
	agent    int
	user     string
	code     int // what it is answered, whoever answers; 0: the instance's own
	group    float64
	attempts int
	tried    [8]int // instances, by attempt
	begun    time.Duration
	outcome  outcome // of the attempt under way

	call    *agent.Call // of the agent; comparators have none
	attempt *agent.Attempt

	// In a rush.
	way    *way
	born   time.Duration // when its client first asked
	repeat int
	serial uint32 // of the attempt under way; 0: none is
	ticket uint32 // of the attempt under way, for the guard's own use
}

// instance returns the one that the attempt is on.
func (r *request) instance() int { return r.tried[r.attempts-1] }

// world runs a setup with a seed.
type world struct {
	*setup
	onset  time.Duration
	queue  queue
	guards []guard
	ledger *ledger
	number uint64

	arrivals []*rand.Rand // by source and agent
	draws    drawer
	// spare are requests that are over, for guards that don't keep them. An agent gets a new one each time.
	spare  []*request
	spares bool
	bursts *rand.Rand
	burst  struct{ from, to time.Duration } // the current or next one
}

// The streams of a seed. Those of arrivals follow.
const (
	onsetStream = iota
	burstStream
	guardStream   = 1 << 20 // and on, by guard
	arrivalStream = 2
)

func newWorld(s *setup, seed uint64) *world {
	w := &world{setup: s, bursts: stream(seed, burstStream)}
	w.onset = s.warm + time.Duration(stream(seed, onsetStream).Float64()*float64(warmSpread))
	w.ledger = newLedger(s, w.onset)
	w.draws = newDrawer(seed)
	for n := range len(s.sources) * max(s.agents, 1) {
		w.arrivals = append(w.arrivals, stream(seed, arrivalStream+n))
	}
	return w
}

func stream(seed uint64, n int) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed), mix(uint64(n)<<32)))
}

// run works off all events: what begins before the end is seen to its own end. sleep lets so much virtual time pass.
func (w *world) run(sleep func(time.Duration)) *ledger {
	for n := range w.arrivals {
		w.planArrival(n, max(0, w.sourceOf(n).begins(w.onset)))
	}
	pace := pace{step: w.step, sleep: sleep}
	for e, more := w.queue.next(); more; e, more = w.queue.next() {
		pace.reach(e.at)
		if e.request == nil {
			w.arrive(e)
		} else {
			w.finish(e.at, e.request)
		}
		if w.stop != nil && w.stop(w.ledger) {
			break
		}
	}
	return w.ledger
}

// pace lets virtual time follow the events.
type pace struct {
	step    time.Duration // events are put off to the end of theirs
	reached time.Duration
	sleep   func(time.Duration)
}

func (p *pace) reach(at time.Duration) {
	if at <= p.reached {
		return
	}
	if p.step > 0 {
		at = (at + p.step - 1) / p.step * p.step
	}
	p.sleep(at - p.reached)
	p.reached = at
}

func (w *world) sourceOf(n int) *source { return &w.sources[n%len(w.sources)] }

func (s *source) begins(onset time.Duration) time.Duration {
	if s.from == 0 && s.to == 0 {
		return 0
	}
	return onset + s.from
}

func (s *source) over(since time.Duration) bool { return s.to > 0 && since >= s.to }

func (w *world) planArrival(n int, after time.Duration) {
	gap := time.Duration(w.arrivals[n].ExpFloat64() / w.sourceOf(n).rate * float64(time.Second))
	w.queue.plan(event{at: after + gap, source: n})
}

func (w *world) arrive(e event) {
	from := w.sourceOf(e.source)
	if since := e.at - w.onset; from.over(since) || since >= w.after {
		return
	}
	w.planArrival(e.source, e.at)
	w.number++
	random := w.arrivals[e.source]
	r := w.newRequest()
	r.number, r.at, r.agent, r.user, r.code = w.number, e.at, e.source/len(w.sources), from.user, from.code
	r.group = random.Float64()
	if from.users > 0 {
		r.user = strconv.Itoa(random.IntN(from.users))
	}
	if !w.try(e.at, r) {
		w.ledger.empty++
		w.close(e.at, r, outcome{result: health.Canceled})
	}
}

func (w *world) newRequest() *request {
	if len(w.spare) == 0 {
		return &request{}
	}
	last := len(w.spare) - 1
	r := w.spare[last]
	w.spare = w.spare[:last]
	*r = request{}
	return r
}

// try begins an attempt; false if there is nobody to try.
func (w *world) try(now time.Duration, r *request) bool {
	chosen := w.guards[r.agent].pick(now, r)
	if chosen < 0 {
		return false
	}
	r.tried[r.attempts] = chosen
	r.attempts++
	r.begun, r.outcome = now, w.answer(now, r, chosen)
	w.ledger.began(now, chosen)
	w.queue.plan(event{at: now + r.outcome.took, request: r})
	return true
}

// finish ends an attempt, and retries what failed as long as the guard and the call's time allow.
func (w *world) finish(now time.Duration, r *request) {
	done := r.outcome
	w.ledger.attempted(now, r.agent, r.instance(), &done)
	w.guards[r.agent].done(now, r, done)
	if done.result.Failure() && now-r.at < callTimeout && r.attempts < len(r.tried) && w.try(now, r) {
		return
	}
	w.close(now, r, done)
}

func (w *world) close(now time.Duration, r *request, last outcome) {
	code := last.code
	if last.result != health.OK {
		code = 502
	}
	w.guards[r.agent].end(r, code)
	w.ledger.closed(r.at, now-r.at, last.good())
	if w.spares {
		w.spare = append(w.spare, r)
	}
}

// answer draws what becomes of an attempt.
func (w *world) answer(now time.Duration, r *request, chosen int) outcome {
	d := w.draws.draw(r.number, r.attempts)
	since := now - w.onset
	if since >= 0 && since < w.blip {
		return lost(&d, w.blip-since)
	}
	own := w.instances[chosen].respond(since, &d)
	if own.result != health.OK {
		return own
	}
	times := w.errorsAt(now)
	switch {
	case d.error < w.background.failures*times:
		return failure(&d, own.took)
	case d.error < (w.background.failures+w.background.statuses)*times:
		own.code = w.background.codes[int(d.code*float64(len(w.background.codes)))]
	case r.code != 0:
		own.code = r.code
	}
	return own
}

// lost is what becomes of an attempt while the network loses everything for the time left: new connections time out, and
// what was sent on old ones is answered by a reset once packets pass again.
func lost(d *draws, left time.Duration) outcome {
	if d.kind < 0.5 {
		return outcome{result: health.ConnectTimeout, took: connectTimeout}
	}
	return outcome{result: health.Reset, took: left}
}

// failure is one of the background's.
func failure(d *draws, took time.Duration) outcome {
	switch int(d.kind * 4) {
	case 0:
		return outcome{result: health.ConnectError, took: roundTrip}
	case 1:
		return outcome{result: health.ConnectTimeout, took: connectTimeout}
	case 2:
		return outcome{result: health.Reset, took: took}
	default:
		return outcome{result: health.ReadTimeout, took: readTimeout}
	}
}

// errorsAt returns how many times the mean share of errors there are now. Time must not run backwards.
func (w *world) errorsAt(now time.Duration) float64 {
	if !w.background.bursts {
		return 1
	}
	for now >= w.burst.to {
		w.burst.from = w.burst.to + time.Duration(w.bursts.ExpFloat64()*float64(burstGap))
		w.burst.to = w.burst.from + time.Duration(w.bursts.ExpFloat64()*float64(burstLength))
	}
	if now >= w.burst.from {
		return inBurst
	}
	return outOfBurst
}
