package forward

import (
	"context"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// watchdog keeps the time limits of one attempt whose bytes the library moves: it is told what happens, and cancels the
// attempt's context when something took too long. The limit of connecting isn't its business, since a dial belongs to
// several attempts and goes on without them.
//
// One timer serves all limits. Moving a deadline back costs no timer call: the timer fires at the old time, and sleeps on.
type watchdog struct {
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	limits limits // head is moved by the time that the upload took
	timer  *time.Timer
	due    time.Time // when the timer fires. Zero: it doesn't
	cause  error     // errSlow or errOver, once a limit was broken
	ended  bool

	connected bool      // there is a connection, or was one
	begun     time.Time // when the request's body was first asked for. Zero: it wasn't, or it is sent
	waiting   bool      // the request's body has nothing to give
	sent      bool      // the request, wholly
	answered  bool      // the response's head is there
	reading   bool      // somebody waits for the response's body

	write, read time.Time // the deadlines in force of the limits of these names
}

// start sets the limits that hold from the beginning.
func (w *watchdog) start(limits limits, cancel context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limits, w.cancel = limits, cancel
	w.schedule()
}

// gotConnection is told when the library begins to write the request's head, each time if it begins again.
func (w *watchdog) gotConnection() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected = true
	if w.cause != nil {
		return // but it counts that a connection was there
	}
	w.sent = false
	w.write, w.read = after(w.limits.write), time.Time{}
	w.schedule()
}

// bodyAsked is told when the library wants more of the request's body, so that all it was given before is on its way.
func (w *watchdog) bodyAsked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent || w.cause != nil {
		return
	}
	if w.begun.IsZero() {
		w.begun = time.Now()
	}
	w.waiting, w.write = true, time.Time{}
}

// bodyGiven is told when the library has more of the request's body, or its end.
func (w *watchdog) bodyGiven() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent || w.cause != nil {
		return
	}
	w.waiting, w.write = false, after(w.limits.write)
	w.schedule()
}

// requestSent is told when all of the request is written, or nothing more of it will be.
func (w *watchdog) requestSent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cause != nil {
		return // it is written no more for that cause
	}
	if !w.begun.IsZero() && !w.limits.head.IsZero() {
		w.limits.head = w.limits.head.Add(time.Since(w.begun))
	}
	w.sent, w.waiting, w.begun, w.write = true, false, time.Time{}, time.Time{}
	if !w.answered || w.reading {
		w.read = after(w.limits.read)
	}
	w.schedule()
}

// gotHead is told when the response's head is there.
func (w *watchdog) gotHead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered, w.read = true, time.Time{}
}

// reads is told when somebody begins and ends to wait for the response's body. While the request isn't sent, the instance
// may be waiting for the rest of it, and whose silence it is nobody knows: a conversation is quiet while its client is.
func (w *watchdog) reads(reading bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reading, w.read = reading, time.Time{}
	if reading && w.sent {
		w.read = after(w.limits.read)
		w.schedule()
	}
}

// end is told when no limit holds any more.
func (w *watchdog) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// broken returns errSlow or errOver if a limit was broken, and else nil.
func (w *watchdog) broken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// blame tells what a limit was broken in, before the response's head: the state stays as it was then. A call whose time is
// over while its client had nothing to send says nothing about the instance.
func (w *watchdog) blame() (model.RetryWhen, health.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.connected:
		return model.WhenConnect, health.ConnectTimeout
	case w.sent:
		return model.WhenRead, health.ReadTimeout
	case w.waiting:
		return model.WhenWrite, health.Canceled
	default:
		return model.WhenWrite, health.WriteTimeout
	}
}

// schedule makes the timer fire no later than the next deadline. mu is held.
func (w *watchdog) schedule() {
	next := w.limits.end
	for _, deadline := range []time.Time{w.head(), w.write, w.read} {
		if next.IsZero() || !deadline.IsZero() && deadline.Before(next) {
			next = deadline
		}
	}
	if w.ended || w.cause != nil || next.IsZero() || !w.due.IsZero() && !next.Before(w.due) {
		return
	}
	w.due = next
	if w.timer == nil {
		w.timer = time.AfterFunc(time.Until(next), w.expire)
	} else {
		w.timer.Reset(time.Until(next))
	}
}

// head is the deadline of the response's head as it stands. While the request's body is sent, it rests. mu is held.
func (w *watchdog) head() time.Time {
	if w.answered || !w.begun.IsZero() {
		return time.Time{}
	}
	return w.limits.head
}

// expire is what the timer does.
func (w *watchdog) expire() {
	w.mu.Lock()
	w.due = time.Time{}
	switch {
	case w.ended:
	case isOver(w.limits.end), isOver(w.head()):
		w.cause = errOver
	case isOver(w.write), isOver(w.read):
		w.cause = errSlow
	default:
		w.schedule()
	}
	cause := w.cause
	w.mu.Unlock()
	if cause != nil {
		w.cancel(cause)
	}
}

func isOver(deadline time.Time) bool { return !deadline.IsZero() && !time.Now().Before(deadline) }

// after is the deadline of a limit that begins now; none if there is no limit.
func after(limit time.Duration) time.Time {
	if limit <= 0 {
		return time.Time{}
	}
	return time.Now().Add(limit)
}
