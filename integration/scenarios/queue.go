package scenarios

import "time"

// event is one thing that happens: a source's next request arrives or, if there is a request, its attempt is over. A rush
// has more kinds of them.
type event struct {
	at      time.Duration // since the world's beginning
	turn    uint64        // events of one moment happen in the order in which they were planned
	source  int           // or the station
	request *request
	serial  uint32 // of the attempt, or of the station's life
	kind    kind
}

// queue gives events back by their time. It is a binary heap of its own, since container/heap's interfaces take longer than
// all of the rest that the simulator does at an event.
type queue struct {
	events  []event
	planned uint64
	lanes   [4]lane
}

// lane holds events that were planned in their order: most of a rush's are ends of fixed times, by the hundred thousand, and
// need no heap.
type lane struct {
	events fifo[event]
	last   time.Duration
}

func (e *event) before(other *event) bool {
	return e.at < other.at || e.at == other.at && e.turn < other.turn
}

func (q *queue) before(a, b int) bool { return q.events[a].before(&q.events[b]) }

// plan adds an event.
func (q *queue) plan(e event) {
	e.turn = q.planned
	q.planned++
	q.push(e)
}

// planEnd adds an event after a time that many others have too.
func (q *queue) planEnd(e event) {
	e.turn = q.planned
	q.planned++
	var to *lane
	for n := range q.lanes {
		if l := &q.lanes[n]; l.last <= e.at && (to == nil || l.last > to.last) {
			to = l
		}
	}
	if to == nil {
		q.push(e)
		return
	}
	to.last = e.at
	to.events.push(e)
}

func (q *queue) push(e event) {
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
	var first *lane
	for n := range q.lanes {
		if l := &q.lanes[n]; l.events.len() > 0 && (first == nil || l.events.head().before(first.events.head())) {
			first = l
		}
	}
	if first != nil && (len(q.events) == 0 || first.events.head().before(&q.events[0])) {
		return first.events.pop(), true
	}
	return q.pop()
}

func (q *queue) pop() (event, bool) {
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

// fifo is a queue of its own order, a ring that grows.
type fifo[T any] struct {
	ring        []T // its length is a power of two
	first, size int
}

func (f *fifo[T]) len() int { return f.size }

func (f *fifo[T]) head() *T { return &f.ring[f.first] }

func (f *fifo[T]) push(one T) {
	if f.size == len(f.ring) {
		ring := make([]T, max(16, 2*len(f.ring)))
		for n := range f.size {
			ring[n] = f.ring[(f.first+n)&(len(f.ring)-1)]
		}
		f.ring, f.first = ring, 0
	}
	f.ring[(f.first+f.size)&(len(f.ring)-1)] = one
	f.size++
}

// pop takes the first one out; there must be one.
func (f *fifo[T]) pop() T {
	var none T
	one := f.ring[f.first]
	f.ring[f.first] = none // lets go of its request
	f.first = (f.first + 1) & (len(f.ring) - 1)
	f.size--
	return one
}
