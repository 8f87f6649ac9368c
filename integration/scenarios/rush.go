package scenarios

import (
	"math/rand/v2"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// kind tells a rush's events apart. A world has only the first.
type kind uint8

const (
	arrives kind = iota // a client's next request
	served              // a server is done with a job
	settled             // an attempt that no server took is over
	late                // an attempt's time is over
	repeats             // a client asks again
	changes             // the faults of all stations
)

// limiter is a guard in a rush: it says, too, how long things may take.
type limiter interface {
	guard
	// timeouts returns how long the attempt that begins now may take, and the whole call.
	timeouts(r *request) (attempt, whole time.Duration)
}

// rush runs a load with a seed: a world in which instances have a capacity, and clients ask again.
type rush struct {
	*load
	onset    time.Duration
	queue    queue
	guards   []limiter
	stations []station
	flow     *flow

	arrivals *rand.Rand
	draws    drawer
	clients  uint64
	attempts uint32
	spare    []*request
}

func newRush(l *load, seed uint64) *rush {
	w := &rush{load: l, draws: newDrawer(seed), arrivals: stream(seed, arrivalStream)}
	w.onset = l.warm + time.Duration(stream(seed, onsetStream).Float64()*float64(warmSpread))
	w.flow = newFlow(l, w.onset)
	w.stations = make([]station, len(l.instances))
	for n := range w.stations {
		w.stations[n].service, w.stations[n].number = &l.service, n
	}
	return w
}

// run works off all events until the end. sleep lets so much virtual time pass.
func (w *rush) run(sleep func(time.Duration)) *flow {
	for n := range w.instances {
		for _, f := range w.instances[n].faults {
			w.queue.plan(event{at: w.onset + f.from, kind: changes})
			if f.to > 0 {
				w.queue.plan(event{at: w.onset + f.to, kind: changes})
			}
		}
	}
	w.planArrival(0)
	pace := pace{step: w.step, sleep: sleep}
	for e, more := w.queue.next(); more && e.at < w.onset+w.after; e, more = w.queue.next() {
		if e.kind == late && e.request.serial != e.serial {
			continue // it was in time
		}
		pace.reach(e.at)
		w.happen(&e)
	}
	return w.flow
}

func (w *rush) happen(e *event) {
	switch e.kind {
	case arrives:
		w.arrive(e.at)
	case repeats:
		w.ask(e.at, e.request)
	case served:
		w.stations[e.source].served(e.at, e.serial, w)
	case settled:
		w.finish(e.at, e.request, e.request.outcome)
	case late:
		w.finish(e.at, e.request, outcome{result: health.ReadTimeout})
	case changes:
		for n := range w.stations {
			w.stations[n].ail(e.at, w.instances[n].ails(e.at-w.onset), w)
		}
	}
}

func (w *rush) planArrival(after time.Duration) {
	if next, more := w.next(after-w.onset, w.arrivals); more {
		w.queue.plan(event{at: next + w.onset, kind: arrives})
	}
}

// arrive is a client's request.
func (w *rush) arrive(now time.Duration) {
	w.planArrival(now)
	var r *request
	if last := len(w.spare) - 1; last >= 0 {
		r, w.spare = w.spare[last], w.spare[:last]
		*r = request{}
	} else {
		r = &request{}
	}
	r.born, r.agent = now, w.arrivals.IntN(max(w.agents, 1))
	r.way = &usualWays[0]
	if len(w.ways) > 0 {
		r.way = &w.ways[w.arrivals.IntN(len(w.ways))]
	}
	w.clients++
	r.number = w.clients * maxRepeats
	w.flow.bin(now).offered[half(r)]++
	w.ask(now, r)
}

// maxRepeats is the most that the number of a client's calls can tell apart.
const maxRepeats = 8

// ask is a client's call: its first, or a repeat.
func (w *rush) ask(now time.Duration, r *request) {
	r.at, r.attempts = now, 0
	bin := w.flow.bin(now)
	bin.calls[half(r)]++
	if !w.try(now, r) {
		bin.refused[half(r)]++
		w.close(now, r, outcome{result: health.Canceled})
	}
}

// try begins an attempt; false if there is nobody to try.
func (w *rush) try(now time.Duration, r *request) bool {
	g := w.guards[r.agent]
	chosen := g.pick(now, r)
	if chosen < 0 {
		return false
	}
	r.tried[r.attempts] = chosen
	r.attempts++
	w.attempts++
	r.begun, r.serial = now, w.attempts
	w.flow.bin(now).attempts++

	random := w.draws.of(r.number, r.attempts)
	takes := w.service.takes(random.ExpFloat64())
	o, taken := outcome{}, false
	if w.errors > 0 && random.Float64() < w.errors {
		o = failure(&draws{kind: random.Float64()}, takes)
	} else {
		o, taken = w.stations[chosen].enter(now, job{r, r.serial, takes}, w)
	}
	attempt, whole := g.timeouts(r)
	end := min(now+attempt, r.at+whole)
	if !taken && now+o.took < end {
		r.outcome = o
		w.queue.planEnd(event{at: now + o.took, kind: settled, request: r})
		return true
	}
	w.queue.planEnd(event{at: end, kind: late, request: r, serial: r.serial})
	return true
}

// deliver brings what a job came to to its caller, if that still waits.
func (w *rush) deliver(now time.Duration, j job, o outcome) {
	switch {
	case j.request.serial == j.serial:
		w.finish(now, j.request, o)
	case o.result == health.OK:
		w.flow.bin(now).wasted++
	}
}

// finish ends an attempt, and retries what failed as long as the guard and the call's time allow.
func (w *rush) finish(now time.Duration, r *request, o outcome) {
	r.serial = 0
	o.took = now - r.begun
	r.outcome = o
	g := w.guards[r.agent]
	_, whole := g.timeouts(r)
	g.done(now, r, o)
	if o.result.Failure() && now-r.at < whole && r.attempts < len(r.tried) && w.try(now, r) {
		return
	}
	w.close(now, r, o)
}

// close ends a call, which its client repeats if it failed.
func (w *rush) close(now time.Duration, r *request, last outcome) {
	code := last.code
	if last.result != health.OK {
		code = 502
	}
	w.guards[r.agent].end(r, code)
	switch {
	case last.result == health.OK:
		w.flow.bin(now).good[half(r)]++
		w.flow.bin(r.born).served++
	case r.repeat < w.load.repeats:
		pause := float64(w.pause) * (0.5 + w.draws.of(r.number, 0).Float64())
		r.repeat++
		r.number++
		w.queue.plan(event{at: now + time.Duration(pause), kind: repeats, request: r})
		return
	}
	w.spare = append(w.spare, r)
}

// half is 1 for a request of the heavier half, else 0.
func half(r *request) int {
	if r.way.heavy {
		return 1
	}
	return 0
}
