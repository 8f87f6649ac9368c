package scenarios

import (
	"math/rand/v2"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// load is a scenario of a rush: a setup whose instances queue, and whose callers ask for more than they can do. Of the setup
// it has no sources, background or groups.
type load struct {
	setup
	service service
	demand  []demand      // in their order; the first is in force from the beginning
	ways    []way         // of asking, one as often as the others. Default: one
	repeats int           // of a client's call that failed or was refused
	pause   time.Duration // before each repeat, ± 50 %
	errors  float64       // share of attempts that fail whatever the instance does, as background.failures

	timeouts *model.Timeouts // default: the Service's
	unfused  bool            // UFC's fuse doesn't enter by failures, and lets everything pass; judges look that it refused nothing
}

// demand is the rate at which clients' requests come, from a moment on: of all agents, without repeats.
type demand struct {
	from  time.Duration // since the onset
	share float64       // of the capacity
}

// way is how a caller asks.
type way struct {
	caller string
	level  int // of the caller, as the callee's document has it; 0: it doesn't say
	class  int
	heavy  bool // counted as the heavier half
}

var usualWays = []way{{class: agent.DefaultClass}}

// capacity returns how many requests a second all instances can do together, when nothing is wrong.
func (l *load) capacity() float64 {
	return float64(len(l.instances)*l.service.servers) / l.service.time.Seconds()
}

// left returns the share of the capacity that there is at a moment since the onset.
func (l *load) left(since time.Duration) float64 {
	total := 0.0
	for n := range l.instances {
		switch f := l.instances[n].ails(since); {
		case f == nil:
			total++
		case f.ailment == slows:
			total += 1 / f.factor
		}
	}
	return total / float64(len(l.instances))
}

// rate returns the demand in force, in requests a second, and when it ends, since the onset.
func (l *load) rate(since time.Duration) (rate float64, until time.Duration) {
	current := l.demand[0]
	until = l.after
	for _, d := range l.demand[1:] {
		if d.from > since {
			until = d.from
			break
		}
		current = d
	}
	return current.share * l.capacity(), until
}

// next returns when the next request comes after a moment, both since the onset; false if none does. What comes is a Poisson
// process, which has no memory: at a change of its rate it begins anew.
func (l *load) next(since time.Duration, random *rand.Rand) (time.Duration, bool) {
	for since < l.after {
		rate, until := l.rate(since)
		next := until
		if rate > 0 {
			next = since + time.Duration(random.ExpFloat64()/rate*float64(time.Second))
		}
		if next < until {
			return next, true
		}
		since = until
	}
	return 0, false
}

// document changes the callee's.
func (l *load) document(s *model.Service) {
	s.Balance.Policy = model.LeastRequest
	if l.timeouts != nil {
		s.Timeouts = *l.timeouts
	}
	if l.unfused {
		s.Fuse.SuccessBelow = 0
	}
	for n := range l.ways {
		if w := &l.ways[n]; w.level != 0 {
			s.Callers = append(s.Callers, model.CallerOverride{Match: []string{w.caller}, Level: &w.level})
		}
	}
}
