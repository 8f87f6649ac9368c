package corednsufc

import (
	"net"
	"net/netip"

	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// client is what is known of who asks, besides the address that the question came from.
type client struct {
	// subnet is what a resolver says its own client is in (EDNS client subnet, RFC 7871); invalid if it doesn't. It is no proof of
	// anything, and decides on nothing but the choice of an instance.
	subnet          netip.Prefix
	ecs             *dns.EDNS0_SUBNET // as it was told; nil: it wasn't
	dependsOnClient bool              // the answer depends on who asks
}

// readSubnet reads the subnet option, if there is one. false: it isn't formed as it must be.
func (q *query) readSubnet() bool {
	opt := q.r.IsEdns0()
	if opt == nil {
		return true
	}
	for _, option := range opt.Option {
		told, ok := option.(*dns.EDNS0_SUBNET)
		if !ok {
			continue
		}
		if q.client.ecs != nil || told.SourceScope != 0 {
			return false
		}
		q.client.ecs = told
		address, _ := netip.AddrFromSlice(told.Address)
		if told.Family <= 1 { // 0: nothing is told, as dig +subnet=0 has it
			address = address.Unmap()
		}
		subnet := netip.PrefixFrom(address, int(told.SourceNetmask))
		if subnet != subnet.Masked() { // bits that the resolver didn't mean to tell
			return false
		}
		if told.SourceNetmask > 0 {
			q.client.subnet = subnet
		}
	}
	return true
}

// answerSubnet says in an answer for how many addresses around the client it holds: for those that the resolver has told, since
// a smaller network may be in another IDC; for all, if the answer doesn't depend on it.
func (q *query) answerSubnet(m *dns.Msg) {
	answered := *q.client.ecs
	answered.SourceScope = 0
	if q.client.dependsOnClient {
		answered.SourceScope = answered.SourceNetmask
	}
	addOption(m, &answered)
}

// idcOf returns the physical IDC of who asks: of the subnet that the resolver has told, else of the address that the question
// came from. Empty: client_idc doesn't say, and so it is the agent's own.
func (u *UFC) idcOf(q *query) string {
	if len(u.config.clientIDC) == 0 {
		return ""
	}
	q.client.dependsOnClient = true
	if idc := u.config.idcOf(q.client.subnet); idc != "" {
		return idc
	}
	address := clientAddress(q.w)
	return u.config.idcOf(netip.PrefixFrom(address, address.BitLen()))
}

// idcOf returns the physical IDC of the longest network that a subnet is in; empty if there is none.
func (cfg *config) idcOf(subnet netip.Prefix) string {
	for i := range cfg.clientIDC {
		if network := cfg.clientIDC[i].network; network.Bits() <= subnet.Bits() && network.Contains(subnet.Addr()) {
			return cfg.clientIDC[i].idc
		}
	}
	return ""
}

// asker returns what a hashing policy hashes: the client's address, or what the resolver tells of it.
func (q *query) asker() netip.Addr {
	if q.client.subnet.IsValid() {
		return q.client.subnet.Addr()
	}
	return clientAddress(q.w)
}

// clientAddress returns the address that a question came from, of IPv4 if it can be.
func clientAddress(w dns.ResponseWriter) netip.Addr {
	switch remote := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		return remote.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return remote.AddrPort().Addr().Unmap().WithZone("")
	}
	state := request.Request{W: w} // the PROXY protocol's
	address, _ := netip.ParseAddr(state.IP())
	return address.Unmap().WithZone("")
}
