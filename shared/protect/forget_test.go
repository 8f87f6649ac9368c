package protect

import (
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// What isn't followed any more goes at once, be it held, and isn't missed afterwards.
func TestForget(t *testing.T) {
	timed("held", t, func(r *rig) {
		r.put("shop", "bag")
		r.put(append(some("shop", 1, 20), some("bag", 1, 4)...)...)
		r.list()
		r.tell(r.gone(some("shop", 1, 18)...)...)
		r.holds(18)
		r.guard.Forget([]string{"shop"})
		r.holds(0)
		r.inForce("shop", -1)
		r.inForce("bag", 4)
	})
	timed("most of the mesh", t, func(r *rig) {
		r.put("shop", "bag", "hat")
		r.put(append(some("shop", 1, 20), append(some("bag", 1, 1), some("hat", 1, 3)...)...)...)
		r.list()
		r.guard.Forget([]string{"shop"})
		r.tell(r.gone("bag/1")...) // would be held if the mesh as a whole had lost too much
		r.holds(0)
		r.inForce("bag", 0)
		r.inForce("hat", 3)
	})
}

// Services that are followed from now on were there before: they make up for nothing that is held, and are protected at once.
func TestInclude(t *testing.T) {
	timed("a hold goes on", t, func(r *rig) {
		r.put("~", "hat/1")
		r.put(some("shop", 1, 20)...)
		r.list()
		r.gone(append([]string{"~", "hat/1"}, some("shop", 1, 20)...)...)
		r.list()
		r.holds(22)
		r.guard.Apply(r.revision, r.putBefore(some("bag", 1, 15)...))
		r.wait(10 * window)
		r.holds(22)
	})
	timed("protected at once", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.guard.Apply(r.revision, r.putBefore(some("bag", 1, 30)...))
		r.tell(r.gone(some("bag", 1, 30)...)...)
		r.inForce("bag", 30)
		r.holds(30)
	})
	timed("listed", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.put(some("bag", 1, 30)...)
		r.list()
		r.tell(r.gone(some("bag", 1, 30)...)...)
		r.inForce("bag", 30)
		r.holds(30)
	})
}

// putBefore is put at the revision of the last change: of what wasn't followed then.
func (r *rig) putBefore(names ...string) []model.Record {
	r.revision--
	return r.put(names...)
}
