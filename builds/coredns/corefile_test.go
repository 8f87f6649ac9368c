package main

import (
	"slices"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
)

func TestFillDefaults(t *testing.T) {
	t.Setenv("UFC_SET", "5353")
	t.Setenv("UFC_EMPTY", "")
	f := func(in, want string) {
		t.Helper()
		if got := string(fillDefaults([]byte(in))); got != want {
			t.Errorf("fillDefaults(%q) = %q, want %q", in, got, want)
		}
	}
	f("ufc.internal:{$UFC_UNSET:1053} {", "ufc.internal:1053 {")
	f("ufc.internal:{$UFC_SET:1053} {", "ufc.internal:5353 {")
	f("{$UFC_UNSET:http://127.0.0.1:2379}", "http://127.0.0.1:2379")
	f("{$UFC_UNSET:a}{$UFC_SET:b}\n{$UFC_UNSET:}", "a5353\n")
	f("{$UFC_EMPTY:x}", "")
	// Not ours: left to CoreDNS.
	f("{$UFC_SET} {%UFC_SET%} {$:x} {$1A:x} {$UFC_UNSET:a\n}", "{$UFC_SET} {%UFC_SET%} {$:x} {$1A:x} {$UFC_UNSET:a\n}")
}

// A plugin that is linked but not in the order would be refused in a Corefile; one in the order but unknown to CoreDNS
// would be a misspelling.
func TestPluginOrder(t *testing.T) {
	for i, name := range plugins {
		if slices.Contains(plugins[:i], name) {
			t.Errorf("plugin %q stands twice in the order", name)
		}
		if name != "ufc" && !slices.Contains(dnsserver.Directives, name) {
			t.Errorf("plugin %q is none of CoreDNS's", name)
		}
	}
	if slices.Index(plugins, "ufc") > slices.Index(plugins, "cache") {
		t.Error("ufc stands after cache, which would cache its answers")
	}
}
