package scenarios

import "time"

// event is one thing that happens: a source's next request arrives or, if there is a request, its attempt is over.
type event struct {
	at      time.Duration // since the world's beginning
	turn    uint64        // events of one moment happen in the order in which they were planned
	source  int
	request *request
}

// queue gives events back by their time. It is a binary heap of its own, since container/heap's interfaces take longer than
// all of the rest that the simulator does at an event.
type queue struct {
	events  []event
	planned uint64
}

func (q *queue) before(a, b int) bool {
	first, second := &q.events[a], &q.events[b]
	return first.at < second.at || first.at == second.at && first.turn < second.turn
}

// plan adds an event.
func (q *queue) plan(e event) {
	e.turn = q.planned
	q.planned++
	q.events = append(q.events, e)
	for n := len(q.events) - 1; n > 0; {
		parent := (n - 1) / 2
		if !q.before(n, parent) {
			return
		}
		q.events[n], q.events[parent] = q.events[parent], q.events[n]
		n = parent
	}
}

// next takes the earliest event out; false if there is none.
func (q *queue) next() (event, bool) {
	if len(q.events) == 0 {
		return event{}, false
	}
	earliest, last := q.events[0], len(q.events)-1
	q.events[0] = q.events[last]
	q.events[last] = event{} // lets go of its request
	q.events = q.events[:last]
	for n := 0; ; {
		least := n
		for child := 2*n + 1; child <= 2*n+2 && child < last; child++ {
			if q.before(child, least) {
				least = child
			}
		}
		if least == n {
			return earliest, true
		}
		q.events[n], q.events[least] = q.events[least], q.events[n]
		n = least
	}
}
