package corednsufc

import (
	"context"
	"net"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// TestStacks: stacks begin with what answers need while some wait that far down, beside as many others as well.
func TestStacks(t *testing.T) {
	sample := []metrics.Sample{{Name: "/gc/stack/starting-size:bytes"}}
	await := func(when string, deep bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			metrics.Read(sample)
			if size := sample[0].Value.Uint64(); size == 8<<10 == deep {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s: stacks begin with %d bytes", when, size)
			}
		}
	}
	await("before", false)
	release := holdStacks()
	await("held", true)
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range deepStacks {
		others.Go(func() { <-stop })
	}
	await("beside others", true)
	close(stop)
	others.Wait()
	release()
	await("released", false)
}

// BenchmarkNewGoroutines is what questions cost in goroutines of their own, as CoreDNS answers each, without and with stacks.go.
func BenchmarkNewGoroutines(b *testing.B) {
	c := controller("ufc.internal", "")
	block := dnsserver.GetConfig(c)
	block.Zone, block.Transport, block.ListenHosts = "ufc.internal.", "dns", []string{""}
	u := attach(b, "ufc.internal", "", listed("redis", "10.0.0.1:6379")...)
	u.canWriteRaw.Store(true)
	block.AddPlugin(func(plugin.Handler) plugin.Handler { return u })
	server, err := dnsserver.NewServer("127.0.0.1:0", []*dnsserver.Config{block})
	if err != nil {
		b.Fatal(err)
	}
	f := func(name string, qtype uint16) {
		b.Run(name, func(b *testing.B) {
			runtime.GC() // sets the size that stacks begin with
			w := &sink{remote: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 4000}}
			r := question("redis.ufc.internal.", qtype)
			done := make(chan struct{})
			b.ReportAllocs()
			for b.Loop() {
				go func() {
					server.ServeDNS(context.Background(), w, r)
					done <- struct{}{}
				}()
				<-done
			}
			if w.packed == nil && w.answer == nil {
				b.Fatal("no answer")
			}
		})
	}
	f("A", dns.TypeA)
	f("SRV", dns.TypeSRV)
	f("NODATA", dns.TypeAAAA)
	defer holdStacks()()
	f("A/deep", dns.TypeA)
	f("SRV/deep", dns.TypeSRV)
	f("NODATA/deep", dns.TypeAAAA)
}
