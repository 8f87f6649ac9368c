package store

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/model"
)

const (
	benchServices  = 1000
	benchInstances = 200 // of each
)

// fill writes the large mesh: 1,000 services with 200 instances each.
func fill(b *testing.B, w *writer) {
	b.Helper()
	var services sync.WaitGroup
	next := make(chan int)
	for range 8 {
		services.Go(func() {
			for n := range next {
				name := fmt.Sprintf("service-%04d", n)
				ops := []clientv3.Op{clientv3.OpPut(w.root+"services/"+name, serviceJSON(name))}
				for i := range benchInstances {
					address := fmt.Sprintf("10.%d.%d.%d:8080", n/250, n%250, i)
					value := fmt.Sprintf(`{"address":%q,"idc":"bj-%c","weight":100,"labels":{"version":"v%d"},"state":"up"}`, address, 'a'+i%10, i%2)
					ops = append(ops, clientv3.OpPut(w.root+"instances/"+name+"/"+address, value))
					if len(ops) == maxBatch || i == benchInstances-1 {
						if _, err := w.client.Txn(testContext(b)).Then(ops...).Commit(); err != nil {
							b.Error(err)
						}
						ops = nil
					}
				}
			}
		})
	}
	for n := range benchServices {
		next <- n
	}
	close(next)
	services.Wait()
}

// counter is a sink that keeps nothing but the last records, and tells when they came.
type counter struct {
	replaced chan int
	applied  chan struct{}
	records  []model.Record
}

func (c *counter) Replace(_ int64, records []model.Record) {
	c.records = records
	c.replaced <- len(records)
}
func (c *counter) Apply(int64, []model.Record) { c.applied <- struct{}{} }
func (c *counter) Forget([]string)             {}
func (c *counter) Confirm(int64)               {}
func (c *counter) AsOf(time.Time)              {}
func (c *counter) Held() *model.Holds          { return nil }
func (c *counter) Resume(*model.Holds)         {}
func (c *counter) Records(yield func(model.Record) bool) {
	for _, record := range c.records {
		if !yield(record) {
			return
		}
	}
}

// BenchmarkLargeMesh measures a start and what follows with 200,000 instances. heap-MiB is what the records hold.
func BenchmarkLargeMesh(b *testing.B) {
	e := startEtcd(b)
	w := newWriter(b, e, DefaultPrefix)
	fill(b, w)
	cfg := configOf(e, DefaultPrefix)
	cfg.Endpoints = []string{"http://" + e.front.target}

	b.Run("FirstLoad", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			load(b, cfg).Close()
		}
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/load")
	})
	b.Run("FirstLoadOfTen", func(b *testing.B) {
		b.ReportAllocs()
		var names []string
		for n := range 10 {
			names = append(names, fmt.Sprintf("service-%04d", 100*n))
		}
		for b.Loop() {
			load(b, cfg, func(f *Follower) { f.Follow(Scope{Names: names}) }).Close()
		}
		b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/load")
	})
	b.Run("Want", func(b *testing.B) {
		const wants = 200 // of a service each, since each is new once only
		f := load(b, cfg, func(f *Follower) {
			f.Follow(Scope{Used: true})
			f.fetches = rate.NewLimiter(rate.Inf, 1)
		})
		begun := time.Now()
		for n := range wants {
			if err := f.Want(fmt.Sprintf("service-%04d", n), time.Minute); err != nil {
				b.Fatal(err)
			}
			<-f.sink.(*counter).applied
		}
		b.ReportMetric(time.Since(begun).Seconds()*1000/wants, "ms/want")
		f.Close()
	})
	b.Run("Memory", func(b *testing.B) {
		for b.Loop() {
			before := heap()
			f := load(b, cfg)
			b.ReportMetric(float64(heap()-before)/(1<<20), "heap-MiB")
			f.Close()
		}
	})
	b.Run("Change", func(b *testing.B) {
		f := load(b, cfg)
		for b.Loop() {
			w.putInstance("service-0500", "10.2.0.7:8080")
			<-f.sink.(*counter).applied
		}
		f.Close()
	})
	b.Run("SnapshotWrite", func(b *testing.B) {
		cfg := cfg
		cfg.Snapshot = filepath.Join(b.TempDir(), "x.snapshot")
		f := load(b, cfg)
		f.Close()
		b.ReportAllocs()
		for b.Loop() {
			size, err := f.snapshot.write()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
		}
	})
	b.Run("SnapshotLoad", func(b *testing.B) {
		cfg := cfg
		cfg.Snapshot = filepath.Join(b.TempDir(), "x.snapshot")
		f := load(b, cfg)
		f.Close()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.snapshot.load(f.decoder, f.extent.loads); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// load starts a follower and waits for its first list.
func load(b *testing.B, cfg Config, adjust ...func(*Follower)) *Follower {
	sink := &counter{replaced: make(chan int, 1), applied: make(chan struct{}, 1)}
	f, err := NewFollower(cfg, sink)
	if err != nil {
		b.Fatal(err)
	}
	for _, change := range adjust {
		change(f)
	}
	f.Start()
	if records := <-sink.replaced; f.extent.scope.all() && records < benchServices*(benchInstances+1) {
		b.Fatalf("%d records", records)
	}
	return f
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// BenchmarkPassOver is the cost of an event of a service that isn't followed.
func BenchmarkPassOver(b *testing.B) {
	keys := newKeyspace(DefaultPrefix)
	e := newExtent()
	e.scope = Scope{Used: true}
	for n := range 50 {
		e.follow(fmt.Sprintf("callee-%02d", n), 1)
	}
	key := []byte(keys.instance("service-0500", "10.2.0.7:8080"))
	b.ReportAllocs()
	for b.Loop() {
		if e.takes(keys, key, 7) {
			b.Fatal("taken")
		}
	}
}

// BenchmarkAgents lists 100,000 agents.
func BenchmarkAgents(b *testing.B) {
	cfg := commonConfig(b)
	w := newWriter(b, common, cfg.Prefix)
	const agents = 100_000
	keys := newKeyspace(cfg.Prefix)
	var ops []clientv3.Op
	for n := range agents {
		self := model.Agent{
			Host: fmt.Sprintf("host-%06d.bj-a.example.test", n), IDC: "bj-a", Face: "caddy", Version: "v1.2.3", Synced: true,
			Revision: int64(n), Age: model.Duration(5 * time.Second), Services: 1000, Instances: 200_000, Started: time.Now(), Written: time.Now(),
		}.Tidy()
		if n == 0 {
			b.Logf("a value has %d bytes", len(self.JSON()))
		}
		if ops = append(ops, clientv3.OpPut(keys.agent(self.Host), string(self.JSON()))); len(ops) == maxBatch || n == agents-1 {
			if _, err := w.client.Txn(testContext(b)).Then(ops...).Commit(); err != nil {
				b.Fatal(err)
			}
			ops = nil
		}
	}
	client, err := NewClient(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for b.Loop() {
		if found, err := client.Agents(b.Context(), ""); err != nil || len(found) != agents {
			b.Fatalf("%d agents, %v", len(found), err)
		}
	}
}
