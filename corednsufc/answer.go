package corednsufc

import (
	"errors"
	"net/netip"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/mesh"
)

// query is one question within our zones.
type query struct {
	name
	w     dns.ResponseWriter
	r     *dns.Msg
	mesh  *mesh.Mesh
	zone  *zone
	qtype uint16
	ttl   uint32

	client client // who asks

	// The question's name and the part of it that is the zone, in the case that the client chose: resolvers that choose
	// it at random (0x20) want it back, and names of one case compress.
	owner, suffix string
}

// answer returns the reply to a question that asks for no choice.
func (q *query) answer() *reply {
	switch q.kind {
	case missing:
		return q.nxdomain()
	case apex:
		return q.apex()
	case nonTerminal:
		return q.nodata()
	case nameServer:
		return q.nameServer()
	case debug:
		if !clientAddress(q.w).IsLoopback() { // whatever a resolver says of its client
			return q.refused()
		}
	}
	if !q.mesh.Agent.Synced() {
		return q.notReady()
	}
	view := q.mesh.Catalog.Service(q.service)
	switch {
	case view == nil:
		return q.nxdomain()
	case q.kind == instance:
		return q.instance(view)
	case q.kind == debug && q.qtype == dns.TypeTXT:
		return q.debug()
	}
	return q.nodata()
}

// handsOut tells whether the answer is the agent's choice.
func (q *query) handsOut() bool {
	switch q.kind {
	case service:
		return q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA || q.qtype == dns.TypeSRV
	case serviceSRV:
		return q.qtype == dns.TypeSRV
	}
	return false
}

// handOut answers with what the agent has chosen, or with why it has chosen nothing.
func (u *UFC) handOut(t *turn) *reply {
	q := &t.query
	if t.refusal != nil {
		return u.refusal(q, t.refusal)
	}
	m := newReply(q.r)
	if q.qtype == dns.TypeSRV {
		q.appendSRV(m, t.chosen)
		return m
	}
	for _, attempt := range t.chosen {
		m.Answer = append(m.Answer, m.address(q.owner, q.ttl, attempt.Address().Addr()))
	}
	return m
}

// isFused tells whether a call is refused although there may be instances for it.
func isFused(err error) bool {
	refusal, ok := errors.AsType[*agent.Refusal](err)
	return ok && (refusal.Reason == agent.ReasonFused || refusal.Reason == agent.ReasonDropped)
}

// refusal answers a call that the agent refuses.
func (u *UFC) refusal(q *query, err error) *reply {
	if refusal, ok := errors.AsType[*agent.Refusal](err); ok {
		switch refusal.Reason {
		case agent.ReasonUnknownService:
			return q.nxdomain()
		case agent.ReasonNoInstance:
			return q.nodata()
		case agent.ReasonNotSynced:
			return q.notReady()
		case agent.ReasonFused:
			return q.fused(u.config.fused, dns.ExtendedErrorCodeOther, refusal.Detail) // RFC 8914 has none for overload
		case agent.ReasonDropped: // a policy of who runs the mesh
			return q.fused(u.config.fused, dns.ExtendedErrorCodeBlocked, refusal.Detail)
		}
	}
	return q.refused()
}

// fused answers what the option fused says. NXDOMAIN says here that there is nothing now: the next plugin, whose answer would be
// for another service, isn't asked.
func (q *query) fused(option string, code uint16, why string) *reply {
	m := q.refused()
	if option == fusedNXDomain {
		now := *q
		now.ttl = 0 // nobody may keep it
		m = now.nxdomain()
	}
	m.final = true
	m.explain(q.r, code, why)
	return m
}

// appendSRV adds the SRV records, and the addresses of their targets.
func (q *query) appendSRV(m *reply, chosen []*agent.Attempt) {
	host := q.host()
	ranks := rankSRV(chosen)
	for n, attempt := range chosen {
		var buffer [48 + maxNameLength + 1]byte
		target := string(append(append(appendInstanceLabel(buffer[:0], attempt.Address()), ".i."...), host...))
		m.Answer = append(m.Answer, m.service(q.owner, q.ttl, target, attempt.Address().Port(), ranks[n]))
		m.Extra = append(m.Extra, m.address(target, q.ttl, attempt.Address().Addr()))
	}
}

// host returns S.ZONE.
func (q *query) host() string {
	if q.apart {
		return q.service + "." + q.suffix
	}
	return q.owner[len(q.owner)-len(q.suffix)-len(".")-len(q.service):]
}

// holds tells whether an address can be in a record of the type that is asked for.
func (q *query) holds(address netip.Addr) bool {
	return q.qtype == dns.TypeA && address.Is4() || q.qtype == dns.TypeAAAA && address.Is6()
}

// instance answers for one instance's own name, in the family that its address has.
func (q *query) instance(view *catalog.View) *reply {
	if _, found := view.Find(q.address); !found {
		return q.nxdomain()
	}
	if !q.holds(q.address.Addr()) {
		return q.nodata()
	}
	m := newReply(q.r)
	m.Answer = append(m.Answer, m.address(q.owner, q.ttl, q.address.Addr()))
	return m
}

// apex answers for the zone itself.
func (q *query) apex() *reply {
	m := newReply(q.r)
	switch q.qtype {
	case dns.TypeSOA:
		m.Answer = append(m.Answer, q.soa())
	case dns.TypeNS:
		header := dns.RR_Header{Name: q.owner, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: q.ttl}
		m.Answer = append(m.Answer, &dns.NS{Hdr: header, Ns: q.zone.server})
		if here := localAddress(q.w); here.IsValid() {
			m.Extra = append(m.Extra, m.address(q.zone.server, q.ttl, here))
		}
	default:
		return q.nodata()
	}
	return m
}

// nameServer answers for ns.i.ZONE with the address that the client has reached us at.
func (q *query) nameServer() *reply {
	here := localAddress(q.w)
	if !here.IsValid() || !q.holds(here) {
		return q.nodata()
	}
	m := newReply(q.r)
	m.Answer = append(m.Answer, m.address(q.owner, q.ttl, here))
	return m
}

// soa describes the zone. Its serial is the configuration's revision, and wraps as serials do. Its times are for secondaries, of which there are
// none, but for the last, which is how long "no such name" may be kept.
func (q *query) soa() *dns.SOA {
	owner := q.suffix
	if owner == "" {
		owner = "."
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: q.ttl},
		Ns:  q.zone.server, Mbox: q.zone.mailbox,
		Serial:  uint32(q.mesh.Catalog.Revision()),
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: q.ttl,
	}
}

func (q *query) nxdomain() *reply {
	m := newReply(q.r)
	m.Rcode = dns.RcodeNameError
	m.Ns = []dns.RR{q.soa()}
	return m
}

// nodata answers that the name exists, and holds nothing of that type. To a question for everything it says, like the any
// plugin, that nobody should ask so (RFC 8482).
func (q *query) nodata() *reply {
	m := newReply(q.r)
	if q.qtype == dns.TypeANY {
		header := dns.RR_Header{Name: q.owner, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: q.ttl}
		m.Answer = append(m.Answer, &dns.HINFO{Hdr: header, Cpu: "RFC8482"})
		return m
	}
	m.Ns = []dns.RR{q.soa()}
	return m
}

func (q *query) refused() *reply {
	m := newReply(q.r)
	m.Rcode, m.Authoritative = dns.RcodeRefused, false
	return m
}

// notReady answers while there was no configuration yet: whether the name exists isn't known.
func (q *query) notReady() *reply {
	m := newReply(q.r)
	m.Rcode, m.Authoritative = dns.RcodeServerFailure, false
	m.explain(q.r, dns.ExtendedErrorCodeNotReady, "no configuration has come from etcd yet")
	return m
}

// stale tells whether answers come from the snapshot, since etcd hasn't been heard yet. Once it has, that is over for
// good, and a query takes no lock to know.
func (u *UFC) stale(m *mesh.Mesh) bool {
	if u.fresh.Load() {
		return false
	}
	stale := m.Stale()
	if !stale && m.Agent.Synced() {
		u.fresh.Store(true)
	}
	return stale
}

// explainStale marks an answer that comes from the snapshot.
func (q *query) explainStale(m *reply) {
	code := dns.ExtendedErrorCodeStaleAnswer
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	default:
		return
	}
	m.explain(q.r, code, "from the snapshot, etcd has not been heard since the start")
}

// localAddress returns the address that a question was sent to; invalid if it isn't known, as on a socket that is bound
// to all of them.
func localAddress(w dns.ResponseWriter) netip.Addr {
	state := request.Request{W: w}
	address, _ := netip.ParseAddr(state.LocalIP())
	if address.IsUnspecified() {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}
