package corednsufc

import (
	"net/netip"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/mesh"
)

// answer returns the reply to a question that asks for no choice.
func (u *UFC) answer(q *query) *dns.Msg {
	switch q.kind {
	case kindMissing:
		return q.nxdomain()
	case kindApex:
		return q.apex()
	case kindNonTerminal:
		return q.nodata()
	case kindNameServer:
		return q.nameServer()
	case kindDebug:
		if !clientAddress(q.w).IsLoopback() { // whatever a resolver says of its client
			return q.refused()
		}
	}
	if q.refusal = q.mesh.Agent.Find(q.service, agent.MaxPatience); q.refusal != nil {
		return u.refuse(q)
	}
	view := q.mesh.Catalog.Service(q.service)
	switch {
	case view == nil: // it went at this moment
		return q.nxdomain()
	case q.kind == kindInstance:
		return q.instance(view)
	case q.kind == kindDebug && q.qtype == dns.TypeTXT:
		return q.debug()
	}
	return q.nodata()
}

// wantsInstance tells whether the answer is the agent's choice.
func (q *query) wantsInstance() bool {
	switch q.kind {
	case kindService:
		return q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA || q.qtype == dns.TypeSRV
	case kindServiceSRV:
		return q.qtype == dns.TypeSRV
	}
	return false
}

// handOut answers with what the agent has chosen, or with why it has chosen nothing.
func (u *UFC) handOut(q *query) *dns.Msg {
	if q.refusal != nil {
		return u.refuse(q)
	}
	m := q.reply()
	if q.qtype == dns.TypeSRV {
		q.appendSRV(m)
		return m
	}
	for _, attempt := range q.chosen {
		m.Answer = append(m.Answer, q.addressRecord(q.owner, attempt.Address().Addr()))
	}
	return m
}

// refuse answers a call that the agent refuses.
func (u *UFC) refuse(q *query) *dns.Msg {
	switch q.refusal.Reason {
	case agent.ReasonUnknownService:
		return q.nxdomain()
	case agent.ReasonNoInstance:
		return q.nodata()
	case agent.ReasonNotSynced:
		return q.notReady()
	case agent.ReasonFused:
		return q.fused(u.config.fused, dns.ExtendedErrorCodeOther) // RFC 8914 has none for overload
	case agent.ReasonDropped: // a policy of who runs the mesh
		return q.fused(u.config.fused, dns.ExtendedErrorCodeBlocked)
	}
	return q.refused()
}

// fused answers what the option fused says. NXDOMAIN says here that there is nothing now: the next plugin, whose answer would be
// for another service, isn't asked.
func (q *query) fused(option string, code uint16) *dns.Msg {
	m := q.refused()
	if option == fusedNXDomain {
		q.ttl = 0 // nobody may keep it
		m = q.nxdomain()
	}
	q.final = true
	q.explain(m, code, q.refusal.Detail)
	return m
}

// appendSRV adds the SRV records, and the addresses of their targets.
func (q *query) appendSRV(m *dns.Msg) {
	host := q.host()
	ranks := rankSRV(q.chosen)
	for n, attempt := range q.chosen {
		var buffer [48 + maxNameLength + 1]byte
		target := string(append(append(appendInstanceLabel(buffer[:0], attempt.Address()), ".i."...), host...))
		m.Answer = append(m.Answer, &dns.SRV{
			Hdr: q.header(q.owner, dns.TypeSRV), Priority: ranks[n].priority, Weight: ranks[n].weight, Port: attempt.Address().Port(), Target: target,
		})
		m.Extra = append(m.Extra, q.addressRecord(target, attempt.Address().Addr()))
	}
}

// host returns S.ZONE.
func (q *query) host() string {
	if q.srvLabel {
		return q.service + "." + q.suffix
	}
	return q.owner[len(q.owner)-len(q.suffix)-len(".")-len(q.service):]
}

// holds tells whether an address can be in a record of the type that is asked for.
func (q *query) holds(address netip.Addr) bool {
	return q.qtype == dns.TypeA && address.Is4() || q.qtype == dns.TypeAAAA && address.Is6()
}

// instance answers for one instance's own name, in the family that its address has.
func (q *query) instance(view *catalog.View) *dns.Msg {
	if _, found := view.Find(q.address); !found {
		return q.nxdomain()
	}
	if !q.holds(q.address.Addr()) {
		return q.nodata()
	}
	m := q.reply()
	m.Answer = append(m.Answer, q.addressRecord(q.owner, q.address.Addr()))
	return m
}

// apex answers for the zone itself.
func (q *query) apex() *dns.Msg {
	m := q.reply()
	switch q.qtype {
	case dns.TypeSOA:
		m.Answer = append(m.Answer, q.soa())
	case dns.TypeNS:
		m.Answer = append(m.Answer, &dns.NS{Hdr: q.header(q.owner, dns.TypeNS), Ns: q.zone.server})
		if here := localAddress(q.w); here.IsValid() {
			m.Extra = append(m.Extra, q.addressRecord(q.zone.server, here))
		}
	default:
		return q.nodata()
	}
	return m
}

// nameServer answers for ns.i.ZONE with the address that the client has reached us at.
func (q *query) nameServer() *dns.Msg {
	here := localAddress(q.w)
	if !here.IsValid() || !q.holds(here) {
		return q.nodata()
	}
	m := q.reply()
	m.Answer = append(m.Answer, q.addressRecord(q.owner, here))
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
		Hdr: q.header(owner, dns.TypeSOA),
		Ns:  q.zone.server, Mbox: q.zone.mailbox,
		Serial:  uint32(q.mesh.Catalog.Revision()),
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: q.ttl,
	}
}

func (q *query) nxdomain() *dns.Msg {
	m := q.reply()
	m.Rcode = dns.RcodeNameError
	m.Ns = []dns.RR{q.soa()}
	return m
}

// nodata answers that the name exists, and holds nothing of that type. To a question for everything it says, like the any
// plugin, that nobody should ask so (RFC 8482).
func (q *query) nodata() *dns.Msg {
	m := q.reply()
	if q.qtype == dns.TypeANY {
		m.Answer = append(m.Answer, &dns.HINFO{Hdr: q.header(q.owner, dns.TypeHINFO), Cpu: "RFC8482"})
		return m
	}
	m.Ns = []dns.RR{q.soa()}
	return m
}

func (q *query) refused() *dns.Msg {
	m := q.reply()
	m.Rcode, m.Authoritative = dns.RcodeRefused, false
	return m
}

// notReady answers while there was no configuration yet, or none of the service: whether the name exists isn't known.
func (q *query) notReady() *dns.Msg {
	m := q.reply()
	m.Rcode, m.Authoritative = dns.RcodeServerFailure, false
	q.explain(m, dns.ExtendedErrorCodeNotReady, "no configuration has come from etcd yet")
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
func (q *query) explainStale(m *dns.Msg) {
	code := dns.ExtendedErrorCodeStaleAnswer
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError:
		code = dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	default:
		return
	}
	q.explain(m, code, "from the snapshot, etcd has not been heard since the start")
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
