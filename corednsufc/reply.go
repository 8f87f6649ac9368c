package corednsufc

import (
	"net/netip"

	"github.com/miekg/dns"
)

// reply is a message with room for what most answers hold, so that they take one allocation. It isn't used again: plugins
// around us may keep the message.
type reply struct {
	dns.Msg

	question [1]dns.Question
	answer   [1]dns.RR
	extra    [2]dns.RR // an address, and the OPT record that CoreDNS adds
	a        dns.A
	aaaa     dns.AAAA
	srv      dns.SRV
	octets   [16]byte
	used     struct{ address, srv bool }
	final    bool // whatever its code, neither is the next plugin asked, nor is it stale
}

// newReply returns an empty, successful, authoritative answer.
func newReply(r *dns.Msg) *reply {
	m := &reply{}
	m.Id, m.Opcode, m.Response, m.Authoritative = r.Id, r.Opcode, true, true
	m.RecursionDesired, m.CheckingDisabled = r.RecursionDesired, r.CheckingDisabled
	m.question[0] = r.Question[0]
	m.Question, m.Answer, m.Extra = m.question[:], m.answer[:0], m.extra[:0]
	return m
}

// address returns an A or AAAA record, by the address's family.
func (m *reply) address(owner string, ttl uint32, address netip.Addr) dns.RR {
	a, aaaa, octets := &m.a, &m.aaaa, &m.octets
	if m.used.address {
		a, aaaa, octets = new(dns.A), new(dns.AAAA), new([16]byte)
	}
	m.used.address = true
	*octets = address.As16()
	if address.Is4() {
		a.Hdr = dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		a.A = octets[12:]
		return a
	}
	aaaa.Hdr = dns.RR_Header{Name: owner, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: ttl}
	aaaa.AAAA = octets[:]
	return aaaa
}

// service returns an SRV record.
func (m *reply) service(owner string, ttl uint32, target string, port uint16, rank srvRank) dns.RR {
	srv := &m.srv
	if m.used.srv {
		srv = new(dns.SRV)
	}
	m.used.srv = true
	srv.Hdr = dns.RR_Header{Name: owner, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: ttl}
	srv.Priority, srv.Weight, srv.Port, srv.Target = rank.priority, rank.weight, port, target
	return srv
}

// explain adds an extended error (RFC 8914), if the question has EDNS.
func (m *reply) explain(r *dns.Msg, code uint16, text string) {
	if r.IsEdns0() != nil {
		m.option(&dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

// option adds an option to the answer's OPT record. CoreDNS fills in the rest of the record.
func (m *reply) option(option dns.EDNS0) {
	opt := m.IsEdns0()
	if opt == nil {
		opt = &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		m.Extra = append(m.Extra, opt)
	}
	opt.Option = append(opt.Option, option)
}
