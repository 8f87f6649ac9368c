package agent

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/route"
)

// group is the instances of a subset in one logical IDC, or in all of them.
type group struct {
	key       memoryKey
	plan      *plan
	instances []*instance                          // those that serve, banned or not
	lists     [families]atomic.Pointer[candidates] // nil: not needed yet
	mu        sync.Mutex                           // held while a list is made
}

// candidates are the instances of a group that may be chosen. They are listed when a call first needs them, since a policy's
// tables can be large.
type candidates struct {
	trials    []*instance    // half open
	policy    balance.Policy // chooses an index into instances
	panic     bool           // under half are up; instances are all that may answer
	instances []*instance
	memory    *balance.Memory
	calm      atomic.Pointer[balance.Policy] // least request, for an avalanche; nil: not needed yet
	blind     atomic.Pointer[balance.Policy] // round robin, while most hand-outs are unreported; nil: not needed yet
	scaled    []balance.Member               // of policy, in panic; else they are those of instances
	warmth    *warmth
}

// memoryKey names a list of candidates, so that what its policy remembers passes on from plan to plan.
type memoryKey struct {
	policy     model.BalancePolicy
	labels     string // nameOf
	everywhere bool   // of all IDCs
	idc        string // logical
	family     Family
}

// subset returns the subset of the instances that have all of the labels.
func (c *compiler) subset(labels map[string]string) *subset {
	name := nameOf(labels)
	if known := c.subsets[name]; known != nil {
		return known
	}
	here := c.plan.place
	key := memoryKey{policy: c.plan.service.Balance.Policy, labels: name}
	byIDC := map[string]*group{}
	all := c.group(key)
	all.key.everywhere = true
	for _, i := range c.all {
		if !c.byHand.leave(i.Instance, here.idcs) || !hasLabels(i, labels) {
			continue
		}
		all.instances = append(all.instances, i)
		logical := here.idcs.Logical(i.IDC)
		if byIDC[logical] == nil {
			byIDC[logical] = c.group(key)
			byIDC[logical].key.idc = logical
		}
		byIDC[logical].instances = append(byIDC[logical].instances, i)
	}
	s := &subset{everywhere: newTable([]*group{all}, []int{1}), tables: map[string]*table{}}
	for idc := range here.topology.IDCs {
		rows := here.idcs.Rows(c.plan.service.IDCRoutes, idc)
		if logical := here.idcs.Logical(idc); rows != nil && s.tables[logical] == nil {
			s.tables[logical] = tableOf(rows, byIDC)
		}
	}
	if s.own = s.tables[here.idcs.Logical(here.idc)]; s.own == nil {
		s.own = s.everywhere
	}
	c.subsets[name] = s
	return s
}

func (c *compiler) group(key memoryKey) *group { return &group{key: key, plan: c.plan} }

// nameOf returns a text that is the same for the same labels, and for no others.
func nameOf(labels map[string]string) string {
	var name []byte
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		name = strconv.AppendQuote(append(name, ' '), label)
		name = strconv.AppendQuote(append(name, '='), labels[label])
	}
	return string(name)
}

func hasLabels(i *instance, labels map[string]string) bool {
	for label, value := range labels {
		if has, ok := i.Labels[label]; !ok || has != value {
			return false
		}
	}
	return true
}

// tableOf makes a table out of the rows for a caller's IDC. Instances whose IDC the topology doesn't know only get requests that
// no others can take.
func tableOf(rows []model.IDCWeight, byIDC map[string]*group) *table {
	var groups []*group
	var weights []int
	for _, row := range rows {
		if g := byIDC[row.To]; g != nil {
			groups, weights = append(groups, g), append(weights, row.Weight)
		}
	}
	if g := byIDC[""]; g != nil {
		groups, weights = append(groups, g), append(weights, 0)
	}
	return newTable(groups, weights)
}

// newTable returns a table of groups. A group in panic gets its share only if all of them are in panic.
func newTable(groups []*group, weights []int) *table {
	usable := make([]int, len(groups))
	for n, g := range groups {
		if g.healthy() {
			usable[n] = weights[n]
		}
	}
	t := &table{groups: groups, shares: route.NewShares(usable), order: byWeight(weights)}
	if !slices.ContainsFunc(groups, (*group).healthy) {
		t.shares = route.NewShares(weights)
	}
	return t
}

// healthy tells whether enough instances of the group are left to choose without panic.
func (g *group) healthy() bool {
	left := 0
	for _, i := range g.instances {
		if i.pulse.State() == health.Up {
			left++
		}
	}
	return left > 0 && !health.Under(left, len(g.instances))
}

// candidates returns the candidates for callers that can use a family.
func (g *group) candidates(family Family) *candidates {
	if made := g.lists[family].Load(); made != nil {
		return made
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	made := g.lists[family].Load()
	if made == nil {
		begun := time.Now()
		made = g.newCandidates(family)
		g.lists[family].Store(made)
		g.plan.cost.Add(int64(time.Since(begun)))
	}
	return made
}

// newCandidates lists the instances that are up, or in panic also the banned ones that may answer.
func (g *group) newCandidates(family Family) *candidates {
	foreign := func(i *instance) bool { return !family.has(i) }
	if family != AnyFamily && !slices.ContainsFunc(g.instances, foreign) {
		family = AnyFamily // if all instances are of one family, callers of it and of any share one memory, and so take turns
	}
	made := &candidates{}
	var serving []*instance
	for _, i := range g.instances {
		if !family.has(i) {
			continue
		}
		serving = append(serving, i)
		switch i.pulse.State() {
		case health.Up:
			made.instances = append(made.instances, i)
		case health.Trying, health.Rarely:
			made.trials = append(made.trials, i)
		}
	}
	list := members(made.instances)
	if left := len(made.instances); len(serving) > 0 && (left == 0 || health.Under(left, len(serving))) {
		made.panic = true
		made.instances = mayAnswer(serving)
		list = bySuccess(made.instances)
		made.scaled = list
	}
	if len(made.instances) == len(g.instances) {
		made.instances = g.instances // the same, once
	}
	made.warmth = newWarmth(made.instances, len(serving))
	key := g.key
	key.family = family
	made.memory = g.plan.memories.of(key, g.plan.random)
	made.policy = balance.New(key.policy, list, g.plan.size, made.memory)
	return made
}

// mayAnswer returns the instances that aren't proven dead, by this agent or a neighbour; all of them if all are. When too few
// are up for the load, an instance that may fail is a better choice than to overload those, or than none. A probe that timed
// out proves little: the network may have been cut, and may work again.
func mayAnswer(serving []*instance) []*instance {
	var may []*instance
	for _, i := range serving {
		ban, banned := i.health.Ban()
		if !banned || ban.HalfOpen || ban.Doubtful || ban.Reason != health.ByProof && ban.Reason != health.ByNeighbour {
			may = append(may, i)
		}
	}
	if len(may) == 0 {
		return serving
	}
	return may
}

// successScale makes whole weights of shares of success. Weights over mostScaled count as mostScaled, so that a scaled weight is a
// million at most.
const (
	successScale = 100
	mostScaled   = 10_000
)

// bySuccess multiplies the weights of banned instances by their recent share of success.
func bySuccess(instances []*instance) []balance.Member {
	all := members(instances)
	for n, i := range instances {
		success := 1.0
		if i.pulse.State() != health.Up {
			success = i.health.Success()
		}
		all[n].Weight = min(all[n].Weight, mostScaled) * max(int(math.Round(success*successScale)), 1)
	}
	return all
}

func members(instances []*instance) []balance.Member {
	all := make([]balance.Member, len(instances))
	for n, i := range instances {
		all[n] = balance.Member{Target: &i.target, Weight: i.Weight, Name: i.hostPort}
	}
	return all
}

// memories are what a callee's policies remember from plan to plan, by list of candidates.
type memories struct {
	mu     sync.Mutex
	byList map[memoryKey]*balance.Memory
}

// keep forgets the lists of policies and labels that are no more.
func (m *memories) keep(policy model.BalancePolicy, subsets map[string]*subset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.byList, func(key memoryKey, _ *balance.Memory) bool {
		return key.policy != policy || subsets[key.labels] == nil
	})
}

// of returns the memory of a list.
func (m *memories) of(key memoryKey, random func() uint64) *balance.Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byList == nil {
		m.byList = map[memoryKey]*balance.Memory{}
	}
	memory := m.byList[key]
	if memory == nil {
		memory = balance.NewMemory(random())
		m.byList[key] = memory
	}
	return memory
}
