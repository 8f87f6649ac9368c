package agent

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// exampleRoutes are the routes of the design's example document.
func exampleRoutes() []model.Route {
	gray, percent := "gray", 5.0
	return []model.Route{{
		Match: model.Match{
			Callers: []string{"video-*"}, CallerIDCs: []string{"bj-a"}, Methods: []string{"GET"}, Path: "/upload/*",
			Headers: map[string]model.StringMatch{"x-http-flow-control": {Equal: &gray}}, Percent: &percent,
		},
		Split: []model.Split{{Labels: map[string]string{"version": "v2"}, Weight: 10}, {Labels: map[string]string{"version": "v1"}, Weight: 90}},
	}}
}

// benchRig has a callee of 10,000 instances in two IDCs, with the example's routes.
func benchRig(b *testing.B, policy model.BalancePolicy) *rig {
	b.Helper()
	var addresses []string
	for n := range 10_000 {
		addresses = append(addresses, fmt.Sprintf("10.0.%d.%d:80", n/250, n%250+1))
	}
	records := instances("shop", addresses...)
	for n := range records {
		records[n].Instance.Labels = map[string]string{"version": fmt.Sprintf("v%d", 1+n%2)}
	}
	return newRig(b, append(records, documented("video-web", nil), documented("shop", func(s *model.Service) {
		s.Balance = model.Balance{Policy: policy, Hash: "header:X-Uid"}
		s.Routes = exampleRoutes()
	}))...)
}

// loop makes calls that the example's route matches, but for its percent: Begin, Pick and Done, without making their
// attributes anew each time.
func loop(b *testing.B, r *rig, next func() bool) {
	call := new(Call)
	attributes := make([]Attributes, 1024)
	for n := range attributes {
		attributes[n] = Attributes{Method: "GET", Path: "/upload/file", Client: "10.1.2.3", Header: map[string][]string{
			"X-Http-Flow-Control": {"gray"}, "X-Uid": {fmt.Sprint(n)},
		}}
	}
	b.ResetTimer()
	for n := 0; next(); n++ {
		*call = Call{Callee: "shop", Caller: "video-web", Class: DefaultClass, Attributes: attributes[n&1023]}
		if err := r.Begin(call); err != nil {
			b.Fatal(err)
		}
		attempt, err := r.Pick(call)
		if err != nil {
			b.Fatal(err)
		}
		attempt.Done(Outcome{Result: health.OK, Code: 200, Latency: time.Millisecond})
	}
}

var policies = []model.BalancePolicy{model.RoundRobin, model.Random, model.LeastRequest, model.EWMA, model.ConsistentHash}

// BenchmarkCall is Begin, Pick and Done, in a service of 10,000 instances with the design's example routes.
func BenchmarkCall(b *testing.B) {
	for _, policy := range policies {
		b.Run(string(policy), func(b *testing.B) {
			r := benchRig(b, policy)
			b.ReportAllocs()
			loop(b, r, b.Loop)
		})
	}
}

// BenchmarkEnd is what BenchmarkCall leaves out: the accounts of a call.
func BenchmarkEnd(b *testing.B) {
	r := benchRig(b, model.RoundRobin)
	call := r.begin(b, &Call{Callee: "shop", Caller: "video-web"})
	r.pick(b, call).Done(Outcome{Result: health.OK, Code: 200, Latency: time.Millisecond})
	b.ReportAllocs()
	for b.Loop() {
		call.ended = false
		call.End(200)
	}
}

// BenchmarkTwoCores compares one agent that two cores share with an agent for each of them: the metric "shared/separate" is
// what part of the separate ones' calls the shared one makes in the same time.
func BenchmarkTwoCores(b *testing.B) {
	for _, policy := range policies {
		b.Run(string(policy), func(b *testing.B) {
			rigs := []*rig{benchRig(b, policy), benchRig(b, policy)}
			run := func(first, second *rig) time.Duration {
				var both sync.WaitGroup
				begun := time.Now()
				for _, r := range []*rig{first, second} {
					both.Go(func() {
						left := b.N/2 + 1
						loop(b, r, func() bool { left--; return left >= 0 })
					})
				}
				both.Wait()
				return time.Since(begun)
			}
			var separate, shared time.Duration
			const turns = 4 // in turn, so that whatever else the machine does hits both
			for range turns {
				separate += run(rigs[0], rigs[1])
				shared += run(rigs[0], rigs[0])
			}
			b.ReportMetric(float64(separate)/float64(shared), "shared/separate")
		})
	}
}

// BenchmarkHandOut is what the DNS asks of an agent that knows 200,000 instances, of each of its 1,000 callees in turn: little of what
// it needs is in the processor's caches.
func BenchmarkHandOut(b *testing.B) {
	const callees, each = 1000, 200
	var records []model.Record
	names := make([]string, callees)
	for n := range names {
		names[n] = fmt.Sprintf("callee-%d", n)
		addresses := make([]string, each)
		for i := range addresses {
			addresses[i] = fmt.Sprintf("10.%d.%d.%d:6379", 1+n/200, n%200, 1+i)
		}
		records = append(records, instances(names[n], addresses...)...)
	}
	r := newRig(b, records...)
	client := netip.MustParseAddr("127.0.0.1")
	call := new(Call)
	ask := func(n int) {
		*call = Call{Callee: names[n*389%callees], Class: DefaultClass, HandOut: true, Family: IPv4, Client: client}
		if err := r.Begin(call); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Pick(call); err != nil {
			b.Fatal(err)
		}
	}
	for n := range callees { // makes the plans
		ask(n)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		ask(n)
		n++
	}
}

// BenchmarkChange is what a change of one instance's weight costs: of a callee that sleeps, of one that is awake, and with the
// first call after it, which makes a plan.
func BenchmarkChange(b *testing.B) {
	for _, size := range []int{200, 10_000, 200_000} {
		var addresses []string
		for n := range size {
			addresses = append(addresses, fmt.Sprintf("10.%d.%d.%d:80", n>>16, n>>8&255, n&255))
		}
		records := instances("shop", addresses...)
		heavy := instances("shop", addresses[size/2])[0]
		heavy.Instance.Weight = 7
		for _, state := range []string{"asleep", "awake", "called"} {
			b.Run(fmt.Sprintf("%s-%d", state, size), func(b *testing.B) {
				r := newRig(b, records...)
				if state != "asleep" {
					r.service("shop")
				}
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					change := records[size/2]
					if n%2 == 0 {
						change = heavy
					}
					r.catalog.Apply(int64(2+n), []model.Record{change})
					if state == "called" {
						r.pick(b, r.begin(b, &Call{Callee: "shop", HandOut: true}))
					}
				}
			})
		}
	}
}
