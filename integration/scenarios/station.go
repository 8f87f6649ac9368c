package scenarios

import (
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// service is how each instance works its requests off: so many servers, and one queue, first come, first served. What it has
// taken it works off, whether a caller still waits or not.
type service struct {
	servers int
	time    time.Duration // of a server for one request: the mean
	fixed   bool          // always the mean; else times are exponential
	limit   int           // of the queue: what comes to a full one is reset at once. 0: unbounded
}

// takes is how long a request keeps a server, from an exponential random number of mean 1.
func (s *service) takes(random float64) time.Duration {
	if s.fixed {
		return s.time
	}
	return time.Duration(random * float64(s.time))
}

// job is an attempt that an instance has taken.
type job struct {
	request *request
	serial  uint32 // of the attempt: if the request has another one by now, nobody waits for this
	takes   time.Duration
}

// station is an instance's servers and queue. What is wrong with it is the instance's fault: it is slow, and its capacity
// falls as its times grow; it hangs, and takes requests until its queue is full; it is dead, what it had is reset, and what
// comes is refused.
type station struct {
	*service
	number  int
	ailing  *fault // nil: nothing is wrong
	serving []job
	waiting fifo[job]
	stuck   []job // of serving: they would be done by now
}

func (s *station) suffers(from ailment) bool { return s.ailing != nil && s.ailing.ailment == from }

func (s *station) dead() bool { return s.suffers(refuses) || s.suffers(silent) }

// enter takes a job, or says what becomes of the attempt instead: false.
func (s *station) enter(now time.Duration, j job, w *rush) (outcome, bool) {
	switch {
	case s.suffers(silent):
		return outcome{result: health.ConnectTimeout, took: connectTimeout}, false
	case s.suffers(refuses):
		return outcome{result: health.ConnectError, took: roundTrip}, false
	case len(s.serving) < s.servers && !s.suffers(hangs):
		s.serve(now, j, w)
	case s.limit > 0 && s.waiting.len() >= s.limit:
		return outcome{result: health.Reset, took: roundTrip}, false
	default:
		s.waiting.push(j)
	}
	return outcome{}, true
}

func (s *station) serve(now time.Duration, j job, w *rush) {
	s.serving = append(s.serving, j)
	takes := j.takes
	if s.suffers(slows) {
		takes = time.Duration(float64(takes) * s.ailing.factor)
	}
	w.queue.plan(event{at: now + takes, kind: served, source: s.number, request: j.request, serial: j.serial})
}

// served is the end of a job in a server.
func (s *station) served(now time.Duration, serial uint32, w *rush) {
	n := slices.IndexFunc(s.serving, func(j job) bool { return j.serial == serial })
	switch {
	case n < 0: // it has died since
	case s.suffers(hangs):
		s.stuck = append(s.stuck, s.serving[n])
	default:
		j, last := s.serving[n], len(s.serving)-1
		s.serving[n] = s.serving[last]
		s.serving = s.serving[:last]
		w.deliver(now, j, answer(200, 0))
		s.resume(now, w)
	}
}

// resume gives idle servers work.
func (s *station) resume(now time.Duration, w *rush) {
	for len(s.serving) < s.servers && s.waiting.len() > 0 {
		s.serve(now, s.waiting.pop(), w)
	}
}

// ail changes what is wrong with it.
func (s *station) ail(now time.Duration, with *fault, w *rush) {
	if with == s.ailing {
		return
	}
	s.ailing = with
	switch {
	case s.dead():
		lost := s.serving
		s.serving, s.stuck = nil, nil
		for s.waiting.len() > 0 {
			lost = append(lost, s.waiting.pop())
		}
		for _, j := range lost {
			w.deliver(now, j, outcome{result: health.Reset})
		}
	case !s.suffers(hangs):
		stuck := s.stuck
		s.stuck = nil
		for _, j := range stuck {
			s.served(now, j.serial, w)
		}
		s.resume(now, w)
	}
}
