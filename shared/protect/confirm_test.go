package protect

import (
	"strings"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestConfirmation(t *testing.T) {
	begin := func(r *rig) {
		r.put(append(some("shop", 1, 20), some("bag", 1, 10)...)...)
		r.list()
		r.tell(r.gone(append(some("shop", 1, 20), some("bag", 1, 10)...)...)...)
		r.holds(30)
	}
	timed("of one service", t, func(r *rig) {
		begin(r)
		r.tell(r.confirm("shop"))
		r.inForce("shop", -1)
		r.inForce("bag", 10)
		r.tell(r.confirm("nobody"))
		r.holds(10)
		r.tell(r.confirm("bag"))
		r.same()
	})
	timed("and the rest is judged by what is left", t, func(r *rig) {
		r.put(append(append(some("big", 1, 100), some("bag", 1, 10)...), append(some("rest", 1, 12), "lone/1")...)...)
		r.list()
		r.tell(r.gone(append(some("big", 1, 100), some("bag", 1, 10)...)...)...)
		r.holds(110)
		r.tell(r.confirm("big"))
		r.wait(2 * time.Minute)
		r.tell(r.gone("lone/1")...) // the mesh has 12 of 23
		r.inForce("lone", -1)
		r.holds(10)
	})
	timed("of what went before only", t, func(r *rig) {
		begin(r)
		confirmed := r.confirm("")
		r.tell(r.put(some("shop", 1, 20)...)...)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.tell(confirmed)
		r.inForce("shop", 20)
		r.inForce("bag", -1)
	})
	timed("of another etcd", t, func(r *rig) {
		begin(r)
		copied := r.confirm("")
		copied.Confirm.Revision = 4000
		r.tell(copied)
		r.holds(30)
		if !strings.Contains(r.log.String(), "of another etcd") {
			t.Errorf("the log says %s", r.log.String())
		}
	})
	timed("from before a restored etcd's", t, func(r *rig) {
		begin(r)
		r.revision = 1000
		old := r.confirm("") // of another removal
		r.revision = 5000
		r.tell(r.put(some("bag", 1, 10)...)...)
		r.tell(r.gone(some("bag", 1, 10)...)...)
		r.revision = 2000
		r.guard.Replace(r.revision, []model.Record{old})
		r.inForce("shop", -1) // that was before
		r.inForce("bag", 10)
		if status := r.guard.Status(); status.Revision != 2000 {
			t.Errorf("%+v", status)
		}
		r.guard.Apply(2001, []model.Record{r.confirm("")})
		r.inForce("bag", -1)
	})
	timed("while the watch was lost", t, func(r *rig) {
		r.put(append(some("shop", 1, 20), "lone/1")...)
		r.list()
		r.gone(some("shop", 1, 20)...)
		confirmed := r.confirm("")
		r.guard.Replace(r.revision, []model.Record{r.etcd["lone/1"], confirmed})
		r.inForce("shop", -1)
		r.guard.Apply(r.revision, r.gone("lone/1")) // what was confirmed is no loss any more
		r.inForce("lone", -1)
	})
	timed("while the agent was down", t, func(r *rig) {
		r.put(append(some("shop", 1, 20), some("bag", 1, 10)...)...)
		r.list()
		snapshot := contents(r.views)
		asOf := r.revision
		restart := func() {
			r.restart(0.5)
			var records []model.Record
			for _, record := range snapshot {
				record.Revision = 1
				records = append(records, record)
			}
			r.guard.Replace(asOf, records)
		}
		listWith := func(extra ...model.Record) {
			for _, record := range r.etcd {
				extra = append(extra, record)
			}
			r.guard.Replace(r.revision, extra)
		}
		r.gone(append(some("shop", 1, 20), some("bag", 1, 10)...)...)
		restart()
		listWith()
		r.holds(30)
		confirmed := r.confirm("")
		restart()
		listWith(confirmed) // the only key of an emptied etcd
		r.holds(0)
		r.inForce("shop", -1)
		r.guard.Apply(r.revision+1, r.put(some("new", 1, 4)...))
		r.guard.Apply(r.revision, r.gone("new/1"))
		r.holds(0)

		// Here something else is missing that there was when it was confirmed.
		r.put(some("bag", 1, 10)...)
		confirmed = r.confirm("")
		r.gone(some("bag", 1, 10)...)
		restart()
		listWith(confirmed)
		r.holds(30)

		r.put(some("bag", 1, 10)...)
		confirmed = r.confirm("shop")
		restart()
		listWith(confirmed)
		r.inForce("shop", -1)
		r.inForce("bag", 10)
		r.guard.Apply(r.revision, r.gone("bag/1")) // by what was confirmed the mesh has lost nothing
		r.inForce("bag", 9)

		r.put(some("shop", 1, 20)...)
		confirmed = r.confirm("shop")
		r.gone(some("shop", 1, 20)...)
		restart()
		listWith(confirmed)
		r.inForce("shop", 20)
	})
}

func TestSettingsChange(t *testing.T) {
	timed("off", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.guard.SetShare(0)
		r.inForce("shop", 20) // not before etcd says something
		r.guard.SetShare(0.5)
		r.quiet()
		r.inForce("shop", 20)
		r.guard.SetShare(0)
		r.quiet()
		r.same()
	})
	timed("on", t, func(r *rig) {
		r.guard.SetShare(0)
		r.put(some("shop", 1, 20)...)
		r.list()
		r.guard.SetShare(0.5)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.holds(20)
	})
	timed("higher", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.tell(r.gone(some("shop", 1, 12)...)...)
		r.holds(12)
		r.guard.SetShare(0.7)
		r.wait(80 * time.Second)
		r.same()
	})
}
