package route

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// exampleRoute is the design's.
func exampleRoute() model.Route {
	return model.Route{
		Match: model.Match{
			Callers:    []string{"video-*"},
			CallerIDCs: []string{"bj-a"},
			Methods:    []string{"GET"},
			Path:       "/upload/*",
			Headers:    map[string]model.StringMatch{"x-http-flow-control": {Equal: new("gray")}},
			Percent:    new(5.0),
		},
		Split: []model.Split{
			{Labels: map[string]string{"version": "v2"}, Weight: 10},
			{Labels: map[string]string{"version": "v1"}, Weight: 90},
		},
	}
}

// exampleRequest matches it, but for the percent.
func exampleRequest() *Request {
	return &Request{
		Caller: "video-web", CallerIDC: "bj-a", Method: "GET", Path: "/upload/2024/cat.mp4", RawQuery: "part=1&uid=4711",
		Header: http.Header{
			"Accept": {"*/*"}, "Cookie": {`theme=dark; uid="4711"`}, "User-Agent": {"test"}, "X-Http-Flow-Control": {"gray"}, "X-Uid": {"4711"},
		},
		Client: "10.1.2.3",
	}
}

func compile(tb testing.TB, routes ...model.Route) *Table {
	tb.Helper()
	table, err := Compile(routes)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func TestMatch(t *testing.T) {
	f := func(what string, match model.Match, request *Request, want bool) {
		t.Helper()
		table := compile(t, model.Route{Match: match})
		if got := table.Match(request, 1) == 0; got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	r, nobody, bypass := exampleRequest(), &Request{}, &Request{Caller: "video-web", CallerIDC: "bj-a", Client: "10.1.2.3"}
	f("nothing asked", model.Match{}, r, true)
	f("nothing asked of nobody", model.Match{}, nobody, true)
	f("empty lists", model.Match{Callers: []string{}, CallerIDCs: []string{}, Methods: []string{}, Headers: map[string]model.StringMatch{}}, nobody, true)

	f("caller", model.Match{Callers: []string{"shop", "video-*"}}, r, true)
	f("another caller", model.Match{Callers: []string{"shop", "audio-*"}}, r, false)
	f("any caller, unknown", model.Match{Callers: []string{"*"}}, nobody, true)
	f("a caller, unknown", model.Match{Callers: []string{"?*"}}, nobody, false)

	f("IDC", model.Match{CallerIDCs: []string{"bj-b", "bj-a"}}, r, true)
	f("another IDC", model.Match{CallerIDCs: []string{"bj-b"}}, r, false)
	f("IDCs are no globs", model.Match{CallerIDCs: []string{"bj-*"}}, r, false)
	f("unknown IDC", model.Match{CallerIDCs: []string{"bj-a"}}, nobody, false)

	f("method", model.Match{Methods: []string{"PUT", "GET"}}, r, true)
	f("another method", model.Match{Methods: []string{"PUT"}}, r, false)
	f("methods have a case", model.Match{Methods: []string{"GET"}}, &Request{Method: "get"}, false)
	f("no method", model.Match{Methods: []string{"GET"}}, bypass, false)

	f("path", model.Match{Path: "/upload/*"}, r, true)
	f("another path", model.Match{Path: "/upload/"}, r, false)
	f("the query is no path", model.Match{Path: "/upload"}, &Request{Path: "/upload", RawQuery: "a=b"}, true)
	f("no path", model.Match{Path: "/*"}, bypass, false)

	both := map[string]model.StringMatch{"X-UID": {Regex: new("[0-9]+")}, "x-http-flow-control": {Prefix: new("g")}}
	f("headers in any case", model.Match{Headers: both}, r, true)
	f("one header of two", model.Match{Headers: both}, &Request{Header: http.Header{"X-Uid": {"1"}}}, false)
	f("a header in bypass mode", model.Match{Headers: map[string]model.StringMatch{"x-uid": {Prefix: new("")}}}, bypass, false)
	f("presence in bypass mode", model.Match{Headers: map[string]model.StringMatch{"x-uid": {Present: new(true)}}}, bypass, false)
	f("absence in bypass mode", model.Match{Headers: map[string]model.StringMatch{"x-uid": {Present: new(false)}}}, bypass, true)

	f("everything", model.Match{Percent: new(100.0)}, r, true)
	f("nothing", model.Match{Percent: new(0.0)}, r, false)
	f("all of it", model.Match{Callers: []string{"video-*"}, CallerIDCs: []string{"bj-a"}, Methods: []string{"GET"}, Path: "/upload/*", Headers: both}, r, true)
	f("all but one", model.Match{Callers: []string{"video-*"}, CallerIDCs: []string{"bj-a"}, Methods: []string{"GET"}, Path: "/upload", Headers: both}, r, false)
}

func TestFirstMatchWins(t *testing.T) {
	path := func(path string) model.Route { return model.Route{Match: model.Match{Path: path}} }
	table := compile(t, path("/a/b"), path("/a/*"), path("/a/b/*"), path("/*"))
	for path, want := range map[string]int{"/a/b": 0, "/a/c": 1, "/a/b/c": 1, "/b": 3, "": -1} {
		if got := table.Match(&Request{Path: path}, 0); got != want {
			t.Errorf("%q: route %d, want %d", path, got, want)
		}
	}
	var none *Table
	for _, table := range []*Table{none, {}, compile(t)} {
		if got := table.Match(exampleRequest(), 0); got != -1 {
			t.Errorf("no routes: route %d", got)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	f := func(match model.Match, split []model.Split, want string) {
		t.Helper()
		table, err := Compile([]model.Route{{}, {Match: match, Split: split}})
		if table != nil || err == nil || err.Error() != want {
			t.Errorf("%v, error %v, want %s", table, err, want)
		}
	}
	header := func(test model.StringMatch) model.Match {
		return model.Match{Headers: map[string]model.StringMatch{"a": {Present: new(true)}, "x-b": test}}
	}
	f(header(model.StringMatch{Regex: new("a)|(?:b")}), nil, "routes[1].match.headers.x-b.regex: error parsing regexp: unexpected ): `a)|(?:b`")
	f(header(model.StringMatch{}), nil, "routes[1].match.headers.x-b: exactly one of equal, prefix, regex, present is needed")
	f(header(model.StringMatch{Equal: new("a"), Prefix: new("b")}), nil, "routes[1].match.headers.x-b: exactly one of equal, prefix, regex, present is needed")
	f(model.Match{Callers: []string{"a", "[b"}}, nil, `routes[1].match.callers[1]: "[b": syntax error in pattern`)
	f(model.Match{Percent: new(100.1)}, nil, "routes[1].match.percent: 100.1 is not between 0 and 100")
	f(model.Match{Percent: new(-0.1)}, nil, "routes[1].match.percent: -0.1 is not between 0 and 100")
	f(model.Match{Percent: new(math.NaN())}, nil, "routes[1].match.percent: NaN is not between 0 and 100")
	f(model.Match{}, []model.Split{{}, {Weight: -1}}, "routes[1].split: all weights are 0")
}

func TestSplit(t *testing.T) {
	f := func(want []int, weights ...int) {
		t.Helper()
		var route model.Route
		for i, weight := range weights {
			route.Split = append(route.Split, model.Split{Labels: map[string]string{"n": fmt.Sprint(i)}, Weight: weight})
		}
		table := compile(t, route)
		for i, split := range table.Routes[0].Splits {
			if split.Weight != weights[i] || split.Labels["n"] != fmt.Sprint(i) {
				t.Errorf("split %d is %v", i, split)
			}
		}
		var got []int
		for key := range uint64(1000) {
			if index := table.Routes[0].Split(key); !slices.Contains(got, index) {
				got = append(got, index)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("weights %v: splits %v, want %v", weights, got, want)
		}
	}
	f([]int{-1})
	f([]int{0}, 100)
	f([]int{0, 1}, 10, 90)
	f([]int{1}, 0, 1)
	f([]int{1, 3}, 0, 50, 0, 50, 0)
}

// The same route must come out the same in every agent, of whatever version: a change of salt sends users to other
// subsets in the middle of a rollout.
func TestSaltStays(t *testing.T) {
	const want = 0xb9f055744ae8cecd
	f := func(what string, change func(r *model.Route), same bool) {
		t.Helper()
		route := exampleRoute()
		change(&route)
		if got := salt(&route); (got == want) != same {
			t.Errorf("%s: salt %#x, the example's is %#x, want the same: %v", what, got, uint64(want), same)
		}
	}
	f("the example", func(*model.Route) {}, true)
	f("percent", func(r *model.Route) { r.Match.Percent = new(50.0) }, true)
	f("no percent", func(r *model.Route) { r.Match.Percent = nil }, true)
	f("weights", func(r *model.Route) { r.Split[0].Weight, r.Split[1].Weight = 20, 80 }, true)
	f("header in another case", func(r *model.Route) {
		r.Match.Headers = map[string]model.StringMatch{"X-HTTP-flow-control": {Equal: new("gray")}}
	}, true)
	f("a caller twice", func(r *model.Route) { r.Match.Callers = []string{"video-*", "video-*"} }, true)
	f("caller", func(r *model.Route) { r.Match.Callers = []string{"video-*", "audio"} }, false)
	f("IDC", func(r *model.Route) { r.Match.CallerIDCs = nil }, false)
	f("method", func(r *model.Route) { r.Match.Methods = []string{"PUT"} }, false)
	f("path", func(r *model.Route) { r.Match.Path = "/*" }, false)
	f("header", func(r *model.Route) {
		r.Match.Headers = map[string]model.StringMatch{"x-http-flow-control": {Prefix: new("gray")}}
	}, false)
	f("labels", func(r *model.Route) { r.Split[0].Labels = map[string]string{"version": "v3"} }, false)
	f("another split", func(r *model.Route) { r.Split = append(r.Split, model.Split{Weight: 1}) }, false)
	f("splits in another order", func(r *model.Route) { slices.Reverse(r.Split) }, false)
	one, two := exampleRoute(), exampleRoute()
	one.Match.Callers, two.Match.Callers = []string{"a", "b"}, []string{"b", "a"}
	if salt(&one) != salt(&two) {
		t.Error("the order of the callers moves keys")
	}
	before := exampleRoute()
	before.Match.Callers = []string{"b", "a"}
	if salt(&before); before.Match.Callers[0] != "b" {
		t.Error("the document was changed")
	}
}

// A table is read by all requests at once.
func TestTableIsShared(t *testing.T) {
	route := exampleRoute()
	route.Match.Headers["x-uid"] = model.StringMatch{Regex: new("[0-9]+")}
	table, request, key := compile(t, route), exampleRequest(), ParseKey("query:uid")
	want := table.Match(request, 3)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 1000 {
				table.Match(request, 0)
				if hash, keyed := key.Hash(request); !keyed || hash != HashOf("4711") {
					t.Error("the key has changed")
				}
				if got := table.Match(request, 3); got != want {
					t.Errorf("route %d, want %d", got, want)
				}
			}
		})
	}
	wait.Wait()
}
