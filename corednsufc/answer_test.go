package corednsufc

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

const testZones = "ufc.internal:1053 bj.mesh.example.org:1053"

// scrub is what CoreDNS's server wraps the writer in: it adds the OPT record, and cuts to size.
func scrub(r *dns.Msg, w dns.ResponseWriter) dns.ResponseWriter { return request.NewScrubWriter(r, w) }

// demo is a small mesh: redis has one instance of IPv4, six one of IPv6, both one of each, idle none that serves, empty only
// its document.
func demo() []model.Record {
	return slices.Concat(
		listed("redis", "10.0.0.1:6379"),
		listed("six", "[2001:db8::1]:80"),
		listed("both", "10.0.0.2:80", "[2001:db8::2]:80"),
		listed("idle", "10.0.0.3:80 down", "10.0.0.4:80 drain"),
		[]model.Record{document("redis"), document("empty")},
	)
}

func soa(owner string) dns.RR {
	zone := strings.ToLower(owner)
	return test.SOA(owner + " 0 IN SOA ns.i." + zone + " hostmaster." + zone + " 7 7200 1800 86400 0")
}

func TestServeDNS(t *testing.T) {
	u := attach(t, testZones, "", demo()...)
	nodata := []dns.RR{soa("ufc.internal.")}
	cases := []test.Case{
		{Qname: "redis.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("redis.ufc.internal. 0 IN A 10.0.0.1")}},
		{Qname: "redis.ufc.internal.", Qtype: dns.TypeAAAA, Ns: nodata},
		{Qname: "redis.ufc.internal.", Qtype: dns.TypeMX, Ns: nodata},
		{Qname: "redis.ufc.internal.", Qtype: dns.TypeHTTPS, Ns: nodata},
		{
			Qname: "redis.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("redis.ufc.internal. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.ufc.internal.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")},
		},
		{Qname: "web.redis.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("web.redis.ufc.internal. 0 IN A 10.0.0.1")}},
		{
			Qname: "web.redis.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("web.redis.ufc.internal. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.ufc.internal.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")},
		},
		{
			Qname: "_redis._tcp.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_redis._tcp.ufc.internal. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.ufc.internal.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")},
		},
		{
			Qname: "_resp._tcp.redis.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_resp._tcp.redis.ufc.internal. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.ufc.internal.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")},
		},
		{
			Qname: "_resp._tcp.web.redis.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_resp._tcp.web.redis.ufc.internal. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.ufc.internal.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")},
		},
		{Qname: "_redis._tcp.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "_any._tcp.redis.ufc.internal.", Qtype: dns.TypeTXT, Ns: nodata},
		{Qname: "_none._tcp.ufc.internal.", Qtype: dns.TypeSRV, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "_none._tcp.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{
			Qname: "six.ufc.internal.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("six.ufc.internal. 0 IN SRV 0 100 80 20010db8000000000000000000000001-80.i.six.ufc.internal.")},
			Extra:  []dns.RR{test.AAAA("20010db8000000000000000000000001-80.i.six.ufc.internal. 0 IN AAAA 2001:db8::1")},
		},
		{Qname: "six.ufc.internal.", Qtype: dns.TypeAAAA, Answer: []dns.RR{test.AAAA("six.ufc.internal. 0 IN AAAA 2001:db8::1")}},
		{Qname: "six.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "both.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("both.ufc.internal. 0 IN A 10.0.0.2")}},
		{Qname: "both.ufc.internal.", Qtype: dns.TypeAAAA, Answer: []dns.RR{test.AAAA("both.ufc.internal. 0 IN AAAA 2001:db8::2")}},
		{Qname: "idle.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "idle.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "empty.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "empty.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "none.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "none.ufc.internal.", Qtype: dns.TypeTXT, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "web.none.ufc.internal.", Qtype: dns.TypeSRV, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "a.web.redis.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "web_1.redis.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: `re\.dis.ufc.internal.`, Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},

		{Qname: "0a000001-6379.i.redis.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("0a000001-6379.i.redis.ufc.internal. 0 IN A 10.0.0.1")}},
		{Qname: "0a000001-6379.i.redis.ufc.internal.", Qtype: dns.TypeAAAA, Ns: nodata},
		{Qname: "0a000001-6379.i.redis.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "0a000001-6380.i.redis.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "0a000001-6379.i.six.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "0a000003-80.i.idle.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("0a000003-80.i.idle.ufc.internal. 0 IN A 10.0.0.3")}},
		{
			Qname: "20010db8000000000000000000000001-80.i.six.ufc.internal.", Qtype: dns.TypeAAAA,
			Answer: []dns.RR{test.AAAA("20010db8000000000000000000000001-80.i.six.ufc.internal. 0 IN AAAA 2001:db8::1")},
		},

		{Qname: "_tcp.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "i.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "i.redis.ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "_tcp.redis.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "_tcp.web.redis.ufc.internal.", Qtype: dns.TypeSRV, Ns: nodata},
		{Qname: "i.none.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},
		{Qname: "_tcp.none.ufc.internal.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: nodata},

		{Qname: "ufc.internal.", Qtype: dns.TypeSOA, Answer: []dns.RR{soa("ufc.internal.")}},
		{
			Qname: "ufc.internal.", Qtype: dns.TypeNS,
			Answer: []dns.RR{test.NS("ufc.internal. 0 IN NS ns.i.ufc.internal.")},
			Extra:  []dns.RR{test.A("ns.i.ufc.internal. 0 IN A 127.0.0.1")},
		},
		{Qname: "ufc.internal.", Qtype: dns.TypeA, Ns: nodata},
		{Qname: "ns.i.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("ns.i.ufc.internal. 0 IN A 127.0.0.1")}},
		{Qname: "ns.i.ufc.internal.", Qtype: dns.TypeAAAA, Ns: nodata},

		{Qname: "redis.bj.mesh.example.org.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("redis.bj.mesh.example.org. 0 IN A 10.0.0.1")}},
		{Qname: "none.bj.mesh.example.org.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: []dns.RR{soa("bj.mesh.example.org.")}},

		{
			Qname: "ReDiS.uFc.InTeRnAl.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("ReDiS.uFc.InTeRnAl. 0 IN SRV 0 100 6379 0a000001-6379.i.ReDiS.uFc.InTeRnAl.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.ReDiS.uFc.InTeRnAl. 0 IN A 10.0.0.1")},
		},
		{
			Qname: "_ReDiS._TCP.uFc.InTeRnAl.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_ReDiS._TCP.uFc.InTeRnAl. 0 IN SRV 0 100 6379 0a000001-6379.i.redis.uFc.InTeRnAl.")},
			Extra:  []dns.RR{test.A("0a000001-6379.i.redis.uFc.InTeRnAl. 0 IN A 10.0.0.1")},
		},
		{Qname: "0A000001-6379.I.redis.ufc.internal.", Qtype: dns.TypeA, Answer: []dns.RR{test.A("0A000001-6379.I.redis.ufc.internal. 0 IN A 10.0.0.1")}},
		{Qname: "None.uFc.InTeRnAl.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError, Ns: []dns.RR{soa("uFc.InTeRnAl.")}},
		{Qname: "redis.ufc.internal.", Qtype: dns.TypeANY, Answer: []dns.RR{test.HINFO(`redis.ufc.internal. 0 IN HINFO "RFC8482" ""`)}},
		{Qname: "none.ufc.internal.", Qtype: dns.TypeANY, Rcode: dns.RcodeNameError, Ns: nodata},
	}
	bothWays(t, u, func(t *testing.T) {
		for _, tc := range cases {
			msg, code := ask(t, u, "", tc.Msg())
			if code != dns.RcodeSuccess || msg == nil {
				t.Errorf("%s %s: returns %d, wrote %v", tc.Qname, dns.Type(tc.Qtype), code, msg)
				continue
			}
			if !msg.Authoritative || !msg.Response || msg.Question[0].Name != tc.Qname {
				t.Errorf("%s %s: header or question is wrong: %v", tc.Qname, dns.Type(tc.Qtype), msg)
			}
			if err := test.SortAndCheck(msg, tc); err != nil {
				t.Errorf("%s %s: %v", tc.Qname, dns.Type(tc.Qtype), err)
			}
			if len(msg.Ns) > 0 && msg.Ns[0].String() != tc.Ns[0].String() {
				t.Errorf("%s %s: got %s, want %s", tc.Qname, dns.Type(tc.Qtype), msg.Ns[0], tc.Ns[0])
			}
			for _, rr := range msg.Answer {
				for _, want := range tc.Answer {
					if strings.EqualFold(rr.Header().Name, want.Header().Name) && rr.String() != want.String() {
						t.Errorf("%s %s: got %s, want %s", tc.Qname, dns.Type(tc.Qtype), rr, want)
					}
				}
			}
		}
	})
}

// What isn't ours, or may not be asked, is left to others.
func TestServeDNSPasses(t *testing.T) {
	u := attach(t, "ufc.internal", "", demo()...)
	const next = dns.RcodeBadKey
	f := func(want int, change func(*dns.Msg)) {
		t.Helper()
		r := question("redis.ufc.internal.", dns.TypeA)
		change(r)
		msg, code := ask(t, u, "", r)
		if code != want || msg != nil {
			t.Errorf("%v: returns %s, wrote %v, want %s", r.Question, dns.RcodeToString[code], msg, dns.RcodeToString[want])
		}
	}
	f(next, func(r *dns.Msg) { r.Question[0].Name = "example.org." })
	f(next, func(r *dns.Msg) { r.Question[0].Name = "xufc.internal." })
	f(next, func(r *dns.Msg) { r.Question[0].Name = "." })
	f(next, func(r *dns.Msg) { r.Question[0].Name = "" })
	f(next, func(r *dns.Msg) { r.Question[0].Name = "\u212aelvin.ufc.internal." }) // in lower case it is shorter
	f(next, func(r *dns.Msg) { r.Question[0].Qclass = dns.ClassCHAOS })
	f(dns.RcodeNotImplemented, func(r *dns.Msg) { r.Opcode = dns.OpcodeNotify })
	f(dns.RcodeRefused, func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeAXFR })
	f(dns.RcodeRefused, func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeIXFR })
	f(dns.RcodeFormatError, func(r *dns.Msg) { r.Question = nil })
}

func TestFallthrough(t *testing.T) {
	f := func(lines, qname string, through bool) {
		t.Helper()
		u := attach(t, testZones, lines, demo()...)
		if _, code := ask(t, u, "", question(qname, dns.TypeA)); (code == dns.RcodeBadKey) != through {
			t.Errorf("%s with %q: falls through: %t, want %t", qname, lines, !through, through)
		}
	}
	f("", "none.ufc.internal.", false)
	f("fallthrough", "none.ufc.internal.", true)
	f("fallthrough", "www.some.thing.ufc.internal.", true)
	f("fallthrough", "redis.ufc.internal.", false)
	f("fallthrough", "six.ufc.internal.", false) // exists, and has no A
	f("fallthrough", "i.ufc.internal.", false)
	f("fallthrough ufc.internal", "none.ufc.internal.", true)
	f("fallthrough bj.mesh.example.org", "none.ufc.internal.", false)
	f("fallthrough bj.mesh.example.org", "None.bj.mesh.Example.org.", true)
}

func TestRootZone(t *testing.T) {
	u := attach(t, ".", "", demo()...)
	f := func(qname string, qtype uint16, rcode int, want string) {
		t.Helper()
		msg, _ := ask(t, u, "", question(qname, qtype))
		text := fmt.Sprint(msg.Answer, msg.Ns, msg.Extra)
		if msg.Rcode != rcode || !strings.Contains(strings.ReplaceAll(text, "\t", " "), want) {
			t.Errorf("%s: got %v, want %s", qname, msg, want)
		}
	}
	f("redis.", dns.TypeA, dns.RcodeSuccess, "redis. 0 IN A 10.0.0.1")
	f("_redis._tcp.", dns.TypeSRV, dns.RcodeSuccess, "0a000001-6379.i.redis.")
	f("redis.", dns.TypeSRV, dns.RcodeSuccess, "0a000001-6379.i.redis. 0 IN A 10.0.0.1")
	f(".", dns.TypeSOA, dns.RcodeSuccess, ". 0 IN SOA ns.i. hostmaster. 7")
	f("none.", dns.TypeA, dns.RcodeNameError, ". 0 IN SOA ns.i.")
}

// Programs ask for A and AAAA together: a question for what the service doesn't have takes nobody's turn.
func TestTurns(t *testing.T) {
	turns := func(t *testing.T, between uint16) (seen []string) {
		u := attach(t, "ufc.internal", "", listed("redis", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")...)
		for range 12 {
			msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeA))
			seen = append(seen, msg.Answer[0].(*dns.A).A.String())
			ask(t, u, "", question("redis.ufc.internal.", between))
		}
		return seen
	}
	var alone, together []string
	t.Run("alone", func(t *testing.T) { alone = turns(t, dns.TypeMX) })
	t.Run("together", func(t *testing.T) { together = turns(t, dns.TypeAAAA) })
	for name, seen := range map[string][]string{"A alone": alone, "together with AAAA": together} {
		counts := map[string]int{}
		for _, address := range seen {
			counts[address]++
		}
		for address, count := range counts {
			if len(counts) != 3 || count < 3 || count > 5 { // the first turn is anybody's
				t.Errorf("%s: %s had %d turns of %v", name, address, count, seen)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	f := func(lines string, qtype uint16, want int, addresses ...string) []dns.RR {
		t.Helper()
		u := attach(t, "ufc.internal", lines, listed("redis", addresses...)...)
		msg, _ := ask(t, u, "", question("redis.ufc.internal.", qtype))
		seen := map[string]bool{}
		for _, rr := range msg.Answer {
			seen[rr.String()] = true
			if rr.Header().Ttl != u.config.ttl {
				t.Errorf("%s: TTL isn't %d", rr, u.config.ttl)
			}
		}
		if len(msg.Answer) != want || len(seen) != want {
			t.Errorf("%q, %s of %s: got %v, want %d different", lines, dns.Type(qtype), addresses, msg.Answer, want)
		}
		return msg.Answer
	}
	four := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"}
	f("", dns.TypeA, 1, four...)
	f("answers 3\nttl 7", dns.TypeA, 3, four...)
	f("answers 16", dns.TypeA, 4, four...)
	f("answers 16", dns.TypeSRV, 4, four...)
	f("answers 2", dns.TypeA, 1, "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3") // a set has no record twice
	f("answers 2", dns.TypeSRV, 2, "10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3")
	f("answers 2", dns.TypeAAAA, 1, "10.0.0.1:1", "10.0.0.2:1", "[::1]:1")
}

func TestSRVWeight(t *testing.T) {
	for _, c := range []struct {
		weight, highest int
		want            uint16
	}{{100, 100, 100}, {0, 0, 1}, {65535, 65535, 65535}, {1_000_000, 1_000_000, 65535}, {500_000, 1_000_000, 32767}, {1, 1_000_000, 1}} {
		if got := srvWeight(c.weight, c.highest); got != c.want {
			t.Errorf("weight %d beside %d: got %d, want %d", c.weight, c.highest, got, c.want)
		}
	}
}

// ban bans an instance, by the word of another agent of the machine.
func ban(t *testing.T, u *UFC, service, address string) {
	t.Helper()
	a := u.mesh.Load().Agent
	a.Told(service, netip.MustParseAddrPort(address), &model.ToldBan{Agent: "neighbour", Until: time.Now().Add(time.Minute)})
	if !bannedOf(a, service)[address] {
		t.Fatalf("%s isn't banned", address)
	}
}

// bannedOf returns the backends of a service that are banned now.
func bannedOf(a *agent.Agent, service string) map[string]bool {
	banned := map[string]bool{}
	answer, _ := a.Query([]string{"ban_info", service})
	bans, _ := answer.(map[string][]*agent.BanInfo)
	for _, ban := range bans[service] {
		banned[ban.Backend] = true
	}
	return banned
}

func TestBanned(t *testing.T) {
	u := attach(t, "ufc.internal", "", listed("redis", "10.0.0.1:1", "10.0.0.2:1")...)
	ban(t, u, "redis", "10.0.0.1:1")
	for range 4 {
		msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeA))
		if got := msg.Answer[0].(*dns.A).A.String(); got != "10.0.0.2" {
			t.Errorf("got %s, which is banned", got)
		}
	}
	ban(t, u, "redis", "10.0.0.2:1")
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		if msg, _ := ask(t, u, "", question("redis.ufc.internal.", qtype)); len(msg.Answer) != 1 {
			t.Errorf("all are banned: got %v, want a choice among them", msg.Answer)
		}
	}
}

// Few of one family among many of the other are found, in turn, and the banned of them last.
func TestMixedFamilies(t *testing.T) {
	addresses := []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1 down"}
	for i := range 100 {
		addresses = append(addresses, fmt.Sprintf("[2001:db8::%x]:1", i+1))
	}
	u := attach(t, "ufc.internal", "", listed("many", addresses...)...)
	spread := func() map[string]bool {
		seen := map[string]bool{}
		for range 4 * len(addresses) {
			msg, _ := ask(t, u, "", question("many.ufc.internal.", dns.TypeA))
			if len(msg.Answer) != 1 {
				t.Fatalf("got %v", msg)
			}
			seen[msg.Answer[0].(*dns.A).A.String()] = true
		}
		return seen
	}
	if seen := spread(); len(seen) != 3 || seen["10.0.0.4"] {
		t.Errorf("got %v, want the three that serve", seen)
	}
	ban(t, u, "many", "10.0.0.1:1")
	if seen := spread(); len(seen) != 2 || seen["10.0.0.1"] {
		t.Errorf("got %v, want the two that aren't banned", seen)
	}
	ban(t, u, "many", "10.0.0.2:1")
	ban(t, u, "many", "10.0.0.3:1")
	if seen := spread(); len(seen) != 3 || seen["10.0.0.4"] {
		t.Errorf("got %v, want the three that serve, though all are banned", seen)
	}
}

func TestNotReady(t *testing.T) {
	u := attach(t, "ufc.internal", "fallthrough")
	if u.Ready() {
		t.Error("is ready without any configuration")
	}
	for _, qname := range []string{"redis.ufc.internal.", "i.redis.ufc.internal.", "0a000001-1.i.redis.ufc.internal.", "_x._tcp.redis.ufc.internal."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeMX} {
			msg, code := ask(t, u, "", question(qname, qtype).SetEdns0(1232, false))
			if code != dns.RcodeSuccess || msg == nil || msg.Rcode != dns.RcodeServerFailure || extendedError(msg) != dns.ExtendedErrorCodeNotReady {
				t.Errorf("%s: got %d, %v, want SERVFAIL with EDE 14", qname, code, msg)
			}
		}
	}
	if msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeA)); msg.Rcode != dns.RcodeServerFailure || len(msg.Extra) != 0 {
		t.Errorf("without EDNS: got %v, want SERVFAIL alone", msg)
	}
	u.mesh.Load().Catalog.Replace(1, demo())
	if msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeA)); len(msg.Answer) != 1 || !u.Ready() {
		t.Errorf("once there is a configuration: got %v, ready %t", msg, u.Ready())
	}
}

// extendedError returns the code of the answer's EDE, or 65535.
func extendedError(m *dns.Msg) uint16 {
	if opt := m.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if ede, ok := option.(*dns.EDNS0_EDE); ok {
				return ede.InfoCode
			}
		}
	}
	return 65535
}

func TestEDNS(t *testing.T) {
	u := attach(t, "ufc.internal", "", demo()...)
	bothWays(t, u, func(t *testing.T) {
		msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeSRV).SetEdns0(1400, true))
		opt := msg.IsEdns0()
		if opt == nil || opt.UDPSize() != 1400 || !opt.Do() || len(opt.Option) != 0 || len(msg.Extra) != 2 {
			t.Errorf("got %v", msg)
		}
	})
}

// An answer isn't larger than asked for, and cut only if it must be.
func TestTruncation(t *testing.T) {
	var addresses []string
	for i := range 16 {
		addresses = append(addresses, fmt.Sprintf("[2001:db8::%x]:65000", i+1))
	}
	u := attach(t, "ufc.internal", "answers 16", listed("a-service-with-a-long-name", addresses...)...)
	const long, short = "_protocol._tcp.a-caller.a-service-with-a-long-name.ufc.internal.", "a-service-with-a-long-name.ufc.internal."
	f := func(t *testing.T, qname string, qtype, size uint16, cut bool) {
		t.Helper()
		r := question(qname, qtype)
		limit := dns.MinMsgSize
		if size > 0 {
			r.SetEdns0(size, false)
			limit = int(size)
		}
		recorder := newRecorder("")
		if _, err := u.ServeDNS(t.Context(), scrub(r, recorder), r); err != nil {
			t.Fatal(err)
		}
		packed := recorder.packed
		recorder.unpack(t)
		msg := recorder.Msg
		if packed == nil {
			packed, _ = msg.Pack()
		}
		whole := len(msg.Answer) == 16 && (qtype != dns.TypeSRV || len(msg.Extra) >= 16)
		if len(packed) > limit || msg.Truncated != cut || whole == cut {
			t.Errorf("%s, size %d: %d bytes, truncated %t, %d answers", dns.Type(qtype), size, len(packed), msg.Truncated, len(msg.Answer))
		}
	}
	bothWays(t, u, func(t *testing.T) {
		for _, size := range []uint16{0, 512, 600} {
			f(t, long, dns.TypeSRV, size, true)
			f(t, short, dns.TypeSRV, size, true)
		}
		f(t, long, dns.TypeSRV, 4096, false)
		f(t, short, dns.TypeSRV, 4096, false)
		f(t, short, dns.TypeAAAA, 0, false) // 505 bytes
		f(t, short, dns.TypeAAAA, 512, true)
		for _, size := range []uint16{600, 1232, 1400, 4096} {
			f(t, short, dns.TypeAAAA, size, false)
		}
	})
}

func TestDebug(t *testing.T) {
	u := attach(t, "ufc.internal", "", append(listed("redis", "10.0.0.1:1", "10.0.0.2:1 drain"), document("redis"))...)
	ban(t, u, "redis", "10.0.0.1:1")
	msg, _ := ask(t, u, "127.0.0.1", question("_debug.redis.ufc.internal.", dns.TypeTXT))
	var lines []string
	for _, rr := range msg.Answer {
		lines = append(lines, strings.Join(rr.(*dns.TXT).Txt, "|"))
	}
	for i, parts := range [][]string{
		{"service=redis", "instances=2", "banned=1", "revision=7", "source=none"},
		{"10.0.0.1:1 up", "weight=100", "banned=neighbour", "until="},
		{"10.0.0.2:1 drain", "banned=no"},
	} {
		for _, part := range parts {
			if len(lines) != 3 || !strings.Contains(lines[i], part) {
				t.Errorf("line %d of %q doesn't tell %q", i, lines, part)
			}
		}
	}
	if msg, _ := ask(t, u, "::1", question("_debug.redis.ufc.internal.", dns.TypeTXT)); len(msg.Answer) != 3 {
		t.Errorf("from ::1: %v", msg)
	}
	if msg, _ := ask(t, u, "127.0.0.1", question("_debug.redis.ufc.internal.", dns.TypeA)); msg.Rcode != 0 || len(msg.Ns) != 1 {
		t.Errorf("A: %v, want NODATA", msg)
	}
	if msg, _ := ask(t, u, "127.0.0.1", question("_debug.none.ufc.internal.", dns.TypeTXT)); msg.Rcode != dns.RcodeNameError {
		t.Errorf("unknown service: %v, want NXDOMAIN", msg)
	}
	for _, from := range []string{"10.0.0.9", "192.168.0.1", "2001:db8::9"} {
		for _, qname := range []string{"_debug.redis.ufc.internal.", "_debug.none.ufc.internal."} {
			if msg, _ := ask(t, u, from, question(qname, dns.TypeTXT)); msg.Rcode != dns.RcodeRefused || len(msg.Answer)+len(msg.Ns) != 0 {
				t.Errorf("%s from %s: %v, want REFUSED", qname, from, msg)
			}
		}
	}
}

func TestDebugIsBounded(t *testing.T) {
	var addresses []string
	for i := range maxDebugLines + 5 {
		addresses = append(addresses, fmt.Sprintf("10.0.%d.%d:1", i/200, i%200+1))
	}
	u := attach(t, "ufc.internal", "", listed("many", addresses...)...)
	recorder := dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: "127.0.0.1", TCP: true})
	r := question("_debug.many.ufc.internal.", dns.TypeTXT)
	if _, err := u.ServeDNS(t.Context(), scrub(r, recorder), r); err != nil {
		t.Fatal(err)
	}
	answer := recorder.Msg.Answer
	if last := answer[len(answer)-1].String(); len(answer) != maxDebugLines+2 || !strings.Contains(last, "5 more") {
		t.Errorf("got %d lines, the last %s", len(answer), last)
	}
	r.SetEdns0(1232, false)
	if msg, _ := ask(t, u, "127.0.0.1", r); !msg.Truncated || msg.Len() > 1232 {
		t.Errorf("by UDP: %d bytes, truncated %t", msg.Len(), msg.Truncated)
	}
}

// The plugin keeps nothing of a request: a message may change once it is answered.
func TestReplyIsApart(t *testing.T) {
	u := attach(t, "ufc.internal", "", demo()...)
	r := question("redis.ufc.internal.", dns.TypeA)
	msg, _ := ask(t, u, "", r)
	r.Question[0] = dns.Question{}
	if msg.Question[0].Name != "redis.ufc.internal." {
		t.Errorf("the answer's question changed with the request's: %v", msg.Question)
	}
}

// Questions are answered while the configuration changes.
func TestServeDNSWhileChanging(t *testing.T) {
	u := attach(t, "ufc.internal", "answers 4", demo()...)
	views := u.mesh.Load().Catalog
	var asking sync.WaitGroup
	done := make(chan struct{})
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				msg, code := ask(t, u, "", question("both.ufc.internal.", qtype))
				if code != dns.RcodeSuccess || (msg.Rcode == dns.RcodeSuccess && len(msg.Answer) == 0 && len(msg.Ns) == 0) {
					t.Errorf("%s: got %d, %v", dns.Type(qtype), code, msg)
					return
				}
			}
		})
	}
	for revision := range int64(300) {
		views.Replace(revision+8, slices.Concat(demo(), listed("both", fmt.Sprintf("10.0.1.%d:80", revision%200))))
		if revision%50 == 0 {
			views.Replace(revision+8, listed("redis", "10.0.0.1:6379"))
		}
	}
	close(done)
	asking.Wait()
}

type otherAddr string

func (a otherAddr) Network() string { return "udp" }
func (a otherAddr) String() string  { return string(a) }

func TestClientAddress(t *testing.T) {
	for remote, want := range map[net.Addr]string{
		&net.UDPAddr{IP: net.ParseIP("10.0.0.9"), Port: 1}:            "10.0.0.9",
		&net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.9"), Port: 1}:     "10.0.0.9",
		&net.TCPAddr{IP: net.ParseIP("2001:db8::9"), Port: 1}:         "2001:db8::9",
		&net.UDPAddr{IP: net.ParseIP("fe80::9"), Zone: "lo", Port: 1}: "fe80::9",
		otherAddr("10.0.0.9:53"):                                      "10.0.0.9",
		otherAddr("[fe80::9]:53"):                                     "fe80::9",
		otherAddr("a socket"):                                         "invalid IP",
	} {
		if got := clientAddress(&sink{remote: remote}); got.String() != want {
			t.Errorf("%v: got %s, want %s", remote, got, want)
		}
	}
}

func TestServeDNSBeforeStart(t *testing.T) {
	u := attach(t, "ufc.internal", "")
	u.mesh.Store(nil)
	if msg, code := ask(t, u, "", question("redis.ufc.internal.", dns.TypeA)); code != dns.RcodeServerFailure || msg != nil || u.Ready() {
		t.Errorf("got %d, %v, ready %t", code, msg, u.Ready())
	}
}
