package agent

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// handoutLife is how long a hand-out may be reported.
	handoutLife = 5 * time.Minute
	// handoutMemory is how long its id is remembered, so that a report that comes late or twice can be told from one of an id that
	// never was.
	handoutMemory = 2 * handoutLife
	// maxHandouts bounds the table, a power of two. Beyond it the oldest hand-outs can no longer be reported. They count for
	// nothing then, as if the program hadn't called back.
	maxHandouts = 1 << 16
	// handoutSweep is how often the table is rid of what is over while nothing is handed out.
	handoutSweep = time.Minute
	// leastHandouts is what there is room for at first, a power of two.
	leastHandouts = 1 << 6
)

// Why a report that names an id doesn't count: values of the label result of ufc_callbacks_total.
const (
	Unmatched = "unmatched" // no such id, or it is of another callee; or the instance that a report names isn't in the list
	Repeated  = "repeated"  // it was reported before
	Late      = "late"      // its time was over
)

// handouts holds the attempts that programs make by themselves, by ids that can't be guessed, so that a program can report only
// on an instance that it was given.
type handouts struct {
	mu   sync.Mutex
	byID map[string]uint64 // sequence numbers
	// ring holds the hand-outs with the sequence numbers from first to next, each at its number modulo the length. Those before live
	// have expired.
	ring              []handout
	first, live, next uint64
	sweeping          *time.Timer // nil: the table is empty
	closed            bool
}

type handout struct {
	id, callee string
	attempt    *Attempt // nil: reported, or expired
	reported   bool
	expires    time.Time
}

// HandOut lets a program make an attempt by itself and returns the id by which it may report on it: once, within 5
// minutes. A hand-out that is never reported counts for nothing.
func (a *Agent) HandOut(attempt *Attempt) string { return a.handouts.put(attempt) }

// HandedOut returns the attempt of an id, once; nil if there is none, and why: Unmatched, Repeated or Late. An attempt on another
// callee than the one given is left for its next reporter; an empty callee is any.
func (a *Agent) HandedOut(id, callee string) (attempt *Attempt, why string) {
	return a.handouts.take(id, callee)
}

func (t *handouts) at(number uint64) *handout { return &t.ring[number&uint64(len(t.ring)-1)] }

func (t *handouts) put(attempt *Attempt) string {
	id := rand.Text() // 130 random bits
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now)
	if t.next-t.first == maxHandouts {
		t.forget()
	}
	if t.next-t.first == uint64(len(t.ring)) {
		t.grow()
	}
	if t.sweeping == nil && !t.closed {
		t.sweeping = time.AfterFunc(handoutSweep, t.sweep)
	}
	*t.at(t.next) = handout{id: id, callee: attempt.Callee(), attempt: attempt, expires: now.Add(handoutLife)}
	t.byID[id] = t.next
	t.next++
	return id
}

// expire drops the attempts that can't be reported any more, and then their ids. The lock is held.
func (t *handouts) expire(now time.Time) {
	for ; t.live < t.next && !t.at(t.live).expires.After(now); t.live++ {
		t.at(t.live).attempt = nil
	}
	for t.first < t.next && !t.at(t.first).expires.Add(handoutMemory-handoutLife).After(now) {
		t.forget()
	}
}

// forget drops the oldest hand-out. The lock is held.
func (t *handouts) forget() {
	oldest := t.at(t.first)
	delete(t.byID, oldest.id)
	*oldest = handout{}
	t.first++
	t.live = max(t.live, t.first)
}

// sweep is the timer's: an attempt holds its call's plan, and with it the instances of its time. An empty table is let go.
func (t *handouts) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.expire(time.Now()); {
	case t.closed:
	case t.first < t.next:
		t.sweeping.Reset(handoutSweep)
	default:
		t.byID, t.ring, t.sweeping = nil, nil, nil
	}
}

// close ends the sweeping.
func (t *handouts) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.sweeping != nil {
		t.sweeping.Stop()
	}
}

func (t *handouts) grow() {
	if t.byID == nil {
		t.byID = map[string]uint64{}
	}
	larger := handouts{ring: make([]handout, max(2*len(t.ring), leastHandouts))}
	for n := t.first; n < t.next; n++ {
		*larger.at(n) = *t.at(n)
	}
	t.ring = larger.ring
}

func (t *handouts) take(id, callee string) (attempt *Attempt, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	number, found := t.byID[id]
	if !found {
		return nil, Unmatched
	}
	given := t.at(number)
	switch {
	case callee != "" && given.callee != callee:
		return nil, Unmatched
	case given.reported:
		return nil, Repeated
	case !given.expires.After(time.Now()):
		return nil, Late
	}
	attempt, given.attempt, given.reported = given.attempt, nil, true
	return attempt, ""
}
