package protect

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
)

// large are 1,000 services with 200 instances each.
func large() []model.Record {
	var records []model.Record
	for s := range 1000 {
		name := fmt.Sprintf("service-%d", s)
		records = append(records, model.Record{Kind: model.KindService, Name: name, Revision: 1, Service: model.DefaultService(name)})
		for n := range 200 {
			i := model.DefaultInstance()
			i.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(s >> 8), byte(s), byte(n)}), 80)
			records = append(records, model.Record{
				Kind: model.KindInstances, Name: name, Address: i.Address.String(), Revision: 1, Instance: &i,
			})
		}
	}
	return records
}

// BenchmarkGuard is a list of 200,000 instances, and a change of one, with and without protect; and a list that lacks all.
func BenchmarkGuard(b *testing.B) {
	records := large()
	for _, share := range []float64{0, 0.5} {
		begin := func() *Guard {
			g := New(catalog.New(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
			g.SetShare(share)
			g.Replace(1, records)
			return g
		}
		b.Run(fmt.Sprintf("list/share=%v", share), func(b *testing.B) {
			g := begin()
			b.ReportAllocs()
			for b.Loop() {
				g.Replace(1, records)
			}
		})
		b.Run(fmt.Sprintf("change/share=%v", share), func(b *testing.B) {
			g := begin()
			b.ReportAllocs()
			for b.Loop() {
				g.Apply(2, records[1:2])
			}
		})
		b.Run(fmt.Sprintf("empty/share=%v", share), func(b *testing.B) {
			g := begin()
			b.ReportAllocs()
			for b.Loop() {
				g.Replace(2, nil)
			}
		})
	}
}
