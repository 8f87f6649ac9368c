package route

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// decisions are all that is asked at run time, by name. They run as benchmarks, and none may allocate.
func decisions(tb testing.TB) map[string]func() {
	request, route := exampleRequest(), exampleRoute()
	route.Match.Percent = new(99.99)
	table := compile(tb, route)
	encoded := exampleRequest()
	encoded.Path = "/%75pload/caf%C3%A9"
	other := exampleRequest()
	other.Path = "/download/2024/cat.mp4"
	regex := exampleRoute()
	regex.Match.Headers = map[string]model.StringMatch{"x-http-flow-control": {Regex: new("gr[ae]y|blue")}}
	regexTable := compile(tb, regex)
	globs := CompileGlobs([]string{"audio-*", "*-app", "shop", "v?d[a-z]*-web"})
	idcs := CompileIDCs(&model.Topology{
		IDCs: map[string]model.IDC{"bj-a": {Logical: "north"}}, Routes: map[string][]model.IDCWeight{"north": {{To: "north", Weight: 100}}},
	})
	match := func(table *Table, request *Request) func() {
		return func() {
			if i := table.Match(request, 4711); i >= 0 {
				table.Routes[i].Split(4711)
			}
		}
	}
	all := map[string]func(){
		"match":            match(table, request),
		"match encoded":    match(table, encoded),
		"match regex":      match(regexTable, request),
		"no match by path": match(table, other),
		"globs":            func() { globs.Match("video-web") },
		"rows":             func() { idcs.Rows(nil, "bj-a"); idcs.Drained("bj-a") },
		"hash of":          func() { HashOf("4711") },
	}
	for _, n := range []int{3, 1000} {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 100
		}
		shares := NewShares(weights)
		all[fmt.Sprint("shares of ", n)] = func() { shares.Choose(Uniform(0, 0)) }
	}
	for _, hash := range []string{"header:x-uid", "query:uid", "cookie:uid", "path", "client"} {
		key := ParseKey(hash)
		all["key "+hash] = func() { key.Hash(request) }
	}
	odd := &Request{Path: "/a%20b", RawQuery: "a=b&u%69d=caf%C3%A9+au+lait", Header: http.Header{"Cookie": {"a=b", `uid="c"`}}}
	for _, hash := range []string{"query:uid", "cookie:uid", "path"} {
		key := ParseKey(hash)
		all["encoded key "+hash] = func() { key.Hash(odd) }
	}
	return all
}

func TestNoDecisionAllocates(t *testing.T) {
	for name, decide := range decisions(t) {
		if n := testing.AllocsPerRun(1000, decide); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkDecide measures each decision. The match of the design's example, without a key, should take less than 60 ns.
func BenchmarkDecide(b *testing.B) {
	all := decisions(b)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		decide := all[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				decide()
			}
		})
	}
}

func BenchmarkMatchOfMany(b *testing.B) {
	for _, n := range []int{10, 100} {
		routes := make([]model.Route, n)
		for i := range routes {
			routes[i].Match.Path = fmt.Sprintf("/upload/%d/*", i)
		}
		table, request := compile(b, routes...), exampleRequest()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Match(request, 0)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	routes := []model.Route{exampleRoute()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(routes); err != nil {
			b.Fatal(err)
		}
	}
}
