package agent

import (
	"crypto/rand"
	"sync"
	"time"
)

const (
	// handoutLife is how long a hand-out may be reported.
	handoutLife = 5 * time.Minute
	// maxHandouts bounds the table. Beyond it the oldest hand-outs can no longer be reported, which is neutral: they count
	// as programs that didn't call back.
	maxHandouts = 1 << 16
)

// handouts holds the attempts that programs make by themselves, by ids that can't be guessed, so that nobody reports on
// what he wasn't given.
type handouts struct {
	mu   sync.Mutex
	byID map[string]handout
	// queue has the ids in the order in which they expire, reported ones too until then. Its head is queue[first].
	queue []expiry
	first int
}

type handout struct {
	attempt *Attempt
	expires time.Time
}

type expiry struct {
	id string
	at time.Time
}

// HandOut lets a program make an attempt by itself and returns the id by which it may report on it: once, within 5
// minutes. A hand-out that is never reported is neutral.
func (a *Agent) HandOut(attempt *Attempt) string { return a.handouts.put(attempt) }

// HandedOut returns the attempt of an id, once; nil if it was reported before, has expired, or never was.
func (a *Agent) HandedOut(id string) *Attempt { return a.handouts.take(id) }

func (t *handouts) put(attempt *Attempt) string {
	id := rand.Text() // 130 random bits
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > t.first && (t.queue[t.first].at.Before(now) || len(t.queue)-t.first >= maxHandouts) {
		delete(t.byID, t.queue[t.first].id)
		t.queue[t.first] = expiry{}
		t.first++
	}
	if t.first > len(t.queue)/2 { // the spent half is reused, so that the queue's cost stays in proportion
		t.queue = append(t.queue[:0], t.queue[t.first:]...)
		t.first = 0
	}
	expires := now.Add(handoutLife)
	t.queue = append(t.queue, expiry{id, expires})
	if t.byID == nil {
		t.byID = map[string]handout{}
	}
	t.byID[id] = handout{attempt, expires}
	return id
}

func (t *handouts) take(id string) *Attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	given, ok := t.byID[id]
	delete(t.byID, id)
	if !ok || given.expires.Before(time.Now()) { // expired ones leave the table with the next put only
		return nil
	}
	return given.attempt
}
