package corednsufc

import (
	"context"
	"encoding/binary"
	"strings"
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

// FuzzSubnet sends client subnets as no resolver should: refused, or answered with the same subnet, of a scope no longer than it.
func FuzzSubnet(f *testing.F) {
	for _, option := range [][]byte{
		{}, {0}, {0, 0, 0, 0}, {0, 1, 24, 0, 10, 0, 0}, {0, 1, 255, 0, 1, 2, 3, 4}, {0, 2, 128, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		{0, 1, 8, 0, 10, 1}, {0, 3, 8, 0, 10}, {0, 1, 24, 24, 10, 0, 0}, {0, 2, 0, 0}, {0, 2, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
	} {
		f.Add(option)
	}
	u := attach(f, testZones, "client_idc 10.0.0.0/8 bj-a\nclient_idc 2001:db8::/32 bj-b", demo()...)
	f.Fuzz(func(t *testing.T, option []byte) {
		if len(option) > 1000 {
			return
		}
		packet, err := question("redis.ufc.internal.", dns.TypeA).SetEdns0(1232, false).Pack()
		if err != nil {
			t.Fatal(err)
		}
		end := len(packet) - 2 // the length of the OPT's data
		packet = binary.BigEndian.AppendUint16(packet[:end], uint16(4+len(option)))
		packet = binary.BigEndian.AppendUint16(packet, dns.EDNS0SUBNET)
		packet = append(binary.BigEndian.AppendUint16(packet, uint16(len(option))), option...)
		r := new(dns.Msg)
		if r.Unpack(packet) != nil {
			return
		}
		recorder := &recorder{Recorder: dnstest.NewRecorder(&test.ResponseWriter{})}
		code, err := u.ServeDNS(context.Background(), recorder, r)
		if err != nil {
			t.Fatal(err)
		}
		recorder.unpack(t)
		if recorder.Msg == nil && code == dns.RcodeFormatError { // which CoreDNS writes
			return
		}
		if recorder.Msg == nil || recorder.Msg.IsEdns0() == nil {
			t.Fatalf("%x: is answered by %v", option, recorder.Msg)
		}
		for _, answered := range recorder.Msg.IsEdns0().Option {
			if subnet, ok := answered.(*dns.EDNS0_SUBNET); ok && (subnet.SourceScope > subnet.SourceNetmask || recorder.Msg.Rcode != dns.RcodeSuccess) {
				t.Errorf("%x: is answered by %v", option, recorder.Msg)
			}
		}
	})
}

// FuzzCorefile puts any text into the block: it is read, or refused with its line.
func FuzzCorefile(f *testing.F) {
	for _, lines := range []string{
		"etcd http://127.0.0.1:2379", "prefix /x", "credentials a b", "tls a b c", "tls a", "idc bj-a", "client_idc 10.0.0.0/8 a", "follow all", "protect 5%",
		"callback :8889", "callback_by id", "token", "ttl 3600", "answers 16", "fused answer", "fallthrough . x", "protect NaN%", "x", "\"", "host \x00",
	} {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		if strings.ContainsAny(lines, "{}\"") || strings.Contains(lines, "import") { // they end the block, or read files
			return
		}
		cfg, err := parse(controller("ufc.internal", lines))
		if (cfg == nil) == (err == nil) || err != nil && !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q: %+v, %v", lines, cfg, err)
		}
	})
}
