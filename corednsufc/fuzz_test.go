package corednsufc

import (
	"context"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// FuzzServeDNS sends packets as they come from the network, and messages that no packet can hold but another plugin might
// make: no crash, an answer to the question that was asked, and not larger than asked for.
func FuzzServeDNS(f *testing.F) {
	u := attach(f, testZones+" .", "answers 16\nclient_idc 10.0.0.0/8 bj-a", demo()...)
	u.canWriteRaw.Store(true)
	for _, qname := range []string{
		"redis.ufc.internal.", "_redis._tcp.ufc.internal.", "_x._tcp.web.both.bj.mesh.example.org.", "_debug.redis.ufc.internal.",
		"0a000001-6379.i.redis.ufc.internal.", "ns.i.ufc.internal.", "ufc.internal.", ".", `a\.b\000.ufc.internal.`, "ReDis.uFc.internal.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeSOA, dns.TypeNS, dns.TypeANY} {
			packet, err := question(qname, qtype).SetEdns0(512, true).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(packet, qname, true)
			r := question(qname, qtype)
			r.Extra = append(r.Extra, withSubnet("10.0.0.0/24"))
			if packet, err = r.Pack(); err != nil {
				f.Fatal(err)
			}
			f.Add(packet, qname, false)
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte, qname string, local bool) {
		r := new(dns.Msg)
		if r.Unpack(packet) != nil {
			r = question(qname, dns.TypeSRV)
		}
		serve(t, u, r, local)
		if len(r.Question) > 0 {
			r.Question[0].Name = qname
			serve(t, u, r, local)
		}
	})
}

func serve(t *testing.T, u *UFC, r *dns.Msg, local bool) {
	writer := &test.ResponseWriter{}
	if local {
		writer.RemoteIP = "127.0.0.1"
	}
	recorder := &recorder{Recorder: dnstest.NewRecorder(writer)}
	code, err := u.ServeDNS(context.Background(), scrub(r, recorder), r)
	if err != nil {
		t.Fatal(err)
	}
	recorder.unpack(t)
	m := recorder.Msg
	if m == nil {
		if code == dns.RcodeSuccess {
			t.Fatalf("%v: nothing is written, and success returned", r.Question)
		}
		return
	}
	if m.Id != r.Id || !m.Response || m.Opcode != r.Opcode || len(m.Question) != 1 || m.Question[0] != r.Question[0] || m.RecursionAvailable {
		t.Fatalf("%v: is answered with %v", r.Question, m)
	}
	if (m.IsEdns0() != nil) != (r.IsEdns0() != nil) {
		t.Fatalf("%v: EDNS is answered without, or the other way round: %v", r, m)
	}
	if _, ok := dns.IsDomainName(r.Question[0].Name); !ok {
		return // no server has unpacked such a name
	}
	packed, err := recorder.packed, error(nil)
	if packed == nil {
		packed, err = m.Pack()
	}
	limit := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		limit = max(limit, int(opt.UDPSize()))
	}
	if err != nil || len(packed) > limit {
		t.Fatalf("%v: answer of %d bytes, %d are allowed, %v: %v", r.Question, len(packed), limit, err, m)
	}
}
