package protect

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

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

func TestAlarm(t *testing.T) {
	timed("all", t, func(r *rig) {
		r.put(append(some("shop", 1, 100), some("bag", 1, 100)...)...)
		r.list()
		lines := func(want int) {
			t.Helper()
			if got := strings.Count(r.log.String(), "removal held back"); got != want {
				t.Errorf("%d warnings, want %d", got, want)
			}
		}
		r.tell(r.gone(some("shop", 1, 60)...)...)
		lines(1)
		for n := 61; n <= 80; n++ {
			r.tell(r.gone(some("shop", n, n)...)...)
		}
		lines(1)
		time.Sleep(10 * time.Second)
		r.tell(r.gone(some("shop", 81, 90)...)...)
		lines(2)
		r.wait(50 * time.Second)
		lines(2)
		r.wait(10 * time.Second)
		lines(3)
		r.wait(10 * time.Minute)
		lines(13)
		status := r.guard.Status()
		if len(status.Of) != 1 || status.Of[0].Service != "shop" || status.Of[0].Instances != 90 || status.Of[0].Of != 100 || status.Since == nil {
			t.Errorf("%+v", status)
		}
		want := `
# HELP ufc_config_held Configuration records that etcd has no more and that are held in force, by kind.
# TYPE ufc_config_held gauge
ufc_config_held{kind="Ban"} 0
ufc_config_held{kind="Instances"} 90
ufc_config_held{kind="Service"} 0
ufc_config_held{kind="Topology"} 0
`
		if err := testutil.CollectAndCompare(r.guard, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
		r.tell(r.confirm(""))
		r.wait(10 * time.Second)
		lines(13)
		if !strings.Contains(r.log.String(), "no removal is held back any more") {
			t.Error("nobody said that it is over")
		}
	})
}
