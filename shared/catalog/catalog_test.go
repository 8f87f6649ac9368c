package catalog

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

func newCatalog() *Catalog { return New(slog.New(slog.DiscardHandler)) }

func serviceRecord(name string, level int) model.Record {
	service := model.DefaultService(name)
	service.Level = level
	return model.Record{Kind: model.KindService, Name: name, Revision: 1, Service: service}
}

func instanceRecord(service, address string) model.Record {
	instance := model.DefaultInstance()
	instance.Address = netip.MustParseAddrPort(address)
	return model.Record{Kind: model.KindInstances, Name: service, Address: address, Revision: 2, Instance: &instance}
}

func banRecord(service, address, by string) model.Record {
	return model.Record{Kind: model.KindBan, Name: service, Address: address, Revision: 3, Ban: &model.HandBan{By: by}}
}

func deleted(record model.Record) model.Record {
	return model.Record{Kind: record.Kind, Name: record.Name, Address: record.Address, Deleted: true}
}

func refused(record model.Record) model.Record {
	return model.Record{Kind: record.Kind, Name: record.Name, Address: record.Address, Revision: 9, Err: errors.New("bad value")}
}

// picture writes a catalog down: name, level and addresses of each service.
func picture(c *Catalog) string {
	var lines []string
	for _, name := range c.Names() {
		view := c.Service(name)
		line := fmt.Sprintf("%s/%d", name, view.Service.Level)
		if !view.Documented {
			line = name + "/-"
		}
		for _, instance := range view.Instances {
			line += " " + instance.Address.String()
		}
		line += bansOf(view)
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

// bansOf writes the bans of a view down, as hyphens and the last byte of the address, and by whom.
func bansOf(view *View) (line string) {
	for _, address := range slices.SortedFunc(maps.Keys(view.Bans), netip.AddrPort.Compare) {
		line += fmt.Sprintf(" -%d=%s", address.Addr().As4()[3], view.Bans[address].By)
	}
	return line
}

func TestRecords(t *testing.T) {
	shop, cart := serviceRecord("shop", 2), serviceRecord("cart", 1)
	one, two := instanceRecord("shop", "10.0.0.1:80"), instanceRecord("shop", "10.0.0.2:80")
	lone := instanceRecord("lone", "10.0.0.9:80")

	f := func(want string, steps ...[]model.Record) {
		t.Helper()
		c := newCatalog()
		for n, step := range steps {
			if n == 0 {
				c.Replace(10, step)
			} else {
				c.Apply(int64(10+n), step)
			}
		}
		if got := picture(c); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		services, instances := c.Counts()
		if services != len(c.Names()) || instances != strings.Count(want, ":") {
			t.Errorf("counts are %d services and %d instances of %s", services, instances, want)
		}
	}
	type records = []model.Record
	f("")
	f("cart/1; shop/2 10.0.0.1:80 10.0.0.2:80", records{two, shop, one, cart})
	f("lone/- 10.0.0.9:80", records{lone})
	f("shop/5 10.0.0.1:80", records{shop, one}, records{serviceRecord("shop", 5)})
	f("shop/2 10.0.0.2:80", records{shop, one, two}, records{deleted(one)})
	f("shop/- 10.0.0.1:80", records{shop, one}, records{deleted(shop)})
	f("", records{shop, one}, records{deleted(shop), deleted(one)})
	f("", records{shop}, records{deleted(shop)})
	f("shop/2", records{shop, one}, records{deleted(one)})
	// A record that comes and goes within one batch.
	f("shop/2", records{shop}, records{one, deleted(one)})
	f("shop/2 10.0.0.1:80", records{shop, one}, records{deleted(one), one})
	// Refused values leave the last good version.
	f("shop/2 10.0.0.1:80", records{shop, one}, records{refused(shop), refused(one)})
	f("shop/2", records{shop, refused(one)})
	f("", records{refused(shop)})
	// A key that only looks like an instance's touches none.
	// Bans are in force with the service, before and after it is known, and leave it alone otherwise.
	ban, lone9 := banRecord("shop", "10.0.0.1:80", "me"), banRecord("lone", "10.0.0.9:80", "you")
	f("shop/2 10.0.0.1:80 -1=me", records{shop, one, ban})
	f("shop/2 -1=me", records{ban}, records{shop})
	f("", records{ban})
	f("", records{shop}, records{ban, deleted(shop)})
	f("shop/2 -1=me", records{shop}, records{ban, deleted(shop)}, records{shop})
	f("shop/2 10.0.0.1:80", records{shop, one, ban}, records{deleted(ban)})
	f("shop/2 10.0.0.1:80 -1=she", records{shop, one, ban}, records{banRecord("shop", "10.0.0.1:80", "she")})
	f("shop/2 10.0.0.1:80 -1=me", records{shop, one, ban}, records{refused(ban)})
	f("lone/- 10.0.0.9:80 -9=you", records{lone9, refused(ban)}, records{lone})
	f("shop/2 -1=me", records{shop, ban}, records{deleted(model.Record{Kind: model.KindBan, Name: "shop", Address: "10.0.0.1:080"})})
	odd := model.Record{Kind: model.KindInstances, Name: "shop", Address: "10.0.0.1:080"}
	f("shop/2 10.0.0.1:80", records{shop, one}, records{deleted(odd)})
	f("shop/2 10.0.0.1:80", records{shop, one}, records{refused(odd), deleted(odd)})
}

func TestReplaceKeepsWhatIsRefused(t *testing.T) {
	c := newCatalog()
	shop, one, two := serviceRecord("shop", 2), instanceRecord("shop", "10.0.0.1:80"), instanceRecord("shop", "10.0.0.2:80")
	topology := model.Record{Kind: model.KindTopology, Topology: &model.Topology{Drained: []string{"bj-a"}}}
	c.Replace(1, []model.Record{shop, one, two, topology, serviceRecord("old", 3)})
	c.Replace(2, []model.Record{refused(shop), refused(one), refused(topology)})
	if got, want := picture(c), "shop/2 10.0.0.1:80"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(c.Topology().Drained) != 1 {
		t.Error("a refused topology emptied the last good one")
	}
	if got := len(c.Rejected()); got != 3 {
		t.Errorf("%d refusals are listed, not 3: %v", got, c.Rejected())
	}
	if got := c.RejectedTotals()[model.KindInstances]; got != 1 {
		t.Errorf("%d refused instances are counted, not 1", got)
	}
	c.Replace(3, []model.Record{refused(shop), refused(one), refused(topology)})
	if got := c.RejectedTotals()[model.KindInstances]; got != 1 {
		t.Errorf("a refusal that was met twice is counted %d times", got)
	}
	c.Replace(4, []model.Record{shop, one, refused(two)})
	if got := len(c.Rejected()); got != 1 {
		t.Errorf("%d refusals are listed, not 1: %v", got, c.Rejected())
	}
	c.Replace(5, []model.Record{shop, one})
	if got := len(c.Rejected()); got != 0 {
		t.Errorf("%d refusals are listed after all was mended", got)
	}
	if len(c.Topology().Drained) != 0 {
		t.Error("a topology that is gone stays")
	}
}

func TestListener(t *testing.T) {
	c := newCatalog()
	c.Replace(1, []model.Record{serviceRecord("shop", 2), serviceRecord("cart", 1)})
	var told []string
	c.Subscribe(func(changed []*View, removed []string) {
		for _, view := range changed {
			if c.Service(view.Name) != view {
				t.Errorf("told of %s before readers can see it", view.Name)
			}
			told = append(told, "+"+view.Name)
		}
		for _, name := range removed {
			told = append(told, "-"+name)
		}
	})
	c.Apply(2, []model.Record{instanceRecord("shop", "10.0.0.1:80"), deleted(serviceRecord("cart", 1))})
	slices.Sort(told[:2])
	slices.Sort(told[2:])
	if got, want := strings.Join(told, " "), "+cart +shop +shop -cart"; got != want {
		t.Errorf("told %s, not %s", got, want)
	}
}

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCatalog()
		if c.Synced() || c.Age() != 0 {
			t.Error("synced before anything was received")
		}
		c.Replace(7, nil)
		time.Sleep(time.Minute)
		if !c.Synced() || c.Age() != time.Minute || c.Revision() != 7 {
			t.Errorf("synced %v, age %v, revision %d", c.Synced(), c.Age(), c.Revision())
		}
		c.AsOf(time.Now().Add(-time.Hour))
		if c.Age() != time.Hour {
			t.Errorf("age %v of what was written an hour ago", c.Age())
		}
		c.Confirm(9)
		if c.Age() != 0 || c.Revision() != 9 {
			t.Errorf("age %v, revision %d after a confirmation", c.Age(), c.Revision())
		}
	})
}

// TestApplyEqualsReplace holds random changes, one by one, against a fresh load of what they lead to.
func TestApplyEqualsReplace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := newCatalog()
	c.Replace(0, nil)
	present := map[key]model.Record{}
	for revision := int64(1); revision <= 2000; revision++ {
		var batch []model.Record
		for range 1 + random.IntN(4) {
			name := fmt.Sprintf("s%d", random.IntN(5))
			record := serviceRecord(name, 1+random.IntN(5))
			switch address := fmt.Sprintf("10.0.0.%d:80", random.IntN(9)); random.IntN(4) {
			case 0:
				record = banRecord(name, address, fmt.Sprint(random.IntN(9)))
			case 1, 2:
				record = instanceRecord(name, address)
			}
			if random.IntN(2) == 0 {
				delete(present, keyOf(&record))
				record = deleted(record)
			} else {
				present[keyOf(&record)] = record
			}
			batch = append(batch, record)
		}
		c.Apply(revision, batch)
		fresh := newCatalog()
		var all []model.Record
		for _, record := range present {
			all = append(all, record)
		}
		fresh.Replace(revision, all)
		if got, want := picture(c), picture(fresh); got != want {
			t.Fatalf("at %d, followed: %s\nloaded:   %s", revision, got, want)
		}
		again := newCatalog()
		again.Replace(revision, slices.Collect(fresh.Records))
		if got, want := picture(again), picture(fresh); got != want {
			t.Fatalf("at %d, loaded: %s\nits own records: %s", revision, want, got)
		}
	}
}

// What isn't followed any more is gone with all that was known of it, and what it is told of later is new.
func TestForget(t *testing.T) {
	c := newCatalog()
	c.Replace(7, []model.Record{
		serviceRecord("shop", 1), instanceRecord("shop", "10.0.0.1:80"), serviceRecord("cart", 1),
		banRecord("shop", "10.0.0.1:80", "me"), refused(instanceRecord("shop", "10.0.0.9:80")),
	})
	var gone []string
	c.Subscribe(func(_ []*View, removed []string) { gone = append(gone, removed...) })
	c.Forget([]string{"shop", "unheard-of"})
	services, instances := c.Counts()
	if c.Service("shop") != nil || services != 1 || instances != 0 || len(c.Rejected()) != 0 || c.Revision() != 7 {
		t.Errorf("%d services, %d instances, revision %d, rejected %v", services, instances, c.Revision(), c.Rejected())
	}
	if !slices.Equal(gone, []string{"shop"}) {
		t.Errorf("told that %q are gone", gone)
	}
	c.Apply(8, []model.Record{instanceRecord("shop", "10.0.0.1:80")})
	if view := c.Service("shop"); view == nil || view.Documented || len(view.Bans) != 0 {
		t.Errorf("the next view is %+v", view)
	}
}
