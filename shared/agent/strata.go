package agent

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// strata are a line's strata, which hold the attempts that may be compared with each other, by route and split.
type strata struct {
	list atomic.Pointer[strataOf]
	mu   sync.Mutex // of the writers
}

// strataOf are the strata under one document of the callee: under another one a route's number may mean something else. It never
// changes.
type strataOf struct {
	service *model.Service
	strata  []*health.Stratum // by path.first + split; nil: no attempt yet
}

// at returns the stratum of a number under a document; nil if there is none yet.
func (o *strataOf) at(service *model.Service, number int) *health.Stratum {
	if o != nil && o.service == service && number < len(o.strata) {
		return o.strata[number]
	}
	return nil
}

// stratum returns the stratum of an attempt on a split of the call's route; nil, so that it is compared with none, if the
// callee's document has changed since the call began.
func (c *Call) stratum(split int) *health.Stratum {
	to := c.path
	t, of, number := &c.line.strata, c.plan.service, to.first+split
	if known := t.list.Load().at(of, number); known != nil {
		return known // fast path
	}
	if c.service.state.Load().view.Service != of {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.list.Load()
	if known := old.at(of, number); known != nil {
		return known
	}
	next := &strataOf{service: of}
	if old != nil && old.service == of {
		next.strata = slices.Clone(old.strata)
	}
	for len(next.strata) <= number {
		next.strata = append(next.strata, nil)
	}
	next.strata[number] = health.NewStratum(nameOfStratum(c.line.caller, c.Route(), len(to.subsets), split))
	t.list.Store(next)
	return next.strata[number]
}

func nameOfStratum(caller string, route, splits, split int) string {
	name := "caller " + caller
	if route >= 0 {
		name += fmt.Sprintf(", route %d", route)
	}
	if splits > 1 {
		name += fmt.Sprintf(", split %d", split)
	}
	return name
}
