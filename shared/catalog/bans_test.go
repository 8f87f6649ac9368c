package catalog

import (
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// A list that no longer has a ban lifts it; one in which it is refused doesn't, be its service known or not.
func TestReplaceBans(t *testing.T) {
	shop := serviceRecord("shop", 2)
	ban, unknown := banRecord("shop", "10.0.0.1:80", "me"), banRecord("bag", "10.0.0.2:80", "you")
	c := newCatalog()
	f := func(want string, rejections int, records ...model.Record) {
		t.Helper()
		c.Replace(c.Revision()+1, records)
		if got := picture(c); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := c.Rejected(); len(got) != rejections {
			t.Errorf("refused are %v, want %d", got, rejections)
		}
	}
	bag := serviceRecord("bag", 1)
	f("shop/2 -1=me", 0, shop, ban, unknown)
	f("shop/2 -1=me", 2, shop, refused(ban), refused(unknown))
	f("bag/1 -2=you; shop/2 -1=me", 2, shop, bag, refused(ban), refused(unknown))
	f("bag/1; shop/2", 0, shop, bag)
	f("shop/2", 1, shop, refused(ban))
	f("shop/2 -1=me", 0, shop, ban, unknown)
	f("shop/2", 0, shop)
	f("bag/1; shop/2", 0, shop, bag) // what was unknown is lifted too
	if got := c.RejectedTotals()[model.KindBan]; got != 3 {
		t.Errorf("%d refused bans are counted, want 3", got)
	}
}

// The view is immutable, and listeners are told of the next one.
func TestBanIsAnotherView(t *testing.T) {
	c := newCatalog()
	c.Replace(1, []model.Record{serviceRecord("shop", 2)})
	var told []*View
	c.Subscribe(func(changed []*View, _ []string) { told = append(told, changed...) })
	before := c.Service("shop")
	if before.Bans != nil {
		t.Errorf("bans are %v, want nil", before.Bans)
	}
	c.Apply(3, []model.Record{banRecord("shop", "10.0.0.1:80", "me")})
	first := c.Service("shop")
	c.Apply(4, []model.Record{banRecord("shop", "10.0.0.2:80", "me"), banRecord("bag", "10.0.0.2:80", "me")})
	if len(before.Bans) != 0 || len(first.Bans) != 1 || len(c.Service("shop").Bans) != 2 {
		t.Errorf("bans before %v, after the first %v, after the second %v", before.Bans, first.Bans, c.Service("shop").Bans)
	}
	if len(told) != 3 || told[1] != first || told[2] != c.Service("shop") {
		t.Errorf("told of %d views", len(told))
	}
	if first.Revision != 3 {
		t.Errorf("revision %d, want the ban's", first.Revision)
	}
	c.Apply(5, []model.Record{deleted(banRecord("shop", "10.0.0.1:80", "")), deleted(banRecord("shop", "10.0.0.2:80", ""))})
	if got := c.Service("shop").Bans; got != nil {
		t.Errorf("bans are %v after all were lifted, want nil", got)
	}
}

// The records hold the bans of services that nobody knows, too.
func TestBansAreRecords(t *testing.T) {
	c := newCatalog()
	c.Replace(9, []model.Record{serviceRecord("shop", 2), banRecord("shop", "10.0.0.1:80", "me"), banRecord("bag", "10.0.0.2:80", "you")})
	found := map[string]string{}
	c.Records(func(record model.Record) bool {
		if record.Ban != nil {
			found[record.Name+" "+record.Address] = record.Ban.By
			if record.Kind != model.KindBan || record.Revision != 3 {
				t.Errorf("record %+v", record)
			}
		}
		return true
	})
	if len(found) != 2 || found["shop 10.0.0.1:80"] != "me" || found["bag 10.0.0.2:80"] != "you" {
		t.Errorf("found %v", found)
	}
	calls := 0
	c.Records(func(model.Record) bool { calls++; return calls < 2 })
	if calls != 2 {
		t.Errorf("%d calls after the second said that it is enough", calls)
	}
}
