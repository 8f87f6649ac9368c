package protect

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

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
