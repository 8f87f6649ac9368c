package agent

import (
	"container/list"
	"crypto/rand"
	"sync"
	"time"
)

const (
	// handoutLife is how long a hand-out may be reported.
	handoutLife = 5 * time.Minute
	// maxHandouts bounds the table. Beyond it the oldest hand-outs can no longer be reported. They count for nothing then, as if
	// the program hadn't called back.
	maxHandouts = 1 << 16
)

// handouts holds the attempts that programs make by themselves, by ids that can't be guessed, so that a program can report only
// on an instance that it was given.
type handouts struct {
	mu    sync.Mutex
	byID  map[string]*list.Element // of queue
	queue list.List                // of handout, the first to expire in front
}

type handout struct {
	id      string
	attempt *Attempt
	expires time.Time
}

// HandOut lets a program make an attempt by itself and returns the id by which it may report on it: once, within 5
// minutes. A hand-out that is never reported counts for nothing.
func (a *Agent) HandOut(attempt *Attempt) string { return a.handouts.put(attempt) }

// HandedOut returns the attempt of an id, once; nil if it was reported before, has expired, or never was. An attempt on
// another callee than the one given is left for its next reporter; an empty callee is any.
func (a *Agent) HandedOut(id, callee string) *Attempt { return a.handouts.take(id, callee) }

func (t *handouts) put(attempt *Attempt) string {
	id := rand.Text() // 130 random bits
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[string]*list.Element{}
	}
	for oldest := t.queue.Front(); oldest != nil; oldest = t.queue.Front() {
		if t.queue.Len() < maxHandouts && oldest.Value.(handout).expires.After(now) {
			break
		}
		t.remove(oldest)
	}
	t.byID[id] = t.queue.PushBack(handout{id, attempt, now.Add(handoutLife)})
	return id
}

func (t *handouts) take(id, callee string) *Attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.byID[id]
	if found == nil || callee != "" && found.Value.(handout).attempt.Callee() != callee {
		return nil
	}
	given := t.remove(found)
	if given.expires.Before(time.Now()) { // expired ones leave the table with the next put only
		return nil
	}
	return given.attempt
}

func (t *handouts) remove(element *list.Element) handout {
	given := t.queue.Remove(element).(handout)
	delete(t.byID, given.id)
	return given
}
