package route

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Table is the compiled routes of a callee, in their order. A nil Table has none.
type Table struct {
	Routes []Route
}

// Route sends the requests that it matches to label subsets. It is made by Compile.
type Route struct {
	Splits []Split // none: all instances

	match  match
	shares Shares
	// What the keys are mixed with: each draw has its own, so that the keys that pass one percent are no more and no less
	// likely to pass another, or to take a split.
	percentSalt, splitSalt uint64
}

// Split is one label subset of a route.
type Split struct {
	Labels map[string]string // an instance belongs to it if it has all of them. Not to be changed
	Weight int
}

// Compile compiles the routes of a Service or of a caller's override. It fails only for what model's validation would have
// refused, and its error names the place, as in routes[0].match.headers.x-a.regex.
func Compile(routes []model.Route) (*Table, error) {
	table := &Table{Routes: make([]Route, len(routes))}
	for i := range routes {
		if err := table.Routes[i].compile(&routes[i]); err != nil {
			return nil, fmt.Errorf("routes[%d].%w", i, err)
		}
	}
	return table, nil
}

func (r *Route) compile(from *model.Route) error {
	var err error
	if r.match, err = compileMatch(&from.Match); err != nil {
		return fmt.Errorf("match.%w", err)
	}
	weights := make([]int, len(from.Split))
	for i, split := range from.Split {
		r.Splits = append(r.Splits, Split{Labels: split.Labels, Weight: split.Weight})
		weights[i] = split.Weight
	}
	r.shares = NewShares(weights)
	if len(weights) > 0 && r.shares.Choose(0) < 0 {
		return errors.New("split: all weights are 0")
	}
	r.percentSalt = salt(from)
	r.splitSalt = mix(r.percentSalt)
	return nil
}

// salt is a hash of what a route is: whom it matches and what it splits into, but neither its percent and weights nor its
// place among the routes. So a change of those moves no key but the ones it has to, and all agents agree. Routes that
// differ in nothing else share a salt. The order of lists that have none doesn't count; that of the splits does, since
// they lie in it between 0 and 1.
func salt(route *model.Route) uint64 {
	what := model.Route{Match: route.Match}
	what.Match.Percent = nil
	what.Match.Callers = set(what.Match.Callers)
	what.Match.CallerIDCs = set(what.Match.CallerIDCs)
	what.Match.Methods = set(what.Match.Methods)
	what.Match.Headers = make(map[string]model.StringMatch, len(route.Match.Headers))
	for name, test := range route.Match.Headers {
		what.Match.Headers[textproto.CanonicalMIMEHeaderKey(name)] = test
	}
	for _, split := range route.Split {
		what.Split = append(what.Split, model.Split{Labels: split.Labels})
	}
	text, err := json.Marshal(what) // sorts the keys of maps
	if err != nil {                 // no field's type can fail
		panic(fmt.Sprintf("route: encoding a route: %v", err))
	}
	return xxhash.Sum64(text)
}

// set returns the elements of a list whose order and repetitions mean nothing.
func set(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// Match returns the index of the first route that the request matches, -1 if none does. key is the hash of the balance key,
// so that a percent comes out the same for every request of the key, or a random number if the request has none.
func (t *Table) Match(r *Request, key uint64) int {
	if t == nil {
		return -1
	}
	for i := range t.Routes {
		route := &t.Routes[i]
		// The percent first: it costs least, and excludes most.
		if route.match.percent.takes(key, route.percentSalt) && route.match.holds(r) {
			return i
		}
	}
	return -1
}

// Split returns the index of the split that a request takes, by weight, -1 if the route has none. A key stays with its
// split as it stays with its side of a percent; weight given by one split to its neighbour takes keys from the one to the
// other, and moves no more.
func (r *Route) Split(key uint64) int {
	if len(r.Splits) == 1 {
		return 0
	}
	return r.shares.Choose(Uniform(key, r.splitSalt))
}
