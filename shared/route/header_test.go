package route

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestHeader(t *testing.T) {
	gray, empty, long := values("gray"), values(""), values(strings.Repeat("a", 100_000)+"b")
	f := func(what string, test model.StringMatch, matches, others []http.Header) {
		t.Helper()
		compiled, err := compileHeader("x-http-flow-control", test)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, header := range matches {
			if !compiled.holds(&Request{Header: header}) {
				t.Errorf("%s doesn't match %.99v", what, header)
			}
		}
		for _, header := range append(others, http.Header{"X-Other": {"gray"}}) {
			if got, want := compiled.holds(&Request{Header: header}), compiled.kind == headerAbsent; got != want {
				t.Errorf("%s, %.99v: %v, want %v", what, header, got, want)
			}
		}
	}
	f("equal", model.StringMatch{Equal: new("gray")}, []http.Header{gray, values("blue", "gray"), values("gray", "blue")},
		[]http.Header{nil, empty, values("Gray"), values("gray, blue"), values("gra", "y"), values("grayer"), values()})
	f("equal nothing", model.StringMatch{Equal: new("")}, []http.Header{empty, values("a", "")}, []http.Header{nil, gray, values()})
	f("prefix", model.StringMatch{Prefix: new("gr")}, []http.Header{gray, values("gr"), values("x", "green")},
		[]http.Header{nil, empty, values("g"), values("xgr"), values("Gr")})
	f("prefix nothing", model.StringMatch{Prefix: new("")}, []http.Header{gray, empty}, []http.Header{nil, values()})
	f("present", model.StringMatch{Present: new(true)}, []http.Header{gray, empty, values("a", "b")}, []http.Header{nil, values()})
	f("absent", model.StringMatch{Present: new(false)}, []http.Header{nil, {}, values()}, nil)
	absent, _ := compileHeader("x-http-flow-control", model.StringMatch{Present: new(false)})
	for _, header := range []http.Header{gray, empty} {
		if absent.holds(&Request{Header: header}) {
			t.Errorf("present: false matches %v", header)
		}
	}
	regex := func(expression string, matches, others []http.Header) {
		t.Helper()
		f("regex "+expression, model.StringMatch{Regex: &expression}, matches, others)
	}
	regex("gr[ae]y", []http.Header{gray, values("x", "grey")}, []http.Header{nil, empty, values("grays"), values("xgray"), values("Gray")})
	regex("a|ab", []http.Header{values("a"), values("ab")}, []http.Header{values("abc"), values("xa"), values("b")})
	regex("a|", []http.Header{values("a"), empty}, []http.Header{nil, values("b")})
	regex("", []http.Header{empty}, []http.Header{nil, gray})
	regex(`(?i)gray`, []http.Header{gray, values("GRAY")}, []http.Header{values("grays")})
	regex(`(?m)^gray$`, []http.Header{gray}, []http.Header{values("gray\nblue"), values("\ngray")})
	regex(`^gray$`, []http.Header{gray}, []http.Header{values("gray\n")})
	regex(`gray.`, []http.Header{values("grays")}, []http.Header{gray, values("gray\n")})
	regex(`\Qa.b`, []http.Header{values("a.b")}, []http.Header{values("axb"), values(`a.b)\z`)})
	regex(`\Q`, []http.Header{empty}, []http.Header{values(")")})
	regex(`(a|a)*b`, []http.Header{values("b"), long}, []http.Header{values("a"), values(strings.Repeat("a", 100_000))})
	regex(`.*ü.*`, []http.Header{values("für")}, []http.Header{values("f\xfcr")})
}

func values(values ...string) http.Header { return http.Header{"X-Http-Flow-Control": values} }

func TestHostIsAHeader(t *testing.T) {
	f := func(test model.StringMatch, host string, want bool) {
		t.Helper()
		table, err := Compile([]model.Route{{Match: model.Match{Headers: map[string]model.StringMatch{"host": test}}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := table.Match(&Request{Host: host}, 0) == 0; got != want {
			t.Errorf("%+v with %q: %v", test, host, got)
		}
	}
	shop, prefix, present, absent := "shop.test", "shop.", true, false
	f(model.StringMatch{Equal: &shop}, "shop.test", true)
	f(model.StringMatch{Equal: &shop}, "other.test", false)
	f(model.StringMatch{Equal: &shop}, "", false)
	f(model.StringMatch{Prefix: &prefix}, "shop.test", true)
	f(model.StringMatch{Present: &present}, "shop.test", true)
	f(model.StringMatch{Present: &present}, "", false)
	f(model.StringMatch{Present: &absent}, "", true)
}
