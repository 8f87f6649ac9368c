package forward

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// overrides are the time limits that a client asks for. Zero: none.
type overrides struct {
	connect, write, read time.Duration
}

// maxMilliseconds bounds what a client may say of time: a day.
const maxMilliseconds = 24 * 3600 * 1000

// readMilliseconds returns the value of a header in milliseconds; 0 if it isn't there.
func readMilliseconds(header http.Header, name string, least int64) (time.Duration, bool, error) {
	if header[name] == nil {
		return 0, false, nil
	}
	text, err := single(header, name, nil)
	if err != nil || text == "" {
		return 0, false, err
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < least || value > maxMilliseconds {
		return 0, false, fmt.Errorf("header %s: %.20q is not a number of milliseconds from %d to %d", strings.ToLower(name), text, least, maxMilliseconds)
	}
	return time.Duration(value) * time.Millisecond, true, nil
}

// limitsOf returns the time limits in force of a call that has begun.
func limitsOf(call *agent.Call, client overrides) limits {
	set := call.Timeouts()
	l := limits{connect: set.Connect.Std(), write: set.Write.Std(), read: set.Read.Std()}
	if call.Service().Timeouts.ClientOverride {
		own := l
		l.connect, l.write, l.read = cmp.Or(client.connect, l.connect), cmp.Or(client.write, l.write), cmp.Or(client.read, l.read)
		if call.Avalanche() {
			l.connect, l.write, l.read = min(own.connect, l.connect), min(own.write, l.write), min(own.read, l.read)
		}
		l.hasty.connect, l.hasty.write, l.hasty.read = l.connect < own.connect, l.write < own.write, l.read < own.read
	}
	begun := call.Begun()
	l.head = begun.Add(set.Total.Std())
	if call.Timeout > 0 {
		l.end = begun.Add(call.Timeout)
	}
	return l
}

// until returns when the time is over in which a response must begin. Zero: never.
func (l *limits) until() time.Time {
	if l.clientsOwn() {
		return l.end
	}
	return l.head
}

// clientsOwn tells whether the client's time is over before the policy's.
func (l *limits) clientsOwn() bool {
	return !l.end.IsZero() && (l.head.IsZero() || l.end.Before(l.head))
}

// milliseconds writes what is left of a call's time, for the next one in the chain. Less than one counts as one: 0 would
// say that it is over.
func milliseconds(left time.Duration) []string {
	return []string{strconv.FormatInt(max(left.Milliseconds(), 1), 10)}
}
