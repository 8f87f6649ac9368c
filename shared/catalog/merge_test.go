package catalog

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// What hasn't changed is the same in the next view, so that who follows needs only compare pointers.
func TestUnchangedIsTheSame(t *testing.T) {
	load := func() []model.Record {
		return []model.Record{
			serviceRecord("shop", 2), instanceRecord("shop", "10.0.0.1:80"), instanceRecord("shop", "10.0.0.2:80"),
			banRecord("shop", "10.0.0.1:80", "me"),
			{Kind: model.KindTopology, Topology: &model.Topology{Drained: []string{"bj-a"}}},
		}
	}
	c := newCatalog()
	var told []*View
	c.Subscribe(func(changed []*View, _ []string) { told = changed })
	c.Replace(1, load())
	first, topology := c.Service("shop"), c.Topology()
	if len(told) != 1 {
		t.Fatalf("told of %d views", len(told))
	}

	c.Replace(2, load())
	if len(told) != 0 || c.Service("shop") != first || c.Topology() != topology {
		t.Errorf("told of %d views after everything was read anew, and nothing had changed", len(told))
	}

	again := instanceRecord("shop", "10.0.0.2:80")
	again.Revision = 7
	c.Apply(7, []model.Record{again})
	rewritten := c.Service("shop")
	if rewritten.Revision != 7 || !SameInstances(rewritten.Instances, first.Instances) || rewritten.Service != first.Service {
		t.Error("a record that says the same again changes more than the revision")
	}

	heavy := instanceRecord("shop", "10.0.0.2:80")
	heavy.Instance.Weight = 7
	c.Apply(8, []model.Record{heavy})
	changed := c.Service("shop")
	if changed.Instances[0] != first.Instances[0] || changed.Instances[1] != heavy.Instance || changed.Service != first.Service {
		t.Error("a change of one instance changes others")
	}
	if first.Instances[1].Weight == 7 || SameInstances(changed.Instances, first.Instances) {
		t.Error("an old view has changed")
	}
	if got, instances := c.Counts(); got != 1 || instances != 2 {
		t.Errorf("%d services, %d instances", got, instances)
	}
}

// TestMerge holds random merges against a map.
func TestMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	address := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(12))}), 80)
	}
	picture := func(instances []*model.Instance) (text string) {
		for _, i := range instances {
			text += fmt.Sprint(i.Address, "=", i.Weight, " ")
		}
		return text
	}
	var before []*model.Instance
	for round := range 5000 {
		want := map[netip.AddrPort]*model.Instance{}
		ch := &change{whole: random.IntN(4) == 0}
		if !ch.whole {
			for _, i := range before {
				want[i.Address] = i
			}
		}
		for range random.IntN(8) {
			touch := touched{address: address()}
			if delete(want, touch.address); random.IntN(3) > 0 {
				touch.instance = &model.Instance{Address: touch.address, Weight: random.IntN(2)}
				want[touch.address] = touch.instance
			}
			ch.instances = append(ch.instances, touch)
		}
		var wanted []*model.Instance
		for _, i := range want {
			wanted = append(wanted, i)
		}
		slices.SortFunc(wanted, func(a, b *model.Instance) int { return a.Address.Compare(b.Address) })
		old := picture(before)
		after := ch.mergeInto(before)
		if got := picture(after); got != picture(wanted) || picture(before) != old || cap(after) > len(after) && !SameInstances(after, before) {
			t.Fatalf("round %d: got %s, want %s; before it was %s, and is %s", round, got, picture(wanted), old, picture(before))
		}
		if (picture(after) == old) != SameInstances(after, before) {
			t.Fatalf("round %d: the list is another one, and says the same, or the other way around: %s", round, old)
		}
		before = after
	}
}
