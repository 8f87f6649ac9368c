package agent

import "github.com/ufc-mesh/ufc/shared/health"

// trialShare is the most of a group's requests that go to instances whose ban by deviation is being tried: what they answer
// may still be wrong, and no retry mends that.
const trialShare = 0.01

// try makes the call's attempt on an instance that is half open, if it is one's turn. Only first attempts are trials, so
// that a retry gets a sound instance.
func (c *Call) try(split int, from *candidates) *Attempt {
	if c.attempts > 0 {
		return nil
	}
	rare := c.request.Fraction() < trialShare
	begin := int(c.request.Fraction() * float64(len(from.trials)))
	for n := range from.trials {
		i := from.trials[(begin+n)%len(from.trials)]
		state := i.pulse.State()
		if state != health.Trying && (state != health.Rarely || !rare) {
			continue
		}
		if i.pulse.Try(c.request.Now, c.Timeouts().Total.Std()) {
			attempt := c.attemptFrom(i, split, from)
			attempt.trial = true
			return attempt
		}
	}
	return nil
}
