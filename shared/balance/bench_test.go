package balance

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// busy gives the members some requests in flight and a latency.
func busy(list []Member) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range list {
		for range random.IntN(3) {
			list[i].Target.Began()
		}
		list[i].Target.observe(time.Second, float32(1e6+random.IntN(1e6)))
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range policies {
		for _, size := range []int{4, 10_000} {
			for kind, weights := range map[string][]int{"equal": {100}, "weighted": {100, 70, 130, 50}} {
				list := members(size, weights...)
				busy(list)
				memory := NewMemory(rand.Uint64())
				for range 2 * size {
					memory.Began(0)
				}
				policy := New(name, list, size, memory)
				title := fmt.Sprintf("%s/%d/%s", name, size, kind)
				b.Run(title, func(b *testing.B) { pickOne(b, policy) })
				b.Run(title+"/parallel", func(b *testing.B) { pickParallel(b, policy) })
			}
		}
	}
}

func pickOne(b *testing.B, policy Policy) {
	b.ReportAllocs()
	request := Request{Now: time.Second + 20*time.Millisecond}
	for b.Loop() {
		request.Hash += 0x9e3779b97f4a7c15
		policy.Pick(&request)
	}
}

func pickParallel(b *testing.B, policy Policy) {
	b.ReportAllocs()
	var stripes atomic.Uint32
	b.RunParallel(func(pb *testing.PB) {
		request := Request{Now: time.Second + 20*time.Millisecond, Stripe: stripes.Add(1)}
		request.Hash = mix(uint64(request.Stripe))
		for pb.Next() {
			request.Hash += 0x9e3779b97f4a7c15
			policy.Pick(&request)
		}
	})
}

func BenchmarkTrack(b *testing.B) {
	b.ReportAllocs()
	memory := NewMemory(rand.Uint64())
	list := members(10_000, 100)
	now, i := time.Duration(0), 0
	for b.Loop() {
		now += 10 * time.Microsecond
		i = (i + 7919) % len(list)
		list[i].Target.Began()
		memory.Began(0)
		list[i].Target.Ended(now, time.Millisecond, false)
		memory.Ended(0)
	}
}

func BenchmarkNew(b *testing.B) {
	for _, name := range policies {
		for _, size := range []int{200, 10_000} {
			list := members(size, 100, 70, 130, 50)
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.ReportAllocs()
				memory := NewMemory(rand.Uint64())
				for b.Loop() {
					New(name, list, size, memory)
				}
			})
		}
	}
}
