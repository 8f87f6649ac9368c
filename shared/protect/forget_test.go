package protect

import "testing"

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
