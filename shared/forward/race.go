package forward

import (
	"context"
	"errors"
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
	runners := []*exchange{d.start(first, answers)}
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

// errLost is why an attempt ends beside one that was quicker.
var errLost = errors.New("another attempt was quicker")

// start makes an attempt on a goroutine of the forwarder's.
func (d *delivery) start(attempt *agent.Attempt, answers chan<- reply) *exchange {
	x := d.address(attempt)
	ctx, cancel := context.WithCancelCause(x.ctx)
	x.ctx, x.cancel = ctx, func() { cancel(errLost) }
	d.forwarder.spawn(func() { answers <- d.try(x) })
	return x
}

// leave gives up the attempts that didn't win.
func (d *delivery) leave(runners []*exchange, winner *agent.Attempt, answers <-chan reply, open int) {
	for _, x := range runners {
		if x.attempt != winner {
			x.cancel()
		}
	}
	if open > 0 {
		d.forwarder.spawn(func() {
			if late := <-answers; late.resp != nil {
				late.resp.Body.Close()
			}
		})
	}
}
