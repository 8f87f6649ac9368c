package corednsufc

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// fusedBlock is a server block over redis, whose fuse refuses nearly everything, and cut, which drops the caller web.
func fusedBlock(t *testing.T, lines string) *UFC {
	t.Helper()
	cut := model.DefaultService("cut")
	cut.Drop = []model.Drop{{Callers: []string{"web"}, Percent: 100}}
	u := attach(t, "ufc.internal", lines, slices.Concat(
		listed("redis", "10.0.0.1:6379", "10.0.0.2:6379"), listed("cut", "10.0.0.3:80"),
		[]model.Record{{Kind: model.KindService, Name: "cut", Revision: 1, Service: cut}},
	)...)
	h := handlerOf(u, "")
	results := `[` + strings.Repeat(`{"service":"redis","backend":"10.0.0.1:6379","result":"read_timeout"},{"service":"redis","backend":"10.0.0.2:6379","result":"read_timeout"},`, 10)
	results = strings.TrimSuffix(results, ",") + `]`
	// Only who reports what succeeds, too, is believed that all fails.
	if code := report(t, h, strings.ReplaceAll(results, "read_timeout", "ok")); code != http.StatusNoContent {
		t.Fatalf("reports: %d", code)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if code := report(t, h, results); code != http.StatusNoContent {
			t.Fatalf("reports: %d", code)
		}
		answer, err := u.mesh.Load().Query("fuse_info^redis")
		if err != nil {
			t.Fatal(err)
		}
		if answer["fuse_info"].(map[string]agent.FuseInfo)["redis"].Avalanche {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no avalanche began")
		}
	}
	for range 10 { // so many pass when an avalanche begins without a queue
		ask(t, u, "", question("redis.ufc.internal.", dns.TypeA))
	}
	return u
}

func TestFused(t *testing.T) {
	f := func(lines string, rcode int, owner bool) {
		t.Run(lines, func(t *testing.T) { testFused(t, fusedBlock(t, lines), rcode, owner) })
	}
	f("", dns.RcodeRefused, false)
	f("fused refused\nfallthrough", dns.RcodeRefused, false)
	f("fused nxdomain\nttl 60", dns.RcodeNameError, true)
	f("fused nxdomain\nfallthrough", dns.RcodeNameError, true)
}

func testFused(t *testing.T, u *UFC, rcode int, owner bool) {
	t.Helper()
	for qname, code := range map[string]uint16{
		"redis.ufc.internal.": dns.ExtendedErrorCodeOther, "web.cut.ufc.internal.": dns.ExtendedErrorCodeBlocked,
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			msg, _ := ask(t, u, "", question(qname, qtype).SetEdns0(1232, false))
			if msg == nil || msg.Rcode != rcode || len(msg.Answer) != 0 || extendedError(msg) != code || msg.Authoritative != owner {
				t.Errorf("%s: got %v", qname, msg)
			}
			for _, rr := range msg.Ns {
				if soa := rr.(*dns.SOA); soa.Minttl != 0 || soa.Hdr.Ttl != 0 {
					t.Errorf("%s: may be kept: %v", qname, soa)
				}
			}
			if msg, _ := ask(t, u, "", question(qname, qtype)); msg.Rcode != rcode || len(msg.Extra) != 0 {
				t.Errorf("%s without EDNS: got %v", qname, msg)
			}
		}
	}
	// What isn't refused goes on as ever.
	if msg, _ := ask(t, u, "", question("cut.ufc.internal.", dns.TypeA)); len(msg.Answer) != 1 {
		t.Errorf("got %v for another caller", msg)
	}
	for range 20 { // nor is what no instance answers, each time that a resolver asks for both IP versions
		if msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeAAAA)); msg.Rcode != dns.RcodeSuccess || len(msg.Answer) != 0 || len(msg.Ns) != 1 {
			t.Errorf("got %v for the other IP version", msg)
		}
	}
	if msg, _ := ask(t, u, "", question("redis.ufc.internal.", dns.TypeMX)); msg.Rcode != dns.RcodeSuccess {
		t.Errorf("got %v for a type that hands nothing out", msg)
	}
}

func TestFusedIsAnswered(t *testing.T) {
	u := fusedBlock(t, "fused answer\nanswers 2")
	for qname, want := range map[string]int{"redis.ufc.internal.": 2, "web.cut.ufc.internal.": 1} {
		for range 20 {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
				if msg, _ := ask(t, u, "", question(qname, qtype).SetEdns0(1232, false)); len(msg.Answer) != want || extendedError(msg) != 65535 {
					t.Fatalf("%s: got %v", qname, msg)
				}
			}
		}
	}
}
