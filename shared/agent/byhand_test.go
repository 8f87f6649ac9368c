package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func handBan(service, address string, until time.Time) model.Record {
	return model.Record{Kind: model.KindBan, Name: service, Address: address, Ban: &model.HandBan{By: "ops", Until: until}}
}

func TestBansByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
		defer r.Close()
		r.catalog.Apply(2, []model.Record{handBan("shop", "10.0.0.1:80", time.Time{})})
		if counts := r.spread(t, "shop", 20); counts["10.0.0.2:80"] != 20 {
			t.Errorf("one is banned by hand: %v", counts)
		}
		if info := r.Backends("shop")[0]; info.Banned == nil || info.Banned.Reason != health.ByHand || info.Banned.By != "ops" {
			t.Errorf("%+v doesn't tell of the ban", info)
		}
		r.catalog.Apply(3, []model.Record{handBan("shop", "10.0.0.2:80", time.Time{})})
		if counts := r.spread(t, "shop", 20); len(counts) != 2 {
			t.Errorf("all are banned by hand, and still the callee answers: %v", counts)
		}
		r.catalog.Apply(4, []model.Record{
			{Kind: model.KindBan, Name: "shop", Address: "10.0.0.1:80", Deleted: true},
			handBan("shop", "10.0.0.2:80", time.Now().Add(time.Minute)),
		})
		if counts := r.spread(t, "shop", 20); counts["10.0.0.1:80"] != 20 {
			t.Errorf("one ban was lifted: %v", counts)
		}
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if counts := r.spread(t, "shop", 20); counts["10.0.0.2:80"] == 0 {
			t.Errorf("the other one is over by itself: %v", counts)
		}
		if i := r.PickAddress(r.begin(t, &Call{Callee: "shop"}), netip.MustParseAddrPort("10.0.0.2:80")); i == nil {
			t.Error("no such instance")
		}
	})
}

// An operator bans all instances but those of an IDC that is drained, before or after: somebody must be left.
func TestHandBansLeaveMoreThanWhatIsDrained(t *testing.T) {
	north := func(drained ...string) model.Record { return topology(nil, drained...) }
	r := newRig(t, north("gz-a"), at("shop", "10.0.0.1:80", "bj-a"), at("shop", "10.0.0.2:80", "gz-a"),
		documented("shop", nil), handBan("shop", "10.0.0.1:80", time.Time{}))
	f := func(want string) {
		t.Helper()
		if address, err := r.try(t, "shop", health.OK); address != want {
			t.Errorf("%q, want %q: %v", address, want, err)
		}
	}
	f("10.0.0.1:80")
	r.catalog.Apply(2, []model.Record{north()})
	f("10.0.0.2:80")
	r.catalog.Apply(3, []model.Record{north("gz-a")})
	f("10.0.0.1:80")
}

// explain tells of a ban by hand too: package health knows nothing of it, and holds the instance for up.
func TestExplainOfABanByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
		defer r.Close()
		until := time.Now().Add(time.Minute)
		r.catalog.Apply(2, []model.Record{handBan("shop", "10.0.0.1:80", until)})
		f := func(selector ...string) {
			t.Helper()
			answer, err := r.Query(append([]string{"explain", "shop"}, selector...))
			if err != nil {
				t.Fatal(err)
			}
			all := answer.(Explanation).Instances
			if len(all) != 1 || all[0].State != "banned" || all[0].Reason != health.ByHand || all[0].Until == nil || !all[0].Until.Equal(until) {
				t.Errorf("explain %q: %+v", selector, all)
			}
		}
		f("10.0.0.1:80")
		f()
		r.catalog.Apply(3, []model.Record{handBan("shop", "10.0.0.1:80", time.Time{})})
		if answer, err := r.Query([]string{"explain", "shop"}); err != nil || answer.(Explanation).Instances[0].Until != nil {
			t.Errorf("until it is lifted: %+v, %v", answer, err)
		}
	})
}
