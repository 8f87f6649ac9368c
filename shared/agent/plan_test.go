package agent

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// at returns an instance with an IDC and labels such as "version=v1".
func at(service, address, idc string, labels ...string) model.Record {
	record := instances(service, address)[0]
	record.Instance.IDC = idc
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		if record.Instance.Labels == nil {
			record.Instance.Labels = map[string]string{}
		}
		record.Instance.Labels[key] = value
	}
	return record
}

// topology has two physical IDCs in north, one in south, one in west.
func topology(routes map[string][]model.IDCWeight, drained ...string) model.Record {
	return model.Record{Kind: model.KindTopology, Topology: &model.Topology{
		IDCs: map[string]model.IDC{
			"bj-a": {Logical: "north"}, "bj-b": {Logical: "north"}, "gz-a": {Logical: "south"}, "cd-a": {Logical: "west"},
		},
		Routes: routes, Drained: drained,
	}}
}

// send makes n calls like the given one, all successful, and counts where their first attempts go.
func (r *rig) send(t testing.TB, like *Call, n int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range n {
		call := r.begin(t, &Call{Callee: like.Callee, Caller: like.Caller, IDC: like.IDC, Key: like.Key, Attributes: like.Attributes})
		attempt, err := r.Pick(call)
		if err != nil {
			counts[err.(*Refusal).Reason]++
			continue
		}
		counts[attempt.HostPort]++
		attempt.Done(Outcome{Result: health.OK})
		call.End(200)
	}
	return counts
}

// about tells whether a count out of n is near its share: 6 standard deviations are two in a thousand million.
func about(count, n int, share float64) bool {
	return math.Abs(float64(count)-share*float64(n)) <= 6*math.Sqrt(float64(n)*share*(1-share))+1e-9
}

func ptr[T any](value T) *T { return &value }

func TestRoutesAndSplits(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "version=v1"), at("shop", "10.0.0.2:80", "bj-a", "version=v2"),
		at("shop", "10.0.0.3:80", "bj-a", "version=v3"), documented("shop", func(s *model.Service) {
			s.Routes = []model.Route{
				{Match: model.Match{Headers: map[string]model.StringMatch{"x-gray": {Equal: ptr("1")}}},
					Split: []model.Split{{Labels: map[string]string{"version": "v2"}, Weight: 1}}},
				{Match: model.Match{Callers: []string{"video-*"}},
					Split: []model.Split{
						{Labels: map[string]string{"version": "v2"}, Weight: 10}, {Labels: map[string]string{"version": "v1"}, Weight: 90},
					}},
				{Match: model.Match{Path: "/all"}},
				{Split: []model.Split{{Labels: map[string]string{"version": "v3"}, Weight: 1}}},
			}
		}))
	f := func(name string, like *Call, shares map[string]float64) {
		t.Helper()
		like.Callee = "shop"
		const n = 3000
		counts := r.send(t, like, n)
		for address, share := range shares {
			if !about(counts[address], n, share) {
				t.Errorf("%s: %s got %d of %d, want %v", name, address, counts[address], n, share)
			}
		}
		if len(counts) != len(shares) {
			t.Errorf("%s: %v", name, counts)
		}
	}
	f("first match", &Call{Caller: "video-web", Attributes: Attributes{Header: http.Header{"X-Gray": {"1"}}}}, map[string]float64{"10.0.0.2:80": 1})
	f("split", &Call{Caller: "video-web"}, map[string]float64{"10.0.0.2:80": .1, "10.0.0.1:80": .9})
	f("no split", &Call{Attributes: Attributes{Path: "/all"}}, map[string]float64{"10.0.0.1:80": 1. / 3, "10.0.0.2:80": 1. / 3, "10.0.0.3:80": 1. / 3})
	f("the rest", &Call{}, map[string]float64{"10.0.0.3:80": 1})
}

func TestSplitWithoutInstancesSpills(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "version=v1"), documented("shop", func(s *model.Service) {
		s.Routes = []model.Route{
			{Match: model.Match{Callers: []string{"a"}}, Split: []model.Split{
				{Labels: map[string]string{"version": "v2"}, Weight: 90}, {Labels: map[string]string{"version": "v1"}, Weight: 10},
			}},
			{Match: model.Match{Callers: []string{"b"}}, Split: []model.Split{{Labels: map[string]string{"version": "v2"}, Weight: 1}}},
		}
	}))
	if counts := r.send(t, &Call{Callee: "shop", Caller: "a"}, 100); counts["10.0.0.1:80"] != 100 {
		t.Errorf("a split without instances spills to the next: %v", counts)
	}
	if counts := r.send(t, &Call{Callee: "shop", Caller: "b"}, 10); counts[ReasonNoInstance] != 10 {
		t.Errorf("a route that leads nowhere doesn't fall back to what it excludes: %v", counts)
	}
}

func TestPercentIsStablePerKey(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "version=v1"), at("shop", "10.0.0.2:80", "bj-a", "version=v2"),
		documented("shop", func(s *model.Service) {
			s.Balance = model.Balance{Policy: model.ConsistentHash, Hash: "header:X-Uid"}
			s.Routes = []model.Route{
				{Match: model.Match{Percent: ptr(30.)}, Split: []model.Split{{Labels: map[string]string{"version": "v2"}, Weight: 1}}},
				{Split: []model.Split{{Labels: map[string]string{"version": "v1"}, Weight: 1}}},
			}
		}))
	gray := 0
	const users = 2000
	for user := range users {
		counts := r.send(t, &Call{Callee: "shop", Attributes: Attributes{Header: http.Header{"X-Uid": {fmt.Sprint(user)}}}}, 5)
		if len(counts) != 1 {
			t.Fatalf("user %d changes sides: %v", user, counts)
		}
		if counts["10.0.0.2:80"] > 0 {
			gray++
		}
	}
	if !about(gray, users, .3) {
		t.Errorf("%d of %d users are gray, want 30 %%", gray, users)
	}
	if counts := r.send(t, &Call{Callee: "shop"}, 1000); !about(counts["10.0.0.2:80"], 1000, .3) {
		t.Errorf("requests without a key are dealt one by one: %v", counts)
	}
}

func TestIDCTable(t *testing.T) {
	routes := map[string][]model.IDCWeight{
		"north": {{To: "north", Weight: 80}, {To: "south", Weight: 20}},
		"south": {{To: "south", Weight: 100}, {To: "north", Weight: 0}},
	}
	all := []model.Record{
		at("shop", "10.0.0.1:80", "bj-a"), at("shop", "10.0.0.2:80", "bj-b"), at("shop", "10.0.0.3:80", "gz-a"),
		at("shop", "10.0.0.4:80", "cd-a"), at("shop", "10.0.0.5:80", "nowhere"),
		at("north-only", "10.1.0.1:80", "bj-a"), at("stray", "10.2.0.1:80", ""), at("west-only", "10.3.0.1:80", "cd-a"),
		documented("own-table", func(s *model.Service) {
			s.IDCRoutes = map[string][]model.IDCWeight{"north": {{To: "west", Weight: 1}}}
		}),
		at("own-table", "10.4.0.1:80", "bj-a"), at("own-table", "10.4.0.2:80", "cd-a"),
	}
	r := newRig(t, append(all, topology(routes))...)
	const n = 2000
	f := func(name, callee, idc string, shares map[string]float64) {
		t.Helper()
		counts := r.send(t, &Call{Callee: callee, IDC: idc}, n)
		for address, share := range shares {
			if !about(counts[address], n, share) {
				t.Errorf("%s: %s got %d of %d, want %v", name, address, counts[address], n, share)
			}
		}
		if len(counts) != len(shares) {
			t.Errorf("%s: %v", name, counts)
		}
	}
	f("the agent's own", "shop", "", map[string]float64{"10.0.0.1:80": .4, "10.0.0.2:80": .4, "10.0.0.3:80": .2})
	f("another caller's", "shop", "gz-a", map[string]float64{"10.0.0.3:80": 1})
	everywhere := map[string]float64{"10.0.0.1:80": .2, "10.0.0.2:80": .2, "10.0.0.3:80": .2, "10.0.0.4:80": .2, "10.0.0.5:80": .2}
	f("no row", "shop", "cd-a", everywhere)
	f("unknown IDC", "shop", "mars", everywhere)
	f("spill to a row of weight 0", "north-only", "gz-a", map[string]float64{"10.1.0.1:80": 1})
	f("instances of unknown IDC take what nobody else can", "stray", "", map[string]float64{"10.2.0.1:80": 1})
	f("no row leads there", "west-only", "", map[string]float64{ReasonNoInstance: 1})
	f("the service's own table", "own-table", "", map[string]float64{"10.4.0.2:80": 1})

	// Switching an IDC is one document.
	r.catalog.Apply(2, []model.Record{topology(routes, "bj-a", "bj-b")})
	f("drained", "shop", "", map[string]float64{"10.0.0.3:80": 1})
	f("drained for those without a row", "shop", "cd-a", map[string]float64{"10.0.0.3:80": 1. / 3, "10.0.0.4:80": 1. / 3, "10.0.0.5:80": 1. / 3})
	f("all drained", "north-only", "", map[string]float64{ReasonNoInstance: 1})
	r.catalog.Apply(3, []model.Record{topology(routes)})
	f("back", "north-only", "", map[string]float64{"10.1.0.1:80": 1})
	r.SetIDC("gz-a")
	f("the agent moved", "shop", "", map[string]float64{"10.0.0.3:80": 1})
}

func TestBannedIDCSpillsByTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, at("shop", "10.0.0.1:80", "bj-a"), at("shop", "10.0.0.2:80", "gz-a"),
			topology(map[string][]model.IDCWeight{"north": {{To: "north", Weight: 100}, {To: "south", Weight: 0}}}))
		r.kill(t, "shop", "10.0.0.1:80")
		call := r.begin(t, &Call{Callee: "shop"})
		if attempt, err := r.Pick(call); err != nil || attempt.HostPort != "10.0.0.2:80" || attempt.Panic {
			t.Errorf("all of north is banned: %+v %v", attempt, err)
		}
		r.kill(t, "shop", "10.0.0.2:80")
		call = r.begin(t, &Call{Callee: "shop"})
		if attempt, err := r.Pick(call); err != nil || attempt.HostPort != "10.0.0.1:80" || !attempt.Panic {
			t.Errorf("everybody is banned: %+v %v", attempt, err)
		}
		r.Close()
	})
}

func TestRetriesSpillToTheNextIDC(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a"), at("shop", "10.0.0.2:80", "gz-a"),
		topology(map[string][]model.IDCWeight{"north": {{To: "north", Weight: 100}, {To: "south", Weight: 0}}}))
	call := r.begin(t, &Call{Callee: "shop"})
	for n, want := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
		attempt, err := r.Pick(call)
		if err != nil || attempt.HostPort != want {
			t.Fatalf("attempt %d: %+v %v", n, attempt, err)
		}
		attempt.Done(Outcome{Result: health.ReadError})
	}
}

func TestLineView(t *testing.T) {
	second := model.Duration(time.Second)
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "pool=online"), at("shop", "10.0.0.2:80", "bj-a", "pool=offline"),
		documented("offline-report", func(s *model.Service) { s.Level = 2 }),
		documented("video", func(s *model.Service) { s.Level = 1 }),
		documented("shop", func(s *model.Service) {
			s.Callers = []model.CallerOverride{
				{Match: []string{"offline-*", "batch"}, Level: ptr(5),
					Timeouts: &model.TimeoutsOverride{Normal: model.TimeoutSet{Read: 30 * second}},
					Retries:  &model.RetriesOverride{Normal: model.RetrySetOverride{Attempts: ptr(0)}},
					Routes:   []model.Route{{Split: []model.Split{{Labels: map[string]string{"pool": "offline"}, Weight: 1}}}}},
				{Match: []string{"*"}, Timeouts: &model.TimeoutsOverride{Normal: model.TimeoutSet{Read: second}}},
			}
		}))
	f := func(caller string, level int, read model.Duration, attempts int, pool string) {
		t.Helper()
		call := r.begin(t, &Call{Callee: "shop", Caller: caller})
		if call.Level() != level || call.Timeouts().Read != read || call.Retries().Attempts != attempts || call.Timeouts().Write != 5*second {
			t.Errorf("caller %q: level %d, timeouts %+v, retries %+v", caller, call.Level(), call.Timeouts(), call.Retries())
		}
		counts := r.send(t, &Call{Callee: "shop", Caller: caller}, 20)
		if all := counts["10.0.0.2:80"] == 20; all != (pool == "offline") { // else it takes turns
			t.Errorf("caller %q: %v", caller, counts)
		}
	}
	f("offline-report", 5, 30*second, 0, "offline")
	f("offline-unknown", 5, 30*second, 0, "offline") // a name that no document has
	f("batch", 5, 30*second, 0, "offline")
	f("video", 1, second, 2, "online")
	f("", 3, second, 2, "online")
}

func TestNewDocumentsDontTouchCallsUnderWay(t *testing.T) {
	r := newRig(t, at("shop", "10.0.0.1:80", "bj-a", "version=v1"), at("shop", "10.0.0.2:80", "bj-a", "version=v1"),
		documented("shop", func(s *model.Service) {
			s.Routes = []model.Route{{Match: model.Match{Path: "/a"}}, {Split: []model.Split{{Labels: map[string]string{"version": "v1"}, Weight: 1}}}}
		}))
	call := r.begin(t, &Call{Callee: "shop"})
	first := r.pick(t, call)
	first.Done(Outcome{Result: health.ReadError})
	r.catalog.Apply(2, []model.Record{documented("shop", func(s *model.Service) { s.Retries.Normal.Attempts = 0 })}) // no routes any more
	if second, err := r.Pick(call); err != nil || second.HostPort == first.HostPort {
		t.Errorf("the policy of a call under way changed: %+v %v", second, err)
	}
}

func TestStates(t *testing.T) {
	records := instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80")
	records[1].Instance.State, records[2].Instance.State, records[3].Instance.Weight = model.Drain, model.Down, 0
	r := newRig(t, records...)
	if counts := r.send(t, &Call{Callee: "shop"}, 10); counts["10.0.0.1:80"] != 10 {
		t.Errorf("%v", counts)
	}
}

func TestWeights(t *testing.T) {
	for _, policy := range policies[:3] { // under ewma latency decides, under hashing the keys
		records := instances("shop", "10.0.0.1:80", "10.0.0.2:80")
		records[0].Instance.Weight, records[1].Instance.Weight = 100, 300
		r := newRig(t, append(records, documented("shop", func(s *model.Service) { s.Balance.Policy = policy }))...)
		if counts := r.send(t, &Call{Callee: "shop"}, 4000); !about(counts["10.0.0.2:80"], 4000, .75) {
			t.Errorf("%s: %v", policy, counts)
		}
	}
}

func TestBadCodesCutTheShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
			s.Ban.BadCodes = map[string]float64{"503": 0.5}
		}))...)
		call := r.begin(t, &Call{Callee: "shop"})
		attempt := r.pick(t, call)
		attempt.Done(Outcome{Result: health.OK, Code: 503})
		bad := attempt.HostPort
		if counts := r.send(t, &Call{Callee: "shop"}, 3000); !about(counts[bad], 3000, 1./3) {
			t.Errorf("half the weight of the other is a third: %v", counts)
		}
		time.Sleep(balance.PenaltyRecovery)
		if counts := r.send(t, &Call{Callee: "shop"}, 100); counts[bad] < 49 || counts[bad] > 51 {
			t.Errorf("after its recovery: %v", counts)
		}
		r.Close()
	})
}

func TestInFlightIsCountedWhereThePolicyGoesByIt(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
		s.Balance.Policy = model.LeastRequest
	}))...)
	var open []*Attempt
	for range 10 {
		call := r.begin(t, &Call{Callee: "shop"})
		attempt := r.pick(t, call)
		open = append(open, attempt)
	}
	for _, backend := range r.Backends("shop") {
		if backend.InFlight != 5 {
			t.Errorf("%s has %d in flight, want half of 10", backend.Backend, backend.InFlight)
		}
	}
	// The policy changes while they are in flight: what was begun is ended.
	r.catalog.Apply(2, []model.Record{documented("shop", nil)})
	r.send(t, &Call{Callee: "shop"}, 4)
	for _, attempt := range open {
		attempt.Done(Outcome{Result: health.OK})
		attempt.Done(Outcome{Result: health.OK})
	}
	for _, backend := range r.Backends("shop") {
		if backend.InFlight != 0 {
			t.Errorf("%s has %d in flight, want none", backend.Backend, backend.InFlight)
		}
	}
}

func TestABanMovesOnlyItsOwnKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var addresses []string
		for n := range 20 {
			addresses = append(addresses, fmt.Sprintf("10.0.0.%d:80", n+1))
		}
		r := newRig(t, append(instances("shop", addresses...), documented("shop", func(s *model.Service) {
			s.Balance = model.Balance{Policy: model.ConsistentHash, Hash: "client"}
		}))...)
		where := func() map[string]string {
			found := map[string]string{}
			for n := range 2000 {
				client := fmt.Sprintf("10.9.%d.%d", n/200, n%200)
				for address := range r.send(t, &Call{Callee: "shop", Attributes: Attributes{Client: client}}, 1) {
					found[client] = address
				}
			}
			return found
		}
		before := where()
		r.kill(t, "shop", "10.0.0.7:80")
		moved := 0
		for client, now := range where() {
			switch {
			case before[client] == "10.0.0.7:80":
				moved++
				if now == "10.0.0.7:80" {
					t.Fatal("a banned instance is chosen")
				}
			case now != before[client]:
				t.Fatalf("%s moved from %s to %s", client, before[client], now)
			}
		}
		if moved == 0 {
			t.Error("nobody was there")
		}
		r.Close()
	})
}

func TestHotIsOneCacheLine(t *testing.T) {
	if size := unsafe.Sizeof(hot{}); size != 64 {
		t.Errorf("%d bytes", size)
	}
}

func TestDeadlineIsOver(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80")...)
	err := r.Begin(&Call{Callee: "shop", Timeout: -1})
	if refusal := new(Refusal); !errors.As(err, &refusal) || refusal.Reason != ReasonDeadline || refusal.Status() != 504 {
		t.Errorf("%v", err)
	}
}

// A family that most instances of an IDC don't have loses nothing by that while one of its instances starts slowly.
func TestSlowStartOfAFamilyStaysInItsIDC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := []model.Record{
			topology(map[string][]model.IDCWeight{"north": {{To: "north", Weight: 100}, {To: "south", Weight: 0}}}),
			at("shop", "10.0.0.1:80", "bj-a"), at("shop", "10.0.0.2:80", "bj-a"), at("shop", "10.0.0.3:80", "gz-a"),
		}
		for n := range 8 {
			records = append(records, at("shop", fmt.Sprintf("[2001:db8::%d]:80", n+1), "bj-a"))
		}
		r := newRig(t, records...)
		r.kill(t, "shop", "10.0.0.1:80")
		r.dead.Clear()
		for time.Sleep(11 * time.Second); r.service("shop").state.Load().banned() > 0; time.Sleep(time.Second) {
		}
		far := 0
		for range 200 {
			call := r.begin(t, &Call{Callee: "shop", Family: IPv4})
			if r.pick(t, call).HostPort == "10.0.0.3:80" {
				far++
			}
		}
		if far > 0 {
			t.Errorf("%d of 200 went to another IDC, though one of two is warm", far)
		}
		r.Close()
	})
}

// When many instances are banned one after another, a plan serves until its making is paid for, and passes the banned by.
func TestAnOutdatedPlanPassesTheBannedBy(t *testing.T) {
	for _, policy := range policies {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"), documented("shop", func(s *model.Service) {
				s.Balance.Policy = policy
			}))...)
			r.spread(t, "shop", 10)
			s := r.service("shop")
			costly := s.current(r.now())
			costly.cost.Store(int64(time.Second))
			dead := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
			for n, address := range dead[:2] {
				r.kill(t, "shop", address)
				if s.current(r.now()) != costly {
					t.Fatalf("%s: ban %d: a new plan at once", policy, n+1)
				}
				for other := range r.spread(t, "shop", 50) {
					if slices.Contains(dead[:n+1], other) {
						t.Errorf("%s: %s is banned, and chosen", policy, other)
					}
				}
			}
			r.kill(t, "shop", dead[2])
			r.kill(t, "shop", "10.0.0.4:80") // the old plan knows no instance any more that is up
			r.spread(t, "shop", 10)
			if s.current(r.now()) == costly {
				t.Errorf("%s: the old plan still serves, which knows nobody", policy)
			}
			time.Sleep(rest * time.Second)
			r.spread(t, "shop", 1)
			if now := s.state.Load(); now.plan.Load() != s.current(r.now()) {
				t.Errorf("%s: the plan is outdated still", policy)
			}
		})
	}
}
