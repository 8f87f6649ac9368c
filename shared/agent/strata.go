package agent

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ufc-mesh/ufc/shared/health"
)

// strata are the attempts of one line that may be compared with each other, by route and split.
type strata struct {
	list atomic.Pointer[[]*health.Stratum] // by path.first + split; immutable
	mu   sync.Mutex                        // of the writers
}

// reset forgets them: routes have changed, and numbers mean something else.
func (t *strata) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list.Store(nil)
}

func (t *strata) at(number int) *health.Stratum {
	if list := t.list.Load(); list != nil && number < len(*list) {
		return (*list)[number]
	}
	return nil
}

// stratum returns what an attempt on the nth split of the call's route is compared with.
func (c *Call) stratum(to *path, split int) *health.Stratum {
	t, number := &c.line.strata, to.first+split
	if known := t.at(number); known != nil {
		return known // fast path
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.at(number); known != nil {
		return known
	}
	var list []*health.Stratum
	if old := t.list.Load(); old != nil {
		list = append(list, *old...)
	}
	for len(list) <= number {
		list = append(list, nil)
	}
	list[number] = health.NewStratum(nameOfStratum(c.line.caller, c.Route(), len(to.subsets), split))
	t.list.Store(&list)
	return list[number]
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
