package corednsufc

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func TestParseName(t *testing.T) {
	v4 := netip.MustParseAddrPort("10.0.0.1:6379")
	v6 := netip.MustParseAddrPort("[2001:db8::1]:80")
	long := strings.Repeat("a", maxNameLength)
	for labels, want := range map[string]name{
		"":                        {kind: kindApex},
		"redis.":                  {kind: kindService, service: "redis"},
		"web.redis.":              {kind: kindService, service: "redis", caller: "web"},
		"1-2.redis.":              {kind: kindService, service: "redis", caller: "1-2"},
		long + ".redis.":          {kind: kindService, service: "redis", caller: long},
		"_redis._tcp.":            {kind: kindServiceSRV, service: "redis", srvLabel: true},
		"_any._tcp.redis.":        {kind: kindServiceSRV, service: "redis"},
		"_._tcp.redis.":           {},
		"any._tcp.redis.":         {},
		"_any._udp.redis.":        {},
		"x._any._tcp.redis.":      {},
		"_any._tcp.web.redis.":    {kind: kindServiceSRV, service: "redis", caller: "web"},
		"_debug._tcp.web.redis.":  {kind: kindServiceSRV, service: "redis", caller: "web"},
		"_any._tcp.-web.redis.":   {},
		"x._any._tcp.web.redis.":  {},
		"_tcp.":                   {kind: kindNonTerminal},
		"i.":                      {kind: kindNonTerminal},
		"ns.i.":                   {kind: kindNameServer},
		"x.i.":                    {},
		"a.ns.i.":                 {},
		"x._tcp.":                 {},
		"_._tcp.":                 {},
		"a._redis._tcp.":          {},
		"i.redis.":                {kind: kindBelow, service: "redis"},
		"_tcp.redis.":             {kind: kindBelow, service: "redis"},
		"_tcp.web.redis.":         {kind: kindBelow, service: "redis", caller: "web"},
		"_tcp.i.redis.":           {},
		"_debug.redis.":           {kind: kindDebug, service: "redis"},
		"x._debug.redis.":         {},
		"_other.redis.":           {},
		"web-.redis.":             {},
		"web_1.redis.":            {},
		"a.web.redis.":            {},
		long + "a.redis.":         {},
		"0a000001-6379.i.redis.":  {kind: kindInstance, service: "redis", address: v4},
		"a.0a000001-1.i.redis.":   {},
		"0a000001-06379.i.redis.": {},
		"0a000001-0.i.redis.":     {},
		"0a000001-65536.i.redis.": {},
		"0a000001-.i.redis.":      {},
		"0a000001.i.redis.":       {},
		"0a00001-6379.i.redis.":   {},
		"0a00000g-6379.i.redis.":  {},
		"0a000001-+1.i.redis.":    {},
		"20010db8000000000000000000000001-80.i.redis.": {kind: kindInstance, service: "redis", address: v6},
		`x\.redis.`:           {},
		`_x\._tcp.redis.`:     {},
		`\095x._tcp.redis.`:   {},
		"..":                  {},
		".redis.":             {},
		"a.b.c.d.e.f.redis.":  {},
		"0a000001-1.i.i.":     {},
		"_any._tcp.x._tcp.":   {},
		"_any._tcp.a.b.redis": {},
	} {
		got := parseName(labels)
		if want.kind == kindMissing {
			if got.kind != kindMissing {
				t.Errorf("%q: got %+v, want a name that can't exist", labels, got)
			}
			continue
		}
		if got != want {
			t.Errorf("%q: got %+v, want %+v", labels, got, want)
		}
	}
}

func TestMatchZone(t *testing.T) {
	f := func(zones, qname, want, labels string) {
		t.Helper()
		var list []zone
		for name := range strings.FieldsSeq(zones) {
			list = append(list, newZone(name))
		}
		got, offset := matchZone(list, qname)
		if want == "" {
			if got != nil {
				t.Errorf("%s in %s: got %s, want none", qname, zones, got.name)
			}
			return
		}
		if got == nil || got.name != want || qname[:offset] != labels {
			t.Errorf("%s in %s: got %+v at %d, want %s after %q", qname, zones, got, offset, want, labels)
		}
	}
	f("ufc.internal.", "ufc.internal.", "ufc.internal.", "")
	f("ufc.internal.", "redis.ufc.internal.", "ufc.internal.", "redis.")
	f("ufc.internal.", "xufc.internal.", "", "")
	f("ufc.internal.", `x\.ufc.internal.`, "", "")
	f("ufc.internal.", `x\\.ufc.internal.`, "ufc.internal.", `x\\.`)
	f("ufc.internal.", "internal.", "", "")
	f("ufc.internal.", ".", "", "")
	f("ufc.internal. bj.ufc.internal.", "redis.bj.ufc.internal.", "bj.ufc.internal.", "redis.")
	f("bj.ufc.internal. ufc.internal.", "redis.bj.ufc.internal.", "bj.ufc.internal.", "redis.")
	f("bj.ufc.internal. ufc.internal.", "bj.ufc.internal.", "bj.ufc.internal.", "")
	f(". ufc.internal.", "redis.ufc.internal.", "ufc.internal.", "redis.")
	f(".", "redis.", ".", "redis.")
	f(".", ".", ".", "")
	f(".", "redis", "", "")
}

func TestInstanceLabelRoundTrip(t *testing.T) {
	for _, text := range []string{"10.0.0.1:6379", "255.255.255.255:65535", "0.0.0.0:1", "[::1]:80", "[2001:db8:1:2:3:4:5:6]:443"} {
		address := netip.MustParseAddrPort(text)
		label := string(appendInstanceLabel(nil, address))
		if got, ok := parseInstanceLabel(label); !ok || got != address {
			t.Errorf("%s: label %q is read as %v, %t", text, label, got, ok)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{
		"", ".", "redis.", "web.redis.", "_redis._tcp.", "_x._tcp.web.redis.", "0a000001-6379.i.redis.", "_debug.redis.", "ns.i.", `a\.b.`,
	} {
		f.Add(seed)
	}
	zones := []zone{newZone("ufc.internal."), newZone("a.ufc.internal.")}
	f.Fuzz(func(t *testing.T, labels string) {
		n := parseName(labels + ".")
		if n.kind != kindMissing && n.service != "" && !strings.Contains(labels, n.service) {
			t.Errorf("%q: service %q is no part of it", labels, n.service)
		}
		if n.kind == kindInstance {
			want := string(appendInstanceLabel(nil, n.address)) + ".i." + n.service
			if labels != want {
				t.Errorf("%q: is another name of %q", labels, want)
			}
		}
		qname := strings.ToLower(labels + ".ufc.internal.")
		z, offset := matchZone(zones, qname)
		if _, valid := dns.IsDomainName(qname); valid && !strings.Contains(labels, `\`) {
			if z == nil || !dns.IsSubDomain(z.name, qname) || qname[offset:] != z.name {
				t.Errorf("%q: zone %+v at %d", qname, z, offset)
			}
		}
	})
}

func BenchmarkParseName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if parseName("_redis._tcp.web.redis-main.").kind != kindServiceSRV {
			b.Fatal("misread")
		}
	}
}
