package corednsufc

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/ufc-mesh/ufc/shared/model"
)

// withSubnet is an OPT record with a client subnet.
func withSubnet(subnets ...string) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
	for _, subnet := range subnets {
		prefix := netip.MustParsePrefix(subnet)
		option := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(prefix.Bits()), Address: net.IP(prefix.Addr().AsSlice())}
		if prefix.Addr().Is6() {
			option.Family = 2
		}
		opt.Option = append(opt.Option, option)
	}
	return opt
}

func subnetOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if opt := m.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if subnet, ok := option.(*dns.EDNS0_SUBNET); ok {
				return subnet
			}
		}
	}
	return nil
}

// placed are instances of a service, each in an IDC of its own, and the topology that keeps callers in theirs.
func placed(service string, byIDC map[string]string) []model.Record {
	topology := &model.Topology{IDCs: map[string]model.IDC{}, Routes: map[string][]model.IDCWeight{}}
	records := []model.Record{{Kind: model.KindTopology, Revision: 1, Topology: topology}}
	for idc, address := range byIDC {
		topology.IDCs[idc] = model.IDC{Logical: idc}
		topology.Routes[idc] = []model.IDCWeight{{To: idc, Weight: 100}}
		one := listed(service, address)
		one[0].Instance.IDC = idc
		records = append(records, one...)
	}
	return records
}

// The caller's IDC is that of the subnet that the resolver tells, else that of the address that asks, else the agent's own.
func TestIDCOfTheClient(t *testing.T) {
	u := attach(t, "ufc.internal", "idc own\nclient_idc 10.1.0.0/16 east\nclient_idc 10.1.128.0/17 west\nclient_idc 2001:db8::/32 west",
		placed("redis", map[string]string{"own": "10.0.0.1:80", "east": "10.0.0.2:80", "west": "10.0.0.3:80"})...)
	u.canWriteRaw.Store(true)
	f := func(from, subnet, want string, scope uint8) {
		t.Helper()
		r := question("redis.ufc.internal.", dns.TypeA)
		if subnet != "" {
			r.Extra = append(r.Extra, withSubnet(subnet))
		}
		for range 5 {
			m, _ := ask(t, u, from, r.Copy())
			if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != want {
				t.Fatalf("from %s of %s: %v, want %s", from, subnet, m, want)
			}
			told := subnetOf(m)
			if (told != nil) != (subnet != "") {
				t.Fatalf("from %s of %s: answered with %v", from, subnet, told)
			}
			if prefix, _ := netip.ParsePrefix(subnet); told != nil && (told.SourceScope != scope || int(told.SourceNetmask) != prefix.Bits() || told.Address.String() != prefix.Addr().String()) {
				t.Errorf("from %s of %s: answered with %v", from, subnet, told)
			}
		}
	}
	f("192.0.2.1", "", "10.0.0.1", 0)
	f("10.1.2.3", "", "10.0.0.2", 0)
	f("10.1.200.3", "", "10.0.0.3", 0)
	f("2001:db8::9", "", "10.0.0.3", 0)
	f("192.0.2.1", "10.1.2.0/24", "10.0.0.2", 24)
	f("192.0.2.1", "10.1.2.3/32", "10.0.0.2", 32)
	f("10.1.2.3", "10.1.200.0/24", "10.0.0.3", 24)
	f("10.1.2.3", "2001:db8:1::/48", "10.0.0.3", 48)
	f("10.1.2.3", "203.0.113.0/24", "10.0.0.2", 24) // says nothing
	f("192.0.2.1", "10.0.0.0/8", "10.0.0.1", 8)     // not all of it is in one
	f("10.1.2.3", "0.0.0.0/0", "10.0.0.2", 0)       // the client doesn't want to be known
}

// Without client_idc an answer doesn't depend on who asks, unless the policy hashes; then resolvers must tell clients apart.
func TestSubnetScope(t *testing.T) {
	hashed := document("hashed")
	hashed.Service.Balance.Policy = model.ConsistentHash
	var addresses []string
	for _, last := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
		addresses = append(addresses, "10.0.0."+last+":80")
	}
	u := attach(t, "ufc.internal", "", slices.Concat(listed("plain", addresses...), listed("hashed", addresses...), []model.Record{hashed})...)
	asked := func(name, subnet string) (string, *dns.EDNS0_SUBNET) {
		t.Helper()
		r := question(name+".ufc.internal.", dns.TypeA)
		r.Extra = append(r.Extra, withSubnet(subnet))
		m, _ := ask(t, u, "192.0.2.1", r)
		answer := ""
		if len(m.Answer) > 0 {
			answer = m.Answer[0].(*dns.A).A.String()
		}
		return answer, subnetOf(m)
	}
	for name, want := range map[string]uint8{"plain": 0, "none": 0, "hashed": 24} {
		if _, told := asked(name, "198.51.100.0/24"); told == nil || told.SourceScope != want {
			t.Errorf("%s: %v", name, told)
		}
	}
	seen := map[string]bool{}
	for _, subnet := range []string{"198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24", "198.51.103.0/24", "198.51.104.0/24", "198.51.105.0/24"} {
		first, _ := asked("hashed", subnet)
		seen[first] = true
		for range 5 {
			if again, _ := asked("hashed", subnet); again != first {
				t.Errorf("%s: %s and %s", subnet, first, again)
			}
		}
	}
	if len(seen) < 2 {
		t.Error("all subnets get one instance: it goes by the resolver's address")
	}
}

func TestMalformedSubnets(t *testing.T) {
	u := attach(t, "ufc.internal", "", demo()...)
	f := func(change func(*dns.OPT)) {
		t.Helper()
		r := question("redis.ufc.internal.", dns.TypeA)
		opt := withSubnet("10.1.2.0/24")
		change(opt)
		r.Extra = append(r.Extra, opt)
		if m, code := ask(t, u, "", r); code != dns.RcodeFormatError || m != nil {
			t.Errorf("%v: %d %v", opt, code, m)
		}
	}
	f(func(o *dns.OPT) { o.Option[0].(*dns.EDNS0_SUBNET).SourceScope = 8 })
	f(func(o *dns.OPT) { o.Option[0].(*dns.EDNS0_SUBNET).Address = net.IPv4(10, 1, 2, 3) })
	f(func(o *dns.OPT) { o.Option = append(o.Option, withSubnet("10.0.0.0/8").Option...) })
	f(func(o *dns.OPT) { o.Option[0].(*dns.EDNS0_SUBNET).SourceNetmask = 40 })
}

// Who is on this machine is told by the address alone.
func TestDebugIsForLoopbackWhateverTheSubnet(t *testing.T) {
	u := attach(t, "ufc.internal", "", demo()...)
	r := question("_debug.redis.ufc.internal.", dns.TypeTXT)
	r.Extra = append(r.Extra, withSubnet("127.0.0.1/32"))
	if m, _ := ask(t, u, "10.0.0.9", r); m.Rcode != dns.RcodeRefused {
		t.Errorf("got %v", m)
	}
	if m, _ := ask(t, u, "127.0.0.1", r); m.Rcode != dns.RcodeSuccess || len(m.Answer) < 2 {
		t.Errorf("got %v", m)
	}
}

// A client subnet of no family, as of dig +subnet=0, tells nothing, and is answered so.
func TestSubnetOfNoFamily(t *testing.T) {
	u := attach(t, "ufc.internal", "idc own", placed("redis", map[string]string{"own": "10.0.0.1:80"})...)
	r := question("redis.ufc.internal.", dns.TypeA)
	r.Extra = []dns.RR{&dns.OPT{
		Hdr:    dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232},
		Option: []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Address: net.IPv4zero.To16()}},
	}}
	m, _ := ask(t, u, "192.0.2.1", r)
	if subnet := subnetOf(m); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || subnet == nil || subnet.SourceScope != 0 {
		t.Errorf("%v", m)
	}
}
