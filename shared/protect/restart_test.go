package protect

import (
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// A snapshot holds what is held, and so does an agent that starts from it.
func TestRestart(t *testing.T) {
	timed("all", t, func(r *rig) {
		r.put(append(some("shop", 1, 20), "shop", "~")...)
		r.list()
		r.gone(append(some("shop", 1, 20), "shop", "~")...)
		r.list()
		var records []model.Record
		r.guard.Records(func(record model.Record) bool {
			records = append(records, record)
			return true
		})
		r.restart(0.5)
		r.guard.Replace(1, records)
		r.guard.AsOf(time.Now())
		r.list()
		r.holds(22)
	})
}

// What went one by one before the hold counts after a restart, too.
func TestRestartInTheMiddle(t *testing.T) {
	timed("all", t, func(r *rig) {
		r.put(append(some("shop", 1, 20), some("bag", 1, 20)...)...)
		r.list()
		for n := 1; n <= 13; n++ {
			r.tell(r.gone(some("shop", n, n)...)...)
		}
		r.inForce("shop", 10)
		restart := func() {
			var records []model.Record
			r.guard.Records(func(record model.Record) bool {
				records = append(records, record)
				return true
			})
			held := r.guard.Held()
			r.restart(0.5)
			r.guard.Replace(r.revision, records)
			r.guard.Resume(held)
		}
		restart()
		r.list()
		r.holds(3)
		r.wait(time.Hour)
		r.tell(r.gone("bag/1")...)
		r.holds(3)
		restart()
		r.list()
		r.inForce("shop", 10)
		r.tell(r.confirm(""))
		if r.holds(0); r.guard.Held() != nil {
			t.Error("something is held after the confirmation")
		}
		restart()
		r.list()
		r.same()

		// Some went before, but nothing is missing now.
		for n := 2; n <= 12; n++ {
			r.tell(r.gone(some("bag", n, n)...)...)
		}
		r.holds(2)
		r.put("bag/11", "bag/12")
		restart()
		r.list()
		if s := r.guard.services["bag"]; s != nil && s.hold != nil {
			t.Error("a hold of nothing")
		}
		r.tell(r.put(some("bag", 2, 10)...)...)
		r.wait(2 * time.Minute)

		// Meanwhile they may have come back.
		r.tell(r.gone(some("bag", 2, 20)...)...)
		held := r.guard.Held()
		r.put(some("bag", 2, 20)...)
		r.restart(0.5)
		r.list()
		r.guard.Resume(held)
		r.list()
		if r.guard.Held() != nil {
			t.Error("something is held")
		}
		r.tell(r.gone("bag/2")...)
		r.same()
	})
}

// The same in a mesh of which only the whole is too small.
func TestRestartOfSmallServices(t *testing.T) {
	timed("all", t, func(r *rig) {
		var all []string
		for n := range 20 {
			all = append(all, some("s"+string(rune('a'+n)), 1, 1)...)
		}
		r.put(all...)
		r.list()
		for _, name := range all[:13] {
			r.tell(r.gone(name)...)
		}
		r.holds(3)
		var records []model.Record
		r.guard.Records(func(record model.Record) bool {
			records = append(records, record)
			return true
		})
		held := r.guard.Held()
		held.Services = nil // the mesh's alone
		r.restart(0.5)
		r.guard.Replace(r.revision, records)
		r.guard.Resume(held)
		r.list()
		r.holds(3)
	})
}
