package agent

import (
	"errors"
	"time"
)

// MaxPatience is how long a call may wait for a callee that the agent has yet to read about. Some milliseconds are usual; by DNS,
// the least patient programs ask again after two seconds.
const MaxPatience = 1500 * time.Millisecond

// ErrNotFollowed is the Fetch's error of a service that the agent isn't to follow.
var ErrNotFollowed = errors.New("this agent doesn't follow the service")

// noDocument is the detail of a refusal.
const noDocument = "no document names it"

// Find returns nil if documents name the service. If the agent has yet to read about it, that is waited for, for patience
// at most. Else it returns the refusal of those who ask for it, which isn't counted.
func (a *Agent) Find(service string, patience time.Duration) *Refusal {
	if a.service(service) != nil {
		return nil
	}
	refuse := func(reason, detail string) *Refusal {
		return &Refusal{Reason: reason, Service: service, Detail: detail}
	}
	if !a.catalog.Synced() {
		return refuse(ReasonNotSynced, "no configuration has been received from etcd yet, and there was no snapshot")
	}
	err := a.fetch(service, patience)
	switch {
	case errors.Is(err, ErrNotFollowed):
		return refuse(ReasonUnknownService, "this agent follows the services that its option follow names, and not this one")
	case err != nil:
		return refuse(ReasonNotSynced, "etcd has yet to tell this agent whether there is this service")
	case a.service(service) == nil:
		return refuse(ReasonUnknownService, noDocument)
	}
	return nil
}

// patience is how long the call may wait for its callee to be read about.
func (c *Call) patience() time.Duration {
	if c.Timeout == 0 {
		return MaxPatience
	}
	return min(c.Timeout, MaxPatience)
}

// postpone begins the call now that its callee is known: how long that took is none of the callee's. What is left of the
// chain's time is less.
func (c *Call) postpone() {
	waited := c.agent.now() - c.begun
	c.begun += waited
	switch {
	case c.Timeout > waited:
		c.Timeout -= waited
	case c.Timeout > 0:
		c.Timeout = -1
	}
}

// Uses returns a number that changes when somebody calls the service, or the service calls another; 0 before that.
func (a *Agent) Uses(service string) (uses uint64) {
	for name, callee := range *a.services.Load() {
		if name == service {
			for _, l := range callee.lines.all() {
				uses += l.uses()
			}
			if !callee.sleeps() {
				uses += sum(callee.reporting.handedOut) + sum(callee.reporting.reported)
			}
		} else if l := callee.lines.all()[service]; l != nil {
			uses += l.uses()
		}
	}
	return uses
}

// uses counts the line's calls, those refused, too.
func (l *line) uses() (uses uint64) {
	for _, count := range l.requests.all() {
		uses += sum(count)
	}
	for _, count := range l.refused.all() {
		uses += count.Load()
	}
	return uses
}
