package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

var quiet = slog.New(slog.DiscardHandler)

// rig is an agent over a catalog that the test writes.
type rig struct {
	*Agent
	catalog *catalog.Catalog
	dead    sync.Map // addresses whose port doesn't answer a probe
}

// service returns a callee awake, as one that was called.
func (r *rig) service(name string) *service {
	s := r.Agent.service(name)
	if s != nil {
		s.awake()
	}
	return s
}

func newRig(t testing.TB, records ...model.Record) *rig {
	t.Helper()
	r := &rig{catalog: catalog.New(quiet)}
	r.Agent = New(r.catalog, Options{IDC: "bj-a", Probe: func(_ context.Context, address netip.AddrPort, _ time.Duration) error {
		if _, dead := r.dead.Load(address); dead {
			return errors.New("connection refused")
		}
		return nil
	}})
	t.Cleanup(r.Close)
	if records != nil {
		r.catalog.Replace(1, records)
	}
	return r
}

func instances(service string, addresses ...string) (records []model.Record) {
	for _, address := range addresses {
		instance := model.DefaultInstance()
		instance.Address = netip.MustParseAddrPort(address)
		instance.IDC = "bj-b"
		records = append(records, model.Record{Kind: model.KindInstances, Name: service, Address: address, Instance: &instance})
	}
	return records
}

func documented(name string, change func(*model.Service)) model.Record {
	s := model.DefaultService(name)
	if change != nil {
		change(s)
	}
	return model.Record{Kind: model.KindService, Name: name, Service: s}
}

// begin begins a call.
func (r *rig) begin(t testing.TB, call *Call) *Call {
	t.Helper()
	if err := r.Begin(call); err != nil {
		t.Fatal(err)
	}
	return call
}

// pick makes an attempt for a call.
func (r *rig) pick(t testing.TB, call *Call) *Attempt {
	t.Helper()
	attempt, err := r.Pick(call)
	if err != nil {
		t.Fatal(err)
	}
	return attempt
}

// kill makes a connection to an instance fail, and the probes of it from now on: it is banned by proof.
func (r *rig) kill(t testing.TB, callee, address string) {
	t.Helper()
	dead := netip.MustParseAddrPort(address)
	r.dead.Store(dead, true)
	r.PickAddress(r.begin(t, &Call{Callee: callee, HandOut: true}), dead).Report(Outcome{Result: health.ConnectError})
	synctest.Wait()
}

// try makes a whole call with one attempt and returns where it went.
func (r *rig) try(t testing.TB, callee string, result health.Result) (string, error) {
	t.Helper()
	call := &Call{Callee: callee, Class: DefaultClass}
	if err := r.Begin(call); err != nil {
		return "", err
	}
	attempt, err := r.Pick(call)
	if err != nil {
		return "", err
	}
	attempt.Done(Outcome{Result: result})
	call.End(200)
	return attempt.HostPort, nil
}

// spread counts where n calls go.
func (r *rig) spread(t testing.TB, callee string, n int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range n {
		address, err := r.try(t, callee, health.OK)
		if err != nil {
			t.Fatal(err)
		}
		counts[address]++
	}
	return counts
}

func TestRefusals(t *testing.T) {
	f := func(r *rig, callee, reason string, status int) {
		t.Helper()
		_, err := r.try(t, callee, health.OK)
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != reason || refusal.Status() != status {
			t.Errorf("callee %q: %v, want %s (%d)", callee, err, reason, status)
		}
	}
	f(newRig(t), "", ReasonNoCallee, 400)
	f(newRig(t), "shop", ReasonNotSynced, 503)
	r := newRig(t, append(instances("shop", "10.0.0.1:80"), documented("empty", nil))...)
	f(r, "", ReasonNoCallee, 400)
	f(r, "nobody", ReasonUnknownService, 404)
	f(r, "Shop", ReasonUnknownService, 404)
	f(r, "empty", ReasonNoInstance, 503)
	drained := instances("shop", "10.0.0.1:80")
	drained[0].Instance.State = model.Drain
	f(newRig(t, drained...), "shop", ReasonNoInstance, 503)
	weightless := instances("shop", "10.0.0.1:80")
	weightless[0].Instance.Weight = 0
	f(newRig(t, weightless...), "shop", ReasonNoInstance, 503)
}

func TestRoundRobin(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")...)
	for address, count := range r.spread(t, "shop", 300) {
		if count < 97 || count > 103 { // blocks of turns that other cores still hold make some more or less
			t.Errorf("%s got %d of 300", address, count)
		}
	}
}

func TestFamilies(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "[2001:db8::1]:80", "[2001:db8::2]:80")...)
	f := func(family Family, want ...string) {
		t.Helper()
		call := r.begin(t, &Call{Callee: "shop", Family: family, HandOut: true})
		var got []string
		for attempt, err := r.Pick(call); err == nil; attempt, err = r.Pick(call) {
			got = append(got, attempt.HostPort)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("family %d: %v, want %v", family, got, want)
		}
	}
	f(AnyFamily, "10.0.0.1:80", "[2001:db8::1]:80", "[2001:db8::2]:80")
	f(IPv4, "10.0.0.1:80")
	f(IPv6, "[2001:db8::1]:80", "[2001:db8::2]:80")

	// Most programs ask for both families in turn.
	got := map[string]int{}
	for n := range 100 {
		call := r.begin(t, &Call{Callee: "shop", Family: []Family{IPv4, IPv6}[n%2], HandOut: true})
		attempt := r.pick(t, call)
		got[attempt.HostPort]++
	}
	if first := got["[2001:db8::1]:80"]; first < 23 || first > 27 || got["10.0.0.1:80"] != 50 {
		t.Errorf("asked for both families in turn: %v", got)
	}
}

func TestRetriesGoElsewhere(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")...)
	call := r.begin(t, &Call{Callee: "shop"})
	seen := map[string]bool{}
	for n := range 3 {
		attempt := r.pick(t, call)
		if attempt.Number != n || seen[attempt.HostPort] {
			t.Errorf("attempt %d is numbered %d, on %s after %v", n, attempt.Number, attempt.HostPort, seen)
		}
		seen[attempt.HostPort] = true
		attempt.Done(Outcome{Result: health.ConnectError})
	}
	if _, err := r.Pick(call); err == nil || call.Attempts() != 3 {
		t.Errorf("by default a call has one attempt and two more, not %d (%v)", call.Attempts(), err)
	}
	call = r.begin(t, &Call{Callee: "shop", HandOut: true})
	for n := range 5 {
		if _, err := r.Pick(call); (err == nil) != (n < 4) {
			t.Errorf("hand-out %d of 4 instances: %v", n, err)
		}
	}
}

func TestBannedAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("redis", "127.0.0.2:6379", "127.0.0.3:6379", "127.0.0.4:6379")...)
		dead := netip.MustParseAddrPort("127.0.0.2:6379")
		r.kill(t, "redis", dead.String())
		if counts := r.spread(t, "redis", 100); counts[dead.String()] != 0 || len(counts) != 2 {
			t.Errorf("after its proof: %v", counts)
		}
		// A change of the list, and of the documents, heals nobody.
		r.catalog.Apply(2, append(instances("redis", "127.0.0.5:6379"), documented("redis", nil)))
		r.catalog.Replace(3, append(instances("redis", "127.0.0.2:6379", "127.0.0.3:6379", "127.0.0.5:6379"), documented("redis", nil)))
		if counts := r.spread(t, "redis", 100); counts[dead.String()] != 0 || len(counts) != 2 {
			t.Errorf("after the list changed: %v", counts)
		}
		before := r.service("redis").state.Load()
		time.Sleep(35 * time.Second)
		if r.service("redis").state.Load() != before {
			t.Error("each probe of a dead instance makes a new plan")
		}
		r.dead.Delete(dead)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if counts := r.spread(t, "redis", 99); counts[dead.String()] > 20 {
			t.Errorf("after it came back it starts slowly, and doesn't get its third at once: %v", counts)
		}
		time.Sleep(balance.SlowStartTime)
		if counts := r.spread(t, "redis", 99); counts[dead.String()] < 24 || counts[dead.String()] > 42 { // a core leaves turns behind when it is taken away
			t.Errorf("after its slow start: %v", counts)
		}
		r.Close()
	})
}

func TestPanicChoosesTheLeastBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")...)
		r.kill(t, "shop", "10.0.0.1:80")
		r.kill(t, "shop", "10.0.0.3:80")
		for range 10 {
			call := r.begin(t, &Call{Callee: "shop", HandOut: true})
			r.PickAddress(call, netip.MustParseAddrPort("10.0.0.2:80")).Done(Outcome{Result: health.ReadTimeout})
		}
		synctest.Wait()
		if counts := r.spread(t, "shop", 10); counts["10.0.0.2:80"] != 10 {
			t.Errorf("two are proven dead, and the last one is doubtful: %v", counts)
		}
		call := r.begin(t, &Call{Callee: "shop"})
		if attempt, err := r.Pick(call); err != nil || !attempt.Panic {
			t.Errorf("the attempt doesn't say that it was made in panic: %+v, %v", attempt, err)
		}
		r.catalog.Replace(2, instances("shop", "10.0.0.1:80"))
		if counts := r.spread(t, "shop", 10); counts["10.0.0.1:80"] != 10 {
			t.Errorf("all are proven dead, and still one must be chosen: %v", counts)
		}
		r.Close()
	})
}

func TestDoneCountsOnce(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80")...)
	call := r.begin(t, &Call{Callee: "shop"})
	attempt := r.pick(t, call)
	for range 10 {
		attempt.Done(Outcome{Result: health.ReadError})
		call.End(502)
	}
	want := `
# HELP ufc_attempts_total Attempts on instances by result.
# TYPE ufc_attempts_total counter
ufc_attempts_total{callee="shop",result="read_error"} 1
# HELP ufc_requests_total Calls by the status that the caller got and the IDC of the instance.
# TYPE ufc_requests_total counter
ufc_requests_total{callee="shop",caller="unknown",code="502",idc="bj-b"} 1
`
	if err := testutil.CollectAndCompare(r, strings.NewReader(want), "ufc_attempts_total", "ufc_requests_total"); err != nil {
		t.Error(err)
	}
}

// TestChangesUnderLoad runs calls against changes of everything, for the race detector and for answers that never fail.
func TestChangesUnderLoad(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")...)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				result := health.OK
				if n%3 == 0 {
					result = health.ReadError
				}
				var refusal *Refusal // by the fuse, of a callee that fails so often
				if _, err := r.try(t, "shop", result); err != nil && (!errors.As(err, &refusal) || refusal.Reason != ReasonFused) {
					t.Error(err)
					return
				}
			}
		})
	}
	for revision := int64(2); revision < 500; revision++ {
		r.catalog.Apply(revision, instances("shop", fmt.Sprintf("10.0.1.%d:80", revision%250+1)))
		gone := instances("shop", fmt.Sprintf("10.0.1.%d:80", (revision+100)%250+1))
		r.catalog.Apply(revision, []model.Record{{Kind: model.KindInstances, Name: "shop", Address: gone[0].Address, Deleted: true}})
		testutil.CollectAndCount(r)
	}
	stop.Store(true)
	wg.Wait()
}

func TestRemovedServiceIsUnknown(t *testing.T) {
	r := newRig(t, documented("shop", nil), documented("cart", nil))
	call := r.begin(t, &Call{Callee: "shop"})
	r.catalog.Apply(2, []model.Record{{Kind: model.KindService, Name: "shop", Deleted: true}})
	if r.Find("shop", 0) == nil || r.Find("cart", 0) != nil {
		t.Error("a removed service is known, or another one is not")
	}
	call.End(503) // of a call that was under way
}

func TestBansOutliveAnEmptyList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := instances("redis", "127.0.0.2:6379")
		gone := []model.Record{{Kind: model.KindInstances, Name: "redis", Address: "127.0.0.2:6379", Deleted: true}}
		r := newRig(t, one...)
		r.dead.Store(netip.MustParseAddrPort("127.0.0.2:6379"), true)
		if _, err := r.try(t, "redis", health.ConnectError); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.catalog.Apply(2, gone)
		if _, err := r.try(t, "redis", health.OK); err == nil || len(r.departed) != 1 {
			t.Errorf("a service without a key is known (%v), or forgotten with its ban: %v", err, r.departed)
		}
		r.catalog.Apply(3, one)
		if now := r.service("redis").state.Load(); now.banned() != 1 || len(r.departed) != 0 {
			t.Errorf("%d banned after the instance came back, %v departed", now.banned(), r.departed)
		}
		r.catalog.Apply(4, gone)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		r.catalog.Apply(5, instances("shop", "10.0.0.1:80"))
		if len(r.departed) != 0 {
			t.Errorf("departed services are remembered beyond their bans: %v", r.departed)
		}
		r.Close()
	})
}
