package corednsufc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/model"
)

// text is a message, with its sections in one order: which instance comes first is a matter of turns.
func text(m *dns.Msg) string {
	m = m.Copy()
	for _, section := range [][]dns.RR{m.Answer, m.Extra} {
		slices.SortFunc(section, func(a, b dns.RR) int { return strings.Compare(a.String(), b.String()) })
	}
	return m.String()
}

// TestPackedIsTheSame: what is written packed is the message that would be written otherwise.
func TestPackedIsTheSame(t *testing.T) {
	u := attach(t, testZones+" .", "answers 4\nttl 3599", slices.Concat(demo(), listed("many", "10.0.0.1:1", "10.0.0.2:65535", "10.0.0.3:3", "[2001:db8::3]:4"))...)
	packed := 0
	f := func(qname string, qtype uint16, change func(*dns.Msg)) {
		t.Helper()
		r := question(qname, qtype)
		change(r)
		u.canWriteRaw.Store(false)
		want, _ := ask(t, u, "10.0.0.9", r.Copy())
		u.canWriteRaw.Store(true)
		recorder := newRecorder("10.0.0.9")
		question := r.Copy()
		if _, err := u.ServeDNS(t.Context(), scrub(question, recorder), question); err != nil {
			t.Fatal(err)
		}
		if recorder.packed != nil {
			packed++
		}
		recorder.unpack(t)
		if got := text(recorder.Msg); got != text(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", qname, got, text(want))
		}
	}
	for _, qname := range []string{
		"redis.ufc.internal.", "ReDis.uFc.Internal.", "web.redis.ufc.internal.", "_Redis._TCP.ufc.internal.", "_x._tcp.web.many.bj.mesh.example.org.",
		"many.ufc.internal.", "many.", "_many._tcp.", "six.ufc.internal.", "none.ufc.internal.", "idle.ufc.internal.", "redis.test.", "ufc.internal.",
		"_" + strings.Repeat("x", 62) + "._tcp.redis.ufc.internal.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT} {
			f(qname, qtype, func(*dns.Msg) {})
			f(qname, qtype, func(r *dns.Msg) { r.RecursionDesired, r.CheckingDisabled, r.AuthenticatedData = false, true, true })
			f(qname, qtype, func(r *dns.Msg) { r.SetEdns0(512, false) })
			f(qname, qtype, func(r *dns.Msg) { r.SetEdns0(4096, true) })
			f(qname, qtype, func(r *dns.Msg) { r.SetEdns0(100, false) })
		}
	}
	if packed < 80 {
		t.Errorf("only %d answers were packed", packed)
	}
}

// TestPackedOnlyIfAllTakeIt: a plugin in front that wants the message gets it.
func TestPackedOnlyIfAllTakeIt(t *testing.T) {
	f := func(extra string, want bool) {
		t.Run("behind "+extra, func(t *testing.T) {
			c := newCorefile(t)
			s := startServer(t, c, strings.Replace(c.block("ufc.internal", ""), "ufc {", extra+"\nufc {", 1))
			if got := s.block().canWriteRaw.Load(); got != want {
				t.Errorf("got %t", got)
			}
		})
	}
	f("", true)
	f("errors", true)
	f("errors\nprometheus "+freeAddress(t), true)
	f("whoami", true) // stands behind
	f("wrapper", false)
	f("errors\nwrapper", false)
	f("nameless", false)
}

func TestByStream(t *testing.T) {
	for keys, want := range map[string]bool{
		"ufc.internal:53": false, "dns://ufc.internal": false, "tls://ufc.internal https://ufc.internal": false, "quic://ufc.internal": true,
		"ufc.internal https3://ufc.internal": true,
	} {
		if got := byStream(strings.Fields(keys)); got != want {
			t.Errorf("%s: %t", keys, got)
		}
	}
}

func init() {
	for _, name := range []string{"wrapper", "nameless"} {
		caddy.RegisterPlugin(name, caddy.Plugin{ServerType: "dns", Action: func(c *caddy.Controller) error {
			c.Next()
			dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler { return other{next, strings.TrimPrefix(name, "nameless")} })
			return nil
		}})
	}
}

// TestRanksOfSRV: the instances of the IDC whose turn it is come first, by their weights in force.
func TestRanksOfSRV(t *testing.T) {
	topology := &model.Topology{
		IDCs:   map[string]model.IDC{"bj-a": {Logical: "north"}, "bj-b": {Logical: "north"}, "gz-a": {Logical: "south"}},
		Routes: map[string][]model.IDCWeight{"north": {{To: "north", Weight: 100}}, "south": {{To: "south", Weight: 100}, {To: "north", Weight: 0}}},
	}
	records := []model.Record{{Kind: model.KindTopology, Revision: 1, Topology: topology}}
	for address, idc := range map[string]string{"10.0.0.1:80": "bj-a", "10.0.0.2:80": "bj-b", "10.0.0.3:80": "gz-a", "10.0.0.4:80": "gz-a"} {
		one := listed("redis", address)
		one[0].Instance.IDC, one[0].Instance.Weight = idc, int(address[7]-'0')*10
		records = append(records, one...)
	}
	f := func(idc string, want map[string]string) {
		t.Helper()
		u := attach(t, "ufc.internal", "answers 4\nidc "+idc, records...)
		u.canWriteRaw.Store(true)
		m, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeSRV))
		got := map[string]string{}
		for _, rr := range m.Answer {
			srv := rr.(*dns.SRV)
			got[srv.Target[:8]] = fmt.Sprintf("%d %d", srv.Priority, srv.Weight)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in %s: got %v, want %v", idc, got, want)
		}
	}
	f("gz-a", map[string]string{"0a000003": "0 30", "0a000004": "0 40", "0a000001": "1 10", "0a000002": "1 20"})
	f("bj-a", map[string]string{"0a000001": "0 10", "0a000002": "0 20"})
	f("elsewhere", map[string]string{"0a000001": "0 10", "0a000002": "0 20", "0a000003": "0 30", "0a000004": "0 40"})
}

// other is a plugin that does nothing.
type other struct {
	next plugin.Handler
	name string
}

func (o other) Name() string { return o.name }

func (o other) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure(o.name, o.next, ctx, w, r)
}
