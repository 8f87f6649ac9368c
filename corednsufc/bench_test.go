package corednsufc

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/hosts"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/model"
)

// sink takes answers, and allocates nothing by itself.
type sink struct {
	test.ResponseWriter
	remote net.Addr
	answer *dns.Msg
	packed []byte
}

func (s *sink) RemoteAddr() net.Addr { return s.remote }

func (s *sink) WriteMsg(m *dns.Msg) error {
	s.answer = m
	return nil
}

func (s *sink) Write(b []byte) (int, error) {
	s.packed = b
	return len(b), nil
}

func BenchmarkServeDNS(b *testing.B) {
	const services, instances = 1000, 200
	var records []model.Record
	for s := range services {
		var addresses []string
		for i := range instances {
			addresses = append(addresses, fmt.Sprintf("10.%d.%d.%d:%d", s/250, s%250, i, 6379))
		}
		records = append(records, listed(fmt.Sprintf("service-%d", s), addresses...)...)
	}
	u := attach(b, "ufc.internal", "", records...)
	u.canWriteRaw.Store(true)
	w := &sink{remote: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 4000}}
	f := func(name, pattern string, qtype uint16, answers int) {
		var questions []*dns.Msg
		for s := range services {
			questions = append(questions, question(fmt.Sprintf(pattern, s), qtype))
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				code, err := u.ServeDNS(context.Background(), w, questions[n%services])
				if code != dns.RcodeSuccess || err != nil || answers > 0 && int(w.packed[7]) != answers {
					b.Fatal(code, err, w.answer)
				}
			}
		})
	}
	f("A", "service-%d.ufc.internal.", dns.TypeA, 1)
	f("AAAA-NODATA", "service-%d.ufc.internal.", dns.TypeAAAA, 0)
	f("SRV", "_redis._tcp.service-%d.ufc.internal.", dns.TypeSRV, 1)
	f("NXDOMAIN", "none-%d.ufc.internal.", dns.TypeA, 0)
	f("case", "SerVice-%d.uFc.InterNal.", dns.TypeA, 1)
}

// BenchmarkHosts is what BenchmarkServeDNS is to be compared with: CoreDNS's hosts with one name.
func BenchmarkHosts(b *testing.B) {
	c := caddy.NewTestController("dns", "hosts {\n10.0.0.1 service-1.ufc.internal\n}")
	c.ServerBlockKeys = []string{"ufc.internal"}
	action, err := caddy.DirectiveAction("dns", "hosts")
	if err != nil {
		b.Fatal(err)
	}
	if err := action(c); err != nil {
		b.Fatal(err)
	}
	hosts := dnsserver.GetConfig(c).Plugin[0](nil)
	w := &sink{remote: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 4000}}
	r := question("service-1.ufc.internal.", dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		code, err := hosts.ServeDNS(context.Background(), w, r)
		if code != dns.RcodeSuccess || err != nil || len(w.answer.Answer) != 1 {
			b.Fatal(code, err, w.answer)
		}
	}
}
