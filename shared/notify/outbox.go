package notify

import (
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

const (
	// period is how far apart the messages of one service are at least.
	period = time.Minute
	// capQuiet is how long an instance's cap must not have been heard of to be news again. Package health repeats it every
	// minute while it lasts.
	capQuiet = 10 * time.Minute
	// memory is how long an instance is remembered of which nothing is heard: longer than any ban, which health speaks of
	// again at its end, so that only those are forgotten that have left, or are long back.
	memory = 48 * time.Hour
)

// outbox is what there is to tell of one service. Its goroutine delivers one message after the other.
type outbox struct {
	hooks   *Webhooks
	service string
	changed chan struct{} // with room for one: what is due may have changed
	posted  time.Time     // when the last try began; the goroutine's own

	// Guarded by hooks.mu:
	banned map[netip.AddrPort]*watched
	capped map[netip.AddrPort]time.Time // when that was last heard
	bans   queue
	caps   queue
}

// watched is an instance that is banned, or that was told of and may be banned again.
type watched struct {
	item
	heard time.Time     // the last decision
	told  bool          // since it last came back
	spent time.Duration // ban altogether when it was told of last; 0: it wasn't since it was last well
}

// queue is what waits for a message of one event: one item per instance, the newest.
type queue struct {
	event event
	items map[netip.AddrPort]*item
	since time.Time // of the oldest
}

func (q *queue) put(i item, now time.Time) {
	if len(q.items) == 0 {
		q.since, q.items = now, map[netip.AddrPort]*item{}
	}
	q.items[i.cause.Instance] = &i
}

func newOutbox(hooks *Webhooks, service string) *outbox {
	return &outbox{
		hooks: hooks, service: service, changed: make(chan struct{}, 1),
		banned: map[netip.AddrPort]*watched{}, capped: map[netip.AddrPort]time.Time{},
		bans: queue{event: longBan}, caps: queue{event: capReached},
	}
}

// take notes a decision. The lock is held.
func (o *outbox) take(d *health.Decision, after time.Duration) {
	now := time.Now()
	switch {
	case bans(d):
		o.ban(d, now)
	case returns(d):
		o.back(d, now, after)
	default:
		o.cap(d, now)
	}
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// ban notes that an instance is banned.
func (o *outbox) ban(d *health.Decision, now time.Time) {
	w := o.banned[d.Instance]
	if w == nil || d.Kind == health.Banned && d.BannedFor < w.spent { // it has been well since
		w = new(watched)
		o.banned[d.Instance] = w
	}
	begins := d.Kind == health.Banned || w.heard.IsZero() || !w.returned.IsZero()
	if begins {
		w.told, w.returned, w.since = false, time.Time{}, d.Time
		if d.Kind != health.Banned { // its beginning wasn't heard
			w.since = d.Time.Add(-d.BannedFor)
		}
	}
	if begins || d.Kind != health.Extended {
		w.cause, w.detail = *d, ""
	}
	if d.Detail != "" { // the last probe's error says more than the first one's
		w.detail = d.Detail
	}
	w.heard, w.began = now, now.Add(-d.BannedFor)
}

// back notes that an instance is back.
func (o *outbox) back(d *health.Decision, now time.Time, after time.Duration) {
	w := o.banned[d.Instance]
	if w == nil || !w.returned.IsZero() {
		return
	}
	o.look(w, now, after)               // it may have been due while a message was on its way
	w.spent = min(w.spent, d.BannedFor) // the judge's clock counts: by a later one the next ban would be of one that was well
	if waits := o.bans.items[d.Instance]; waits != nil && waits.returned.IsZero() {
		waits.returned = now
	}
	w.heard, w.returned = now, now
	if w.spent == 0 { // nothing to remember
		delete(o.banned, d.Instance)
	}
}

// cap notes that the cap protects an instance.
func (o *outbox) cap(d *health.Decision, now time.Time) {
	heard, known := o.capped[d.Instance]
	o.capped[d.Instance] = now
	if _, waits := o.caps.items[d.Instance]; waits || !known || now.Sub(heard) >= capQuiet {
		o.caps.put(item{cause: *d, detail: d.Detail, since: d.Time}, now)
	}
}

// look puts an instance that is due into the queue, and returns when to look again; zero: never, it is forgotten.
func (o *outbox) look(w *watched, now time.Time, after time.Duration) time.Time {
	address := w.cause.Instance
	forget := w.heard.Add(memory)
	if !now.Before(forget) {
		delete(o.banned, address)
		return time.Time{}
	}
	if w.told || !w.returned.IsZero() {
		return forget
	}
	if due := w.began.Add(w.spent + after); now.Before(due) {
		return due
	}
	if !o.hooks.Listed(o.service, address) {
		delete(o.banned, address)
		return time.Time{}
	}
	w.told, w.spent = true, now.Sub(w.began)
	o.bans.put(w.item, now)
	return forget
}

// next returns the message that is to be sent now, or when to look again, or neither if the outbox has come to its end.
func (o *outbox) next() (*message, time.Time) {
	o.hooks.mu.Lock()
	defer o.hooks.mu.Unlock()
	now, hook := time.Now(), o.hooks.Policy(o.service)
	if hook == nil { // no longer
		delete(o.hooks.services, o.service)
		return nil, time.Time{}
	}
	again := o.lookAtAll(now, hook.After.Std())
	if q := o.oldest(); q != nil {
		turn := o.posted.Add(period)
		if !now.Before(turn) {
			m := newMessage(q.event, o.service, o.hooks.Identity(), q.items, now)
			q.items = nil
			return m, time.Time{}
		}
		again = earlier(again, turn)
	}
	if again.IsZero() {
		delete(o.hooks.services, o.service)
	}
	return nil, again
}

// lookAtAll queues what is due, forgets what is old, and returns when to look again.
func (o *outbox) lookAtAll(now time.Time, after time.Duration) (again time.Time) {
	for _, w := range o.banned {
		again = earlier(again, o.look(w, now, after))
	}
	for address, heard := range o.capped {
		if quiet := heard.Add(capQuiet); now.Before(quiet) {
			again = earlier(again, quiet)
		} else {
			delete(o.capped, address)
		}
	}
	return again
}

// oldest returns the queue whose turn it is; nil if nothing waits.
func (o *outbox) oldest() *queue {
	bans, caps := len(o.bans.items) > 0, len(o.caps.items) > 0
	switch {
	case bans && (!caps || !o.caps.since.Before(o.bans.since)):
		return &o.bans
	case caps:
		return &o.caps
	}
	return nil
}

// earlier returns the earlier of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
