package forward

import (
	"context"
	"net/http"
	"net/textproto"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// hedgeAfter returns when a second attempt is worth it, if it is safe: the call's first attempt is at hand, it may reach
// two instances, and both can send the same.
func (d *delivery) hedgeAfter() (time.Duration, bool) {
	if d.call.Attempts() > 1 || d.upload != nil || !d.again || upgradeType(d.request.Header) != "" {
		return 0, false
	}
	return d.call.HedgeAfter()
}

// race makes the first attempt and, if it has no response after a time, a second one on another instance. The first
// response wins, and the other attempt is canceled, which says nothing about its instance. If one fails, the other goes on.
func (d *delivery) race(first *agent.Attempt, after time.Duration) reply {
	d.shared = true                                                        // the loser may take a moment to notice
	d.informational = func(int, textproto.MIMEHeader) error { return nil } // whose would they be?
	answers := make(chan reply, 2)
	runners := []*runner{d.start(first, answers)}
	late := time.NewTimer(after)
	defer late.Stop()
	var got reply
	for ended := 0; ended < len(runners); {
		select {
		case got = <-answers:
			ended++
			if got.failed == nil {
				d.leave(runners, got.attempt, answers, len(runners)-ended)
				return got
			}
		case <-late.C:
			if hedge := d.call.Hedge(); hedge != nil {
				runners = append(runners, d.start(hedge, answers))
			}
		}
	}
	return got
}

// runner is an attempt that runs by itself.
type runner struct {
	attempt *agent.Attempt
	cancel  context.CancelFunc
}

// start makes an attempt on a goroutine of the forwarder's.
func (d *delivery) start(attempt *agent.Attempt, answers chan<- reply) *runner {
	x := d.address(attempt)
	ctx, cancel := context.WithCancel(x.ctx)
	x.ctx, x.cancel = ctx, cancel
	d.forwarder.spawn(func() { answers <- d.try(x, attempt) })
	return &runner{attempt, cancel}
}

// leave gives up the attempts that didn't win.
func (d *delivery) leave(runners []*runner, winner *agent.Attempt, answers <-chan reply, open int) {
	for _, r := range runners {
		if r.attempt != winner {
			r.cancel()
		}
	}
	if open > 0 {
		d.forwarder.spawn(func() { discard((<-answers).resp) })
	}
}

// discard gives back a response that nobody wants.
func discard(resp *http.Response) {
	if resp != nil {
		resp.Body.Close()
	}
}
