package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ufc-mesh/ufc/shared/fuse"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/route"
)

// Pick chooses an instance for the first attempt of a call and, called again, another one for the next. Its error is a
// *Refusal: no_instance when there is none, or none that the call may still try.
func (a *Agent) Pick(call *Call) (*Attempt, error) {
	again, paid := call.attempts > 0 && !call.HandOut, false
	if again {
		var err error
		if paid, err = call.payRetry(); err != nil {
			return nil, err
		}
	}
	attempt := call.pick()
	if attempt == nil {
		if paid {
			call.service.budget.earn(1)
		}
		detail := call.noneLeft()
		if call.attempts == 0 && call.Family == AnyFamily {
			return nil, a.Refuse(call, ReasonNoInstance, detail)
		}
		// Not counted as a refusal: the caller also asks for the other IP version, or is told the last attempt's failure.
		return nil, &Refusal{Reason: ReasonNoInstance, Service: call.Callee, Detail: detail}
	}
	if again {
		call.retries++
		call.service.retries.Add(1)
	}
	return attempt, nil
}

// payRetry takes a token of the retry budget for one more attempt, and tells whether it did: the retry of a refused connection
// costs none, since it adds nothing to what the callee has to do. Its error is a *Refusal: the call may not be retried.
func (c *Call) payRetry() (paid bool, err error) {
	paid = c.last.result() != health.ConnectError
	var detail string
	switch {
	case c.retries >= c.Retries().Attempts:
		detail = fmt.Sprintf("%d attempts failed", c.attempts)
	case paid && !c.service.budget.spend():
		detail = "the callee's retry budget is used up"
	case c.service.fuse.Avalanche() && !c.admit(fuse.Retry):
		detail = "the callee is overloaded, and the fuse admits no retry of this weight"
		if paid {
			c.service.budget.earn(1)
		}
	default:
		c.limit() // an avalanche may be over
		return paid, nil
	}
	return false, &Refusal{Reason: ReasonNoInstance, Service: c.Callee, Detail: detail}
}

// MayRetry tells whether Pick would allow a call whose last attempt failed one more, if there is an instance for it.
func (c *Call) MayRetry() bool {
	return c.retries < c.Retries().Attempts && (c.last.result() == health.ConnectError || c.service.budget.holds())
}

// pick makes an attempt on an instance that the call hasn't tried; nil if there is none.
func (c *Call) pick() *Attempt {
	if c.attempts > 0 {
		c.refresh()
	}
	attempt := c.pickByPlan()
	if attempt == nil && c.service.state.Load().plan.Load() != c.plan { // the instances that the old plan knows are banned by now
		c.follow(c.service.newest())
		attempt = c.pickByPlan()
	}
	return attempt
}

func (c *Call) pickByPlan() *Attempt {
	if attempt := c.pickOnRoute(false); attempt != nil {
		return attempt
	}
	return c.pickOnRoute(true)
}

// pickOnRoute tries the call's own split first, then the other splits of its route: among the instances that are up, or, if
// panicking, among the others too where too few are up.
func (c *Call) pickOnRoute(panicking bool) *Attempt {
	if attempt := c.pickInSplit(c.split, panicking); attempt != nil {
		return attempt
	}
	for _, n := range c.path.order {
		if n != c.split {
			if attempt := c.pickInSplit(n, panicking); attempt != nil {
				return attempt
			}
		}
	}
	return nil
}

// saltIDC makes the choice of an IDC independent of the other choices that go by the same key.
const saltIDC = 0x1dc

// pickInSplit tries the IDC whose turn it is by the table's shares first, then the table's other IDCs.
func (c *Call) pickInSplit(split int, panicking bool) *Attempt {
	home := c.IDC == c.plan.place.idc
	if from := c.plan.straight[c.Family].Load(); from != nil && home {
		return c.pickAmong(split, from, panicking, false)
	}
	t := c.plan.table(c.path.subsets[split], c.IDC)
	if home && c.plan.only != nil && len(t.groups) == 1 {
		c.plan.straight[c.Family].Store(t.groups[0].candidates(c.Family))
	}
	first, cold := 0, false
	if len(t.groups) > 1 {
		first = t.shares.Choose(route.Uniform(c.key, saltIDC))
	}
	if first >= 0 && first < len(t.groups) {
		g := t.groups[first]
		cold = len(t.groups) > 1 && !panicking && !g.candidates(c.Family).takes(&c.request)
		if attempt := c.pickInGroup(split, g, panicking, cold); attempt != nil {
			return attempt
		}
	}
	for _, n := range t.order {
		if n != first {
			if attempt := c.pickInGroup(split, t.groups[n], panicking, false); attempt != nil {
				return attempt
			}
		}
	}
	if cold { // and no other group has an instance
		return c.pickInGroup(split, t.groups[first], panicking, false)
	}
	return nil
}

func (c *Call) pickInGroup(split int, g *group, panicking, cold bool) *Attempt {
	return c.pickAmong(split, g.candidates(c.Family), panicking, cold)
}

// pickAmong lets the policy choose one of a group's candidates, after the instances on trial. Out of a cold group, which is in slow
// start as a whole and has had its share, it only makes trials.
func (c *Call) pickAmong(split int, from *candidates, panicking, cold bool) *Attempt {
	if len(from.trials) > 0 {
		if attempt := c.try(split, from); attempt != nil {
			return attempt
		}
	}
	if from.panic != panicking || cold {
		return nil
	}
	chosen := c.choose(from)
	if chosen == nil {
		return nil
	}
	attempt := c.attemptFrom(chosen, split, from)
	attempt.Panic = panicking
	return attempt
}

// attemptFrom makes an attempt on one of the candidates. It counts as in flight if the policy goes by that.
func (c *Call) attemptFrom(chosen *instance, split int, from *candidates) *Attempt {
	attempt := c.attempt(chosen)
	attempt.stratum, attempt.from = c.stratum(split), from
	if c.HandOut {
		if attempt.Number == 0 {
			c.service.reporting.hand(c.stripe, c.begun)
		}
	} else {
		attempt.tracked = true
		c.service.began(attempt)
		chosen.target.Began()
		if c.plan.hashes { // the other policies look at single instances only
			attempt.memory = from.memory
			attempt.memory.Began(c.stripe)
		}
	}
	return attempt
}

// mostPassed bounds how many instances one choice skips because they were banned after the plan was made.
const mostPassed = 16

// choose lets the policy choose an instance; nil if there is none.
func (c *Call) choose(from *candidates) *instance {
	tried := c.request.Tried
	for range mostPassed {
		index := c.policyFor(from).Pick(&c.request)
		if index < 0 {
			break
		}
		chosen := from.instances[index]
		if from.panic || chosen.pulse.State() == health.Up {
			c.request.Tried = tried
			return chosen
		}
		c.request.Tried = append(c.request.Tried, &chosen.target)
	}
	c.request.Tried = tried
	return nil
}

func (c *Call) noneLeft() string {
	total := c.plan.size
	switch {
	case total == 0:
		return "it has no instances"
	case c.attempts > 0:
		return fmt.Sprintf("all of its usable instances were tried: %d", c.attempts)
	case c.Route() >= 0:
		return fmt.Sprintf("none of its %d instances is one that route %d leads to and serves", total, c.Route())
	default:
		return fmt.Sprintf("none of its %d instances serves this caller: they are drained, down, of weight 0, of another IP version, "+
			"or in an IDC that the caller's has no row for", total)
	}
}

// PickAddress makes an attempt on the instance that a program says it has called, so that Done or Report can tell its outcome;
// nil if the callee has no such instance.
func (a *Agent) PickAddress(call *Call, address netip.AddrPort) *Attempt {
	now := call.service.state.Load()
	index, found := now.view.Find(address)
	if !found {
		return nil
	}
	attempt := call.attempt(now.instances[index])
	call.service.keepTicking()
	if !call.keyed {
		call.key, attempt.key = 0, 0 // unknown: there may have been one when the instance was chosen
	}
	if split := call.splitOf(attempt.instance); split >= 0 {
		attempt.stratum = call.stratum(split)
	}
	return attempt
}

// splitOf returns the split of the call's route that an instance belongs to, the call's own if it belongs to several; −1 if it
// belongs to none.
func (c *Call) splitOf(i *instance) int {
	to := c.path
	if to.route == nil || len(to.route.Splits) == 0 || hasLabels(i, to.route.Splits[c.split].Labels) {
		return c.split
	}
	return slices.IndexFunc(to.route.Splits, func(s route.Split) bool { return hasLabels(i, s.Labels) })
}
