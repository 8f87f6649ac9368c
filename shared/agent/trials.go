package agent

import "github.com/ufc-mesh/ufc/shared/health"

// trialShare is the largest share of a group's requests that are trials of instances banned by deviation: what those answer may
// still be wrong, and isn't retried.
const trialShare = 0.01

// try makes the call's attempt a trial of a half-open instance, if one may have a trial now; nil if none may. Only first attempts
// are trials, so that retries go to sound instances.
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
