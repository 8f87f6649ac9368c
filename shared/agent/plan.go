package agent

import (
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// place is where the agent runs and what the topology says of all IDCs. It never changes.
type place struct {
	idc      string // physical; empty: unknown
	topology *model.Topology
	idcs     *route.IDCs
}

// plan is how the calls to a callee find their instances: what its documents, the topology and the bans come to. It never
// changes, and is made when the first call needs it, since an agent knows a thousand callees and calls a few.
//
// Of a callee that is called now and then nothing is in the processor's caches, and each line that a call reads takes as long as
// 30 ns of computing. So what nearly all calls read comes first, and where all calls go the same way, straight leads there.
type plan struct {
	place  *place
	hashes bool  // the policy goes by a key
	tracks bool  // the policy goes by what is in flight
	learns bool  // the policy goes by latency
	checks bool  // the agent checks the instances by itself
	only   *path // of the only view: there are no routes; nil: there are several paths
	// lacks tells of which families there is no instance that serves; AnyFamily is none of them.
	lacks [families]bool
	// straight are the candidates of all calls from the agent's own IDC, by family, if there is one path, and one group for that IDC.
	// nil: there isn't, or they aren't needed yet.
	straight [families]atomic.Pointer[candidates]
	drops    []drop
	service  *model.Service
	views    []view // the first one that matches the caller holds; the last one matches all
	badCodes []badCode
	memories *memories
	random   func() uint64
	size     int // instances of the callee, whoever may be chosen
	key      route.Key
	made     time.Duration // by the agent's clock
	cost     atomic.Int64  // time that it took to make, lists of candidates included
}

// rest is for how many times the time that it took to make a plan serves at least, even if bans have changed since. So making
// plans takes a tenth of a core at most, when thousands of instances die one after another. Instances that were banned since
// are skipped (choose).
const rest = 9

// rested tells whether another plan may take the place of this one, which bans have outdated.
func (p *plan) rested(now time.Duration) bool {
	return now-p.made >= rest*time.Duration(p.cost.Load())
}

// view is what holds for some callers.
type view struct {
	callers route.Globs
	level   int            // importance of the calls; 0: the caller's own
	patient bool           // they may wait longer for an answer than others
	service *model.Service // the callee's document, with what is overridden for these callers
	routes  *route.Table
	paths   []path // by route; the last one is for what no route matches
}

// path is where the requests of one route go.
type path struct {
	first   int          // number of its first subset among all subsets of the view
	route   *route.Route // nil: this is the path of requests that match no route
	subsets []*subset    // by split; one of all instances if there is no split
	order   []int        // indexes of the subsets, the largest share first: what requests spill to
}

// subset is the instances that have some labels.
type subset struct {
	everywhere *table            // for callers without a row in the IDC table
	own        *table            // for callers in the agent's own IDC
	tables     map[string]*table // by the caller's logical IDC
}

// table is a subset's groups by IDC, with the shares of some callers' traffic that go to them.
type table struct {
	groups []*group // by row; last the instances whose IDC is unknown, if there are any: their share is 0
	shares route.Shares
	order  []int // indexes of the groups, the largest share first: what requests spill to
}

// badCode is a status for which an instance's weight is multiplied by a factor, 0–1.
type badCode struct {
	code   int
	factor float64
}

// current returns the plan to go by. It may have been made before the last bans.
func (s *service) current(at time.Duration) *plan {
	now, here := s.awake(), s.agent.place.Load()
	if p := now.plan.Load(); p != nil && p.place == here {
		return p
	}
	if p := now.outdated; p != nil && p.place == here && !p.rested(at) {
		return p
	}
	return s.newest()
}

// newest returns the plan of the present state, made now if there is none.
func (s *service) newest() *plan {
	s.planning.Lock()
	defer s.planning.Unlock()
	now, here := s.state.Load(), s.agent.place.Load()
	p := now.plan.Load()
	if p == nil || p.place != here {
		p = s.compile(now, here)
		now.plan.Store(p)
	}
	return p
}

// compile makes the plan of a state.
func (s *service) compile(now *state, here *place) *plan {
	document, begun := now.view.Service, s.agent.now()
	p := &plan{
		service: document, place: here, memories: &s.memories, random: s.agent.random, size: len(now.instances),
		key:    route.ParseKey(document.Balance.Hash),
		hashes: document.Balance.Policy == model.ConsistentHash, tracks: balance.Tracks(document.Balance.Policy),
		learns:   document.Balance.Policy == model.EWMA,
		checks:   document.Check != nil,
		badCodes: compileBadCodes(document.Ban.BadCodes),
		drops:    compileDrops(document.Drop),
	}
	c := &compiler{plan: p, all: now.instances, byHand: now.byHand, subsets: map[string]*subset{}}
	for n := range document.Callers {
		override := &document.Callers[n]
		v := c.view(document.WithOverride(override))
		v.callers = route.CompileGlobs(override.Match)
		if override.Level != nil {
			v.level = *override.Level
		}
		v.patient = untilAnswer(&v.service.Timeouts.Normal) > untilAnswer(&document.Timeouts.Normal)
		p.views = append(p.views, v)
	}
	p.views = append(p.views, c.view(document))
	if len(p.views) == 1 && len(p.views[0].paths) == 1 {
		p.only = &p.views[0].paths[0]
	}
	p.lacks = lacking(c.subset(nil).everywhere.groups[0].instances)
	s.memories.keep(document.Balance.Policy, c.subsets)
	p.made = s.agent.now()
	p.cost.Store(int64(p.made - begun))
	return p
}

func compileBadCodes(factors map[string]float64) (codes []badCode) {
	for text, factor := range factors {
		if code, err := strconv.Atoi(text); err == nil { // validated by model
			codes = append(codes, badCode{code, factor})
		}
	}
	return codes
}

// lacking tells of which families there is no instance among those that serve.
func lacking(serving []*instance) (lacks [families]bool) {
	for family := IPv4; family < families; family++ {
		lacks[family] = !slices.ContainsFunc(serving, family.has)
	}
	return lacks
}

// viewOf returns the index of a caller's view.
func (p *plan) viewOf(caller string) int {
	last := len(p.views) - 1
	for n := range p.views[:last] {
		if p.views[n].callers.Match(caller) {
			return n
		}
	}
	return last
}

// table returns the table for a caller in an IDC.
func (p *plan) table(of *subset, idc string) *table {
	if idc == p.place.idc {
		return of.own
	}
	if t := of.tables[p.place.idcs.Logical(idc)]; t != nil {
		return t
	}
	return of.everywhere
}

// compiler makes the parts of a plan.
type compiler struct {
	plan    *plan
	all     []*instance
	byHand  handBans           // who may not be chosen
	subsets map[string]*subset // by labels: routes often name the same ones
}

func (c *compiler) view(service *model.Service) view {
	routes, err := route.Compile(service.Routes)
	if err != nil { // validated by model: can't be
		routes = &route.Table{}
	}
	v := view{service: service, routes: routes, paths: make([]path, 0, len(routes.Routes)+1)}
	for n := range routes.Routes {
		v.paths = append(v.paths, c.path(&routes.Routes[n]))
	}
	v.paths = append(v.paths, path{subsets: []*subset{c.subset(nil)}, order: []int{0}})
	first := 0
	for n := range v.paths {
		v.paths[n].first = first
		first += len(v.paths[n].subsets)
	}
	return v
}

func (c *compiler) path(r *route.Route) path {
	if len(r.Splits) == 0 {
		return path{route: r, subsets: []*subset{c.subset(nil)}, order: []int{0}}
	}
	to := path{route: r}
	weights := make([]int, len(r.Splits))
	for n := range r.Splits {
		to.subsets = append(to.subsets, c.subset(r.Splits[n].Labels))
		weights[n] = r.Splits[n].Weight
	}
	to.order = byWeight(weights)
	return to
}

// byWeight returns the indexes of weights, the largest first.
func byWeight(weights []int) []int {
	order := make([]int, len(weights))
	for n := range order {
		order[n] = n
	}
	slices.SortStableFunc(order, func(a, b int) int { return weights[b] - weights[a] })
	return order
}
