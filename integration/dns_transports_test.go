package integration

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// otherBlocks adds server blocks to the Corefile: one whose zone has several labels, and the first zone once more over TLS and
// over HTTPS. All of them are of one mesh.
func (m *mesh) otherBlocks(several, dot, doh int) edit {
	authority := newAuthority(m.t, "dns")
	cert, key := authority.issue("dns", []string{"localhost"}, net.IPv4(127, 0, 0, 1))
	return func(corefile string) string {
		at := strings.Index(corefile, "    ufc {")
		ufc := corefile[at : strings.Index(corefile[at:], "\n    }\n")+at+len("\n    }\n")]
		block := func(address, lines string) string {
			return fmt.Sprintf("%s {\n    bind 127.0.0.1\n%s%s}\n", address, lines, ufc)
		}
		tls := fmt.Sprintf("    tls %s %s\n", cert, key)
		return corefile + block(fmt.Sprintf("svc.bj.mesh.example.org:%d", several), "    errors\n") +
			block(fmt.Sprintf("tls://%s:%d", zone, dot), tls) + block(fmt.Sprintf("https://%s:%d", zone, doh), tls)
	}
}

// TestDNSTransports: over UDP, TCP, TLS and HTTPS, in several blocks and zones, what is answered is the same.
func TestDNSTransports(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.startCaddy()
	ports := []int{freePort(t), freePort(t), freePort(t)}
	m.startCoreDNS(m.otherBlocks(ports[0], ports[1], ports[2]))
	for _, port := range ports {
		m.untilUp(m.coredns, port)
	}
	m.apply(documents("redis-main", "protocol: tcp", "127.0.0.2:6379"))
	eventually(t, 5*time.Second, func() error { _, err := m.lookup("redis-main"); return err })

	f := func(zone string, port int, options ...string) {
		t.Helper()
		ask := func(arguments ...string) dug {
			return m.dig(slices.Concat([]string{"-p", fmt.Sprint(port)}, options, arguments)...)
		}
		name := "redis-main." + zone
		if d := ask(name, "A"); d.status != "NOERROR" || !slices.Equal(d.answers, []string{"127.0.0.2"}) {
			t.Errorf("%v %s A: %s", options, name, d.text)
		}
		srv := ask("_redis._tcp.web."+name, "SRV")
		if target := "7f000002-6379.i." + name + "."; !slices.Equal(srv.answers, []string{"0 100 6379 " + target}) || !slices.Contains(srv.additional, target+" 0 IN A 127.0.0.2") {
			t.Errorf("%v %s SRV: %s", options, name, srv.text)
		}
		if d := ask(name, "AAAA"); d.status != "NOERROR" || len(d.answers) != 0 || !strings.Contains(d.text, "SOA") {
			t.Errorf("%v %s AAAA: %s", options, name, d.text)
		}
		if d := ask("none."+zone, "A"); d.status != "NXDOMAIN" {
			t.Errorf("%v none: %s", options, d.text)
		}
		if d := ask("_debug."+name, "TXT"); d.status != "NOERROR" || !strings.Contains(d.text, "instances=1") {
			t.Errorf("%v debug: %s", options, d.text)
		}
	}
	f(zone, m.dns)
	f(zone, m.dns, "+tcp")
	f("svc.bj.mesh.example.org", ports[0])
	f(zone, ports[1], "+tls")
	f(zone, ports[2], "+https")
}

// TestDNSDetails: what resolvers, and those who scan for weak servers, ask.
func TestDNSDetails(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.startCaddy()
	m.startCoreDNS(replace(t, "token {$UFC_TOKEN}", "token {$UFC_TOKEN}\n        answers 16\n        client_idc 10.9.0.0/16 gz-a"))
	var many []string
	for n := range 40 {
		many = append(many, fmt.Sprintf("127.0.0.%d:6379", n+2))
	}
	m.apply(documents("many", "protocol: tcp", many...) + "---\n" + documents("v4", "protocol: tcp", "127.0.0.2:6379") +
		"---\nkind: Instances\nservice: placed\ninstances:\n  - {address: '127.0.0.2:80', idc: bj-a}\n  - {address: '127.0.0.3:80', idc: gz-a}\n" +
		"---\nkind: Topology\nidcs: {bj-a: {logical: north}, gz-a: {logical: south}}\n" +
		"routes: {north: [{to: north, weight: 100}], south: [{to: south, weight: 100}]}\n")
	eventually(t, 5*time.Second, func() error { _, err := m.lookup("placed"); return err })

	// The case that the client chose comes back (0x20).
	if d := m.dig("V4.Ufc.iNternal", "A"); !strings.Contains(d.text, "V4.Ufc.iNternal.\t0\tIN\tA\t127.0.0.2") {
		t.Errorf("mixed case: %s", d.text)
	}
	// ANY has one small answer (RFC 8482).
	if d := m.dig("many."+zone, "ANY", "+notcp"); d.status != "NOERROR" || len(d.answers) != 1 || !strings.Contains(d.answers[0], "RFC8482") {
		t.Errorf("ANY: %s", d.text)
	}
	// By UDP no more than was asked for, and TC says so; by TCP all of it.
	if d := m.dig("many."+zone, "SRV", "+noedns", "+ignore"); !strings.Contains(d.text, " tc") || len(d.answers) == 0 || len(d.answers) >= 16 {
		t.Errorf("over 512 octets: %s", d.text)
	}
	if d := m.dig("many."+zone, "SRV", "+noedns"); !strings.Contains(d.text, "(TCP)") || len(d.answers) != 16 || len(d.additional) != 16 {
		t.Errorf("by TCP: %s", d.text)
	}
	if d := m.dig("many."+zone, "A", "+bufsize=1232"); strings.Contains(d.text, " tc") || len(d.answers) != 16 {
		t.Errorf("1232 octets: %s", d.text)
	}
	// EDNS of a version that isn't there yet (RFC 6891).
	if d := m.dig("v4."+zone, "A", "+edns=1", "+noednsneg"); d.status != "BADVERS" {
		t.Errorf("EDNS 1: %s", d.text)
	}
	if d := m.dig("v4."+zone, "A", "+noedns"); strings.Contains(d.text, "OPT PSEUDOSECTION") || len(d.answers) != 1 {
		t.Errorf("without EDNS: %s", d.text)
	}
	// The client's subnet, where a resolver tells it, decides on the IDC.
	for subnet, want := range map[string]string{"10.9.1.0/24": "127.0.0.3", "10.8.1.0/24": "127.0.0.2"} {
		if d := m.dig("placed."+zone, "A", "+subnet="+subnet); !slices.Equal(d.answers, []string{want}) || !strings.Contains(d.text, "CLIENT-SUBNET: "+subnet+"/24") {
			t.Errorf("subnet %s: %s", subnet, d.text)
		}
	}
	// Zone transfers, updates and other classes aren't for anybody.
	if d := m.dig(zone, "AXFR"); strings.Contains(d.text, "SOA") {
		t.Errorf("AXFR: %s", d.text)
	}
	if d := m.dig("v4."+zone, "A", "+opcode=update"); d.status == "NOERROR" {
		t.Errorf("update: %s", d.text)
	}
	if d := m.dig("-c", "CH", "version.bind", "TXT"); d.status == "NOERROR" && len(d.answers) > 0 {
		t.Errorf("CH: %s", d.text)
	}
}
