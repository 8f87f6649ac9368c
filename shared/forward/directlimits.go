package forward

import (
	"errors"
	"os"
	"time"
)

// limit is when something has lasted too long, and the error of that.
type limit struct {
	at   time.Time // zero: never
	over error
}

func (l *limit) set() bool { return !l.at.IsZero() }

// after ends what began then by a limit of the attempt's own. 0: by none.
func (l *limit) after(begun time.Time, most time.Duration) {
	if most > 0 {
		l.sooner(begun.Add(most), errSlow)
	}
}

// end ends it by a time limit of the call's.
func (l *limit) end(at time.Time) {
	if !at.IsZero() {
		l.sooner(at, errOver)
	}
}

func (l *limit) sooner(at time.Time, over error) {
	if l.at.IsZero() || at.Before(l.at) {
		l.at, l.over = at, over
	}
}

// readLimited reads within the time limits, which change when the request's body has been sent.
func (c *directConn) readLimited(p []byte) (int, error) {
	begun := c.sentAt
	if !c.unsent {
		begun = time.Now()
	}
	for now := begun; ; now = time.Now() {
		by := c.readLimit(begun)
		if by.set() && !now.Before(by.at) {
			c.limited = by.over
			return 0, by.over
		}
		if c.up.sending() {
			by = c.lookAgain(by, now)
		}
		if c.readBy.wants(by.at, now) {
			_ = c.conn.SetReadDeadline(by.at) // fails on a closed connection only, as Read will
		}
		if c.up.ended() && c.sentAt != c.up.at {
			continue // just now. It may have failed, and woken us up before we lay down
		}
		n, err := c.readOnce(p)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c.readBy.known = false
	}
}

// readLimit returns the limit of a read that began then. As long as the request is being sent, the instance may wait for
// the rest of it: only the call's end counts.
func (c *directConn) readLimit(begun time.Time) (by limit) {
	by.end(c.x.limits.end)
	if c.up.sending() {
		return by
	}
	if c.up.ended() && c.sentAt != c.up.at {
		c.sent(c.up.at)
		c.sendErr = c.up.err
	}
	switch {
	case c.inHead && c.sendErr != nil:
		by.after(c.sentAt, lastWords)
	case c.inHead:
		by.end(c.headBy)
		by.after(c.sentAt, c.x.limits.read)
	case begun.Before(c.sentAt):
		by.after(c.sentAt, c.x.limits.read)
	default:
		by.after(begun, c.x.limits.read)
	}
	return by
}

// lookAgain returns when to look at the time again while the request is being sent: no later than a limit that the end of
// that would bring. So nobody need wake the reader up then.
func (c *directConn) lookAgain(by limit, now time.Time) limit {
	by.after(now, c.x.limits.read)
	if !c.headBy.IsZero() {
		by.end(now.Add(c.headBy.Sub(c.sentAt)))
	}
	return by
}

// writeLimited writes as long as the instance takes something. It may take twice the limit to find out that it doesn't
// any more, since a write that ended in time tells only that something was taken meanwhile.
func (c *directConn) writeLimited(p []byte) (n int, err error) {
	begun := time.Now()
	for now := begun; ; now = time.Now() {
		var by limit
		by.after(begun, c.x.limits.write)
		by.end(c.x.limits.end)
		if by.set() && !now.Before(by.at) {
			return n, by.over
		}
		if c.writeBy.wants(by.at, now) {
			_ = c.conn.SetWriteDeadline(by.at) // fails on a closed connection only, as Write will
		}
		m, err := c.conn.Write(p[n:])
		n += m
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c.writeBy.known = false
		if m > 0 {
			begun = time.Now()
		}
	}
}

// alarm is a deadline of a connection that is set as seldom as can be. One that comes too early wakes the reader or
// writer, who looks at the time and sets it anew; so one setting is enough for all requests of some seconds.
type alarm struct {
	at    time.Time // zero: none is set
	known bool      // false: it has gone off, or another goroutine has set it
}

// wants tells whether the deadline must be set, and takes note that it is.
func (a *alarm) wants(by, now time.Time) bool {
	if a.known && (a.at.IsZero() && by.IsZero() || a.at.After(now) && (by.IsZero() || !a.at.After(by))) {
		return false
	}
	a.at, a.known = by, true
	return true
}
