package health

import (
	"math"
	"time"
)

// trials counts the outcomes of a half-open instance's trials.
type trials struct {
	heard     bool // an outcome came since unheard last looked
	successes int
	probes    int     // successful probes that count as trials, since no outcomes came
	bad       float64 // successes whose status was 4xx or 5xx
	expected  float64 // how many of them the other instances would have answered so, by their share
	latency   moments // of ln(ms)
	others    moments // of the other instances' mean ln(ms), taken at each trial
}

const (
	trialSuccesses  = 3  // that end a ban
	deviationTrials = 20 // that end a ban by deviation, or begin the next
	// probeTrials is the pause between the probes that count as trials.
	probeTrials = time.Second
)

// ending says what ends a ban for the reason.
func (r Reason) ending() string {
	switch {
	case r.deviation():
		return "20 trials, and neither their share of errors nor their latency deviates from the others'"
	case r == ByNeighbour:
		return "the agent that banned it has taken that back"
	}
	return "three trials or probes succeeded in a row"
}

func (t *trials) inputs() map[string]float64 {
	return map[string]float64{"successes": float64(t.successes), "probes": float64(t.probes), "bad": t.bad, "expected": t.expected}
}

// expire is called when a ban's time is over: the port is probed, and if it answers, trials begin; else the ban goes on for its
// duration again.
func (s *Service) expire(i *Instance, b *ban) {
	defer s.deliver()
	s.mu.Lock()
	over := s.over(i, b)
	s.mu.Unlock()
	if over {
		return
	}
	err := s.probe(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over(i, b) || s.monitor.ctx.Err() != nil:
	case err != nil:
		s.extend(i, b, err)
	default:
		s.halfOpen(i, b)
	}
}

// over tells whether a timer of a ban has nothing more to do: the ban has ended, or it ends now, since its instance has left the
// list, or since it was a neighbour's and its time is over. The lock is held.
func (s *Service) over(i *Instance, b *ban) bool {
	switch {
	case s.closed || i.ban != b:
		return true
	case i.gone:
		i.ban = nil
		if s.instances.find(i.Address) == i {
			s.instances.remove(i)
			s.forget(i)
			s.decide(i, Decision{Kind: Lifted, Reason: b.reason, Detail: "it has left the callee's list"})
		}
		return true
	case b.reason == ByNeighbour:
		if s.monitor.now() >= b.until { // else the neighbour has just prolonged it, and another timer runs
			s.takeBack(i, "its time is over")
		}
		return true
	}
	return false
}

// extend lets a ban go on, since the port didn't answer. The lock is held.
func (s *Service) extend(i *Instance, b *ban, err error) {
	again, doubtful := s.monitor.jittered(b.duration), TimedOut(err)
	if OwnFault(err) { // the probe says nothing about the instance
		again, doubtful = min(again, time.Second), b.doubtful
	}
	now := s.monitor.now()
	first := b.until == b.since+b.duration
	same := i.State() == Out && b.doubtful == doubtful
	b.lastErr, b.doubtful, b.until, b.halfOpen, b.trials = err.Error(), doubtful, now+again, false, trials{}
	if i.State() != Out {
		i.set(Out)
	}
	b.timer = s.monitor.after(again, func() { s.expire(i, b) })
	d := Decision{
		Kind: Extended, Reason: b.reason, Duration: again, BannedFor: i.known().record.spent + now - b.since, Detail: err.Error(), Same: same,
		Rule: "the port must answer a probe when the ban's time is over", Needed: "a probe that succeeds",
	}
	if first {
		s.decide(i, d)
	} else {
		s.tell(i, d) // the hundredth failed probe of a dead instance must not push other decisions out of the memory
	}
}

// halfOpen begins the trials. The lock is held.
func (s *Service) halfOpen(i *Instance, b *ban) {
	b.halfOpen, b.trials = true, trials{}
	state := Trying
	if b.reason.deviation() {
		state = Rarely
	}
	i.set(state)
	s.decide(i, Decision{Kind: HalfOpen, Reason: b.reason, Rule: "the port answered a probe", Needed: b.reason.ending()})
	b.timer = s.monitor.after(s.patience(b), func() { s.unheard(i, b) })
}

// patience is how long to wait for outcomes of trials before a probe stands for one: as long as a request may take. After a ban
// by deviation, which no probe can disprove, it is as long as failures are remembered.
func (s *Service) patience(b *ban) time.Duration {
	if b.reason.deviation() {
		return forget
	}
	return s.policy.Load().TrialTimeout
}

// unheard is called when patience is over. If no outcome of a trial has come, since there are no requests or since nobody
// reports them, successful probes count as trials. After a ban by deviation a single one ends the ban.
func (s *Service) unheard(i *Instance, b *ban) {
	defer s.deliver()
	s.mu.Lock()
	over, heard := s.over(i, b), b.trials.heard
	if !over && heard {
		b.trials.heard = false
		b.timer = s.monitor.after(s.patience(b), func() { s.unheard(i, b) })
	}
	s.mu.Unlock()
	if over || heard {
		return
	}
	err := s.probe(i)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over(i, b) || s.monitor.ctx.Err() != nil:
	case err != nil:
		s.extend(i, b, err)
	case b.reason.deviation():
		s.end(i, Reopened, "nobody has told of a trial for "+forget.String())
	default:
		if b.trials.probes++; b.trials.successes+b.trials.probes >= trialSuccesses {
			s.end(i, Reopened, "")
		} else {
			b.timer = s.monitor.after(probeTrials, func() { s.unheard(i, b) })
		}
	}
}

// tried takes the outcome of a trial. The lock is held.
func (s *Service) tried(i *Instance, o *Observation) {
	b := i.ban
	b.trials.heard = true
	if o.Result.Failure() {
		s.relapse(i, "a trial failed: "+o.Result.String())
		return
	}
	t := &b.trials
	t.successes++
	if !b.reason.deviation() {
		if t.successes+t.probes >= trialSuccesses {
			s.end(i, Reopened, "")
		}
		return
	}
	s.weigh(t, o)
	if deviates := t.deviates(b.reason); t.successes >= deviationTrials && !deviates {
		s.end(i, Reopened, "")
	} else if deviates && (t.successes >= deviationTrials || b.reason == ByStatus && t.hopeless()) {
		s.relapse(i, "the trials deviate still")
	}
}

// weigh adds a trial, and what the other instances of its stratum answer, for comparison.
func (s *Service) weigh(t *trials, o *Observation) {
	if o.Latency > 0 {
		t.latency.add(logMilliseconds(o.Latency))
	}
	if o.Stratum == nil {
		return
	}
	n, bad, latency := s.others(o.Stratum, o.Instance, s.monitor.now())
	if n > 0 { // else there is nothing to compare the status with
		t.expected += bad / n
		if o.Code >= 400 {
			t.bad++
		}
	}
	if latency.n > 0 {
		t.others.add(latency.mean())
	}
}

// deviates tells whether the trials so far are over the effect floor of the deviation that the ban was for.
func (t *trials) deviates(reason Reason) bool {
	if reason == ByStatus {
		n := float64(t.successes)
		return muchMore(t.bad, n, t.expected, n)
	}
	if t.latency.n == 0 || t.others.n == 0 {
		return false
	}
	mine, theirs := t.latency.mean(), t.others.mean()
	return mine-theirs >= math.Log(leastRatio) && math.Exp(mine)-math.Exp(theirs) >= leastSlower
}

// hopeless tells whether the trials will deviate even if all of those still to come are good.
func (t *trials) hopeless() bool {
	most := t.expected / float64(t.successes) * deviationTrials
	return muchMore(t.bad, deviationTrials, most, deviationTrials)
}

// relapse bans a half-open instance again. The lock is held.
func (s *Service) relapse(i *Instance, detail string) {
	b := i.ban
	s.begin(i, Relapsed, b.badness, Decision{
		Reason: b.reason, Needed: b.reason.ending(), Rule: b.reason.ending(), Inputs: b.trials.inputs(), Detail: detail,
		Value: float64(b.trials.successes), Threshold: trialSuccesses,
	})
}
