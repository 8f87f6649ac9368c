package protect

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// timed runs a test in virtual time, with a share of a half.
func timed(name string, t *testing.T, test func(*rig)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(newRig(t, 0.5)) })
	})
}

// wait lets time go by with etcd's signs of life.
func (r *rig) wait(d time.Duration) {
	for ; d > 0; d -= 10 * time.Second {
		time.Sleep(min(d, 10*time.Second))
		r.quiet()
	}
}

func TestMassRemoval(t *testing.T) {
	// shop has 20 instances and bag 4; both have documents.
	begin := func(r *rig) {
		r.put("shop", "bag", "~", "shop!1")
		r.put(append(some("shop", 1, 20), some("bag", 1, 4)...)...)
		r.list()
		r.same()
	}
	everything := append(append([]string{"shop", "bag", "~", "shop!1"}, some("shop", 1, 20)...), some("bag", 1, 4)...)

	timed("an empty list", t, func(r *rig) {
		begin(r)
		r.gone(everything...)
		r.list()
		r.inForce("shop", 20)
		r.inForce("bag", 4)
		r.holds(28)
		if !r.views.Service("shop").Documented || r.views.Topology().Empty() || len(r.views.Service("shop").Bans) != 1 {
			t.Error("a document, the topology or the ban is gone")
		}
		r.wait(time.Hour)
		r.list() // and again
		r.holds(28)
		r.tell(r.confirm(""))
		r.same()
	})
	timed("in one transaction", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(everything...)...)
		r.holds(28)
		r.tell(r.confirm(""))
		r.same()
	})
	timed("split", t, func(r *rig) {
		begin(r)
		for n := 1; n <= 20; n++ { // leases that run out
			r.tell(r.gone(some("shop", n, n)...)...)
			time.Sleep(2 * time.Second)
		}
		r.inForce("shop", 10)
		r.holds(10)
		r.tell(r.gone("shop")...)
		if !r.views.Service("shop").Documented {
			t.Error("the document went though instances are held")
		}
		r.tell(r.confirm(""))
		r.inForce("shop", -1)
		r.same()
	})
	timed("too slow to be at once", t, func(r *rig) {
		begin(r)
		for n := 1; n <= 20; n++ {
			r.tell(r.gone(some("shop", n, n)...)...)
			r.wait(time.Minute)
		}
		r.same()
	})
	timed("documents alone", t, func(r *rig) {
		begin(r)
		r.tell(r.gone("shop", "bag")...)
		r.holds(2)
		r.tell(r.gone("~")...) // as the next folder goes
		r.holds(3)
		r.tell(r.put("shop", "bag")...)
		r.same()
	})
	timed("back by themselves", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.inForce("shop", 20)
		r.tell(r.put(some("shop", 1, 9)...)...)
		r.wait(5 * time.Minute)
		r.holds(11) // the loss is still over the share
		r.tell(r.put("shop/10")...)
		r.wait(50 * time.Second)
		r.holds(10)
		r.wait(20 * time.Second)
		r.inForce("shop", 10)
		r.same()
	})
	timed("back for less than a minute", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		for range 5 {
			r.tell(r.put(some("shop", 1, 10)...)...)
			r.wait(50 * time.Second)
			r.tell(r.gone("shop/1")...)
			r.wait(10 * time.Second)
		}
		r.holds(11)
	})
	timed("instances back, documents not", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(everything...)...)
		r.tell(r.put(append(some("shop", 1, 20), some("bag", 1, 4)...)...)...)
		r.holds(3) // the documents, and the topology with them
		r.tell(r.put("shop", "bag")...)
		r.same()
	})
	timed("all back", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.tell(r.put(some("shop", 1, 20)...)...)
		r.same()
	})
	timed("others in their place", t, func(r *rig) {
		begin(r)
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.tell(r.put(some("shop", 101, 120)...)...)
		r.inForce("shop", 20)
		r.same()
	})
}

func TestNotHeld(t *testing.T) {
	timed("one of few", t, func(r *rig) {
		for count := 1; count <= 3; count++ {
			r.restart(0.1)
			r.put(append(some("big", 1, 30), some("shop", 1, count)...)...)
			r.list()
			r.tell(r.gone(some("shop", 1, 1)...)...)
			r.same()
		}
	})
	timed("a deployment", t, func(r *rig) {
		r.guard.SetShare(0.1)
		r.put(some("shop", 1, 20)...)
		r.list()
		r.tell(r.put(some("shop", 101, 120)...)...)
		time.Sleep(20 * time.Second)
		for n := 1; n <= 20; n += 5 {
			r.tell(r.gone(some("shop", n, n+4)...)...)
			r.same()
		}
	})
	timed("a deployment by a list", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.gone(some("shop", 1, 20)...)
		r.put(some("shop", 101, 120)...)
		r.list()
		r.same()
	})
	timed("exactly the share", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		r.tell(r.gone(some("shop", 1, 10)...)...)
		r.same()
	})
	timed("off", t, func(r *rig) {
		r.guard.SetShare(0)
		r.put(some("shop", 1, 20)...)
		r.list()
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.same()
	})
	timed("without a snapshot", t, func(r *rig) {
		r.list()
		r.tell(r.put(some("shop", 1, 20)...)...)
		r.same()
	})
}

// While shop's instances are held, everything else goes through.
func TestOthersGoOn(t *testing.T) {
	timed("all", t, func(r *rig) {
		r.put(append(append(some("shop", 1, 20), some("bag", 1, 30)...), "shop", "bag", "shop!3")...)
		r.list()
		r.tell(r.gone(some("shop", 1, 20)...)...)
		r.holds(20)

		r.tell(r.put("new", "new/1", "bag/31", "bag!1")...)
		r.tell(r.gone("bag/1")...)
		r.tell(r.gone("new/1")...)
		r.tell(r.gone("shop!3")...) // unbanned
		change := r.put("bag/2")
		change[0].Instance.Weight, change[0].Instance.State = 7, model.Drain
		r.tell(change...)
		r.holds(20)
		if view := r.views.Service("bag"); len(view.Instances) != 30 || view.Instances[0].Weight != 7 || len(view.Bans) != 1 {
			t.Errorf("bag is %+v", view)
		}
		if view := r.views.Service("shop"); len(view.Bans) != 0 {
			t.Error("the ban wasn't lifted")
		}
		// What came after the hold began may go.
		r.tell(r.put("shop/50")...)
		r.inForce("shop", 21)
		r.tell(r.gone("shop/50")...)
		r.inForce("shop", 20)
		r.tell(r.confirm(""))
		r.same()
	})
}

// A mesh of services with one or two instances each: none of them is held for its own sake.
func TestMeshOfSmallServices(t *testing.T) {
	timed("all", t, func(r *rig) {
		var all []string
		for n := range 20 {
			all = append(all, some("s"+string(rune('a'+n)), 1, 1)...)
		}
		r.put(all...)
		r.list()
		r.gone(all...)
		r.list()
		r.holds(20)
		r.tell(r.put("sa/1")...)
		r.tell(r.gone("sa/1")...) // the only one of a service while the mesh is nearly empty
		r.holds(20)
		r.tell(r.confirm(""))
		r.same()
	})
	timed("one by one", t, func(r *rig) {
		var all []string
		for n := range 20 {
			all = append(all, some("s"+string(rune('a'+n)), 1, 1)...)
		}
		r.put(all...)
		r.list()
		for _, name := range all {
			r.tell(r.gone(name)...)
		}
		r.holds(10)
	})
}

// Refused values count as there where a good one is in force, and leave what is held as it is.
func TestRefused(t *testing.T) {
	timed("all", t, func(r *rig) {
		r.put(some("shop", 1, 20)...)
		r.list()
		refuse := func(names []string) (records []model.Record) {
			for _, record := range r.put(names...) {
				record.Instance, record.Err = nil, errBad
				records = append(records, record)
			}
			return records
		}
		r.guard.Replace(r.revision, refuse(some("shop", 1, 20)))
		r.inForce("shop", 20)
		r.holds(0)
		r.guard.Replace(r.revision, nil)
		r.holds(20)
		r.guard.Replace(r.revision, refuse(some("shop", 1, 20)))
		r.inForce("shop", 20)
		r.holds(20)
		if got := len(r.views.Rejected()); got != 20 {
			t.Errorf("%d rejections, want 20", got)
		}
		r.guard.Apply(r.revision, []model.Record{r.confirm("")})
		r.inForce("shop", -1)
	})
}
