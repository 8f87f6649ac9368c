package corednsufc

import (
	"net/netip"

	"github.com/miekg/dns"
)

// reply returns an empty, successful, authoritative answer. It isn't used again: plugins around us may keep it.
func (q *query) reply() *dns.Msg {
	m := new(dns.Msg).SetReply(q.r)
	m.Authoritative = true
	return m
}

// header returns what all records begin with.
func (q *query) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: q.ttl}
}

// addressRecord returns an A or AAAA record, by the address's family.
func (q *query) addressRecord(owner string, address netip.Addr) dns.RR {
	if address.Is4() {
		return &dns.A{Hdr: q.header(owner, dns.TypeA), A: address.AsSlice()}
	}
	return &dns.AAAA{Hdr: q.header(owner, dns.TypeAAAA), AAAA: address.AsSlice()}
}

// explain adds an extended error (RFC 8914), if the question has EDNS.
func (q *query) explain(m *dns.Msg, code uint16, text string) {
	if q.r.IsEdns0() != nil {
		addOption(m, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

// addOption adds an option to the answer's OPT record. CoreDNS fills in the rest of the record.
func addOption(m *dns.Msg, option dns.EDNS0) {
	opt := m.IsEdns0()
	if opt == nil {
		opt = &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		m.Extra = append(m.Extra, opt)
	}
	opt.Option = append(opt.Option, option)
}
