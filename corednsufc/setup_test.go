package corednsufc

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/coredns/caddy"
)

func TestParse(t *testing.T) {
	c := controller("ufc.internal:1053 dns://bj.ufc.internal", `
		etcd http://127.0.0.1:2379 http://127.0.0.1:22379
		prefix /mesh/v1
		credentials root secret
		idc bj-a
		client_idc 10.0.0.0/8 bj-a
		client_idc 10.1.0.0/16 bj-b
		client_idc 2001:db8::/32 gz-a
		agent_id dns-1
		host host-1
		snapshot ./dns.snapshot
		follow redis-main mysql
		protect 12.5%
		callback 127.0.0.1:8889
		token hush
		ttl 5
		answers 3
		fused nxdomain
		fallthrough bj.ufc.internal
	`)
	got, err := parse(c)
	if err != nil {
		t.Fatal(err)
	}
	s := got.mesh.Store
	for what, pair := range map[string][2]any{
		"zones":       {[]string{got.zones[0].name, got.zones[1].name}, []string{"ufc.internal.", "bj.ufc.internal."}},
		"etcd":        {s.Endpoints, []string{"http://127.0.0.1:2379", "http://127.0.0.1:22379"}},
		"prefix":      {s.Prefix, "/mesh/v1"},
		"credentials": {s.Username + ":" + s.Password, "root:secret"},
		"snapshot":    {s.Snapshot, "./dns.snapshot"},
		"idc":         {got.mesh.IDC, "bj-a"},
		"agent_id":    {got.mesh.AgentID, "dns-1"},
		"host":        {got.mesh.Host, "host-1"},
		"follow":      {got.mesh.Follow, []string{"redis-main", "mysql"}},
		"protect":     {got.mesh.Protect, 0.125},
		"callback":    {got.callback, "127.0.0.1:8889"},
		"token":       {got.token, "hush"},
		"ttl":         {got.ttl, uint32(5)},
		"answers":     {got.answers, 3},
		"fused":       {got.fused, "nxdomain"},
		"fallthrough": {got.fall.Zones, []string{"bj.ufc.internal."}},
		"longest":     {got.clientIDC[0].network.String(), "2001:db8::/32"},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
	for client, want := range map[string]string{
		"10.1.2.3": "bj-b", "10.2.2.3": "bj-a", "192.0.2.1": "", "2001:db8::1": "gz-a", "::1": "",
	} {
		if idc := got.idcOf(host(client)); idc != want {
			t.Errorf("client %s: got IDC %q, want %q", client, idc, want)
		}
	}
	if idle := got.mesh.NotInForce(); !reflect.DeepEqual(idle, []string{"follow redis-main mysql"}) {
		t.Errorf("not in force: %q", idle)
	}
}

func TestParseDefaults(t *testing.T) {
	c := caddy.NewTestController("dns", "ufc")
	c.ServerBlockKeys = []string{"ufc.internal"}
	got, err := parse(c)
	if err != nil {
		t.Fatal(err)
	}
	s := got.mesh.Store
	if !reflect.DeepEqual(s.Endpoints, []string{"http://127.0.0.1:2379"}) || s.Prefix != "/ufc/v1" || got.ttl != 0 ||
		got.answers != 1 || got.fused != "refused" || got.callback != "" || got.fall.Through("x.") || got.mesh.NotInForce() != nil {
		t.Errorf("defaults: %+v", got)
	}
}

func TestParseForms(t *testing.T) {
	for _, lines := range []string{
		"etcd https://[::1]:2379",
		"etcd https://etcd.example.test:2379\n tls ca.pem",
		"etcd https://etcd.example.test:2379\n tls cert.pem key.pem",
		"etcd https://etcd.example.test:2379\n tls cert.pem key.pem ca.pem",
		"follow all", "follow used", "follow redis",
		"protect 0%", "protect 100%",
		"callback :8889", "callback [::1]:8889", "callback localhost:1",
		`token ""`, "callback_by id", "callback_by backend",
		"ttl 0", "ttl 3600", "answers 1", "answers 16",
		"fused refused", "fused nxdomain", "fused answer",
		"fallthrough", "fallthrough a.internal b.internal",
		"client_idc 10.1.2.3/32 bj-a\n client_idc ::/0 gz-a",
		"idc i",
	} {
		if _, err := parse(controller("ufc.internal", lines)); err != nil {
			t.Errorf("%s: %v", lines, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	// line is where the message must point to: the lines begin on line 2.
	f := func(lines string, line string, parts ...string) {
		t.Helper()
		_, err := parse(controller("ufc.internal", lines))
		if err == nil {
			t.Errorf("%s: is accepted", lines)
			return
		}
		for _, part := range append(parts, "Testfile:"+line+" ") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q doesn't tell %q", lines, err, part)
			}
		}
	}
	f("etc http://127.0.0.1:2379", "2", `unknown option "etc"`, "etcd, fallthrough")
	f("ttl 5\nttl 6", "3", "ttl", "twice", "line 2")
	f("etcd", "2", "etcd", "ENDPOINT...")
	f("etcd 127.0.0.1:2379", "2", "127.0.0.1:2379", "http://HOST:PORT")
	f("etcd http://127.0.0.1:70000", "2", "70000", "between 1 and 65535")
	f("etcd http://a:1 https://b:1", "2", "can't be mixed")
	f("etcd embedded ./data", "2", "embedded", "Caddy")
	f("prefix ufc", "2", `"ufc"`, "slash")
	f("prefix /ufc/", "2", `"/ufc/"`, "slash")
	f(`prefix ""`, "2", "empty")
	f("prefix /a /b", "2", "prefix", "2 arguments")
	f("credentials root", "2", "USER PASSWORD")
	f("credentials root secret more", "2", "3 arguments")
	f(`credentials "" secret`, "2", "empty")
	f(`credentials root ""`, "2", "password")
	f("tls a b c d", "2", "tls")
	f(`tls ""`, "2", "empty")
	f("tls ca.pem", "1", "https")
	f("idc BJ", "2", `"BJ"`, "lower-case")
	f("client_idc 10.1.0.0/16", "2", "CIDR IDC")
	f("client_idc 10.1.0.0 bj-a", "2", `"10.1.0.0"`, "network")
	f("client_idc 10.1.2.3/16 bj-a", "2", "10.1.0.0/16")
	f("client_idc 10.1.0.0/16 bj-a\nclient_idc 10.1.0.0/16 bj-b", "3", "10.1.0.0/16", "bj-a")
	f("client_idc 10.1.0.0/16 B", "2", `"B"`)
	f(`agent_id ""`, "2", "empty")
	f(`host ""`, "2", "empty")
	f(`snapshot ""`, "2", "empty")
	f("snapshot a b", "2", "FILE")
	f("follow all redis", "2", `"all" must stand alone`)
	f("follow redis redis", "2", `"redis"`, "twice")
	f("follow Redis", "2", `"Redis"`)
	f("protect 50", "2", `"50"`, "0% to 100%")
	f("protect 101%", "2", `"101%"`)
	f("protect -1%", "2", `"-1%"`)
	f("protect NaN%", "2", `"NaN%"`)
	f("callback 8889", "2", `"8889"`, "HOST:PORT")
	f("callback 127.0.0.1:0", "2", `"0"`, "1 and 65535")
	f("callback 127.0.0.1:65536", "2", `"65536"`)
	f("callback here:8889", "2", `"here"`, "IP address")
	f("token", "2", "TOKEN")
	f("callback_by address", "2", `"address"`, "backend or id")
	f("callback_by", "2", "backend|id")
	f("ttl -1", "2", `"-1"`, "0 and 3600")
	f("ttl 3601", "2", `"3601"`)
	f("ttl 5s", "2", `"5s"`)
	f("answers 0", "2", `"0"`, "1 and 16")
	f("answers 17", "2", `"17"`)
	f("fused maybe", "2", `"maybe"`, "nxdomain")
	f("fallthrough internal 10.0.0.0/8 a..b", "2", `"a..b"`)
	f("ttl 5 {\n x\n}", "3", "unknown option")
}

func TestParseRefusesArgumentsAndSeconds(t *testing.T) {
	for corefile, part := range map[string]string{
		"ufc ufc.internal":             `Testfile:1 `,
		"ufc ufc.internal {\n ttl 1 }": `"ufc.internal"`,
		"ufc\nufc":                     "Testfile:2 ",
		"ufc {\n ttl 1\n}\nufc":        "only one",
	} {
		_, err := parse(caddy.NewTestController("dns", corefile))
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: got error %v, want one with %q", corefile, err, part)
		}
	}
}

// Errors end up in logs that more people read than the Corefile.
func TestParseKeepsSecrets(t *testing.T) {
	for _, lines := range []string{
		"credentials root hunter2 more", "token hunter2 more", "credentials hunter2", "token hunter2\ntoken hunter2",
		"etcd http://root:hunter2@127.0.0.1:2379",
	} {
		_, err := parse(controller("ufc.internal", lines))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", lines, err)
		}
	}
}

func TestSetupTakesNothing(t *testing.T) {
	c := controller("ufc.internal", "callback "+freeAddress(t))
	if err := setup(c); err != nil {
		t.Fatal(err)
	}
	if len(callbacks.listeners) != 0 || len(exported.agents) != 0 || len(started.generations) != 0 {
		t.Errorf("setup holds %v, %v, %v", callbacks.listeners, exported.agents, started.generations)
	}
}

func TestSetupBlocksMustAgree(t *testing.T) {
	f := func(first, second, want string) {
		t.Helper()
		c := controller("a.internal", first)
		if err := setup(c); err != nil {
			t.Fatal(err)
		}
		next := controller("b.internal", second)
		next.Set(generationKey{}, generationOf(c)) // of the same Corefile
		err := setup(next)
		if want == "" && err != nil {
			t.Errorf("%s and %s: %v", first, second, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:1")) {
			t.Errorf("%s and %s: got error %v, want one with %q", first, second, err, want)
		}
	}
	f("idc a\nttl 1", "idc a\nttl 2\nanswers 3", "")
	f("callback 127.0.0.1:1", "callback 127.0.0.1:1", "")
	f("callback 127.0.0.1:1\ntoken a", "callback 127.0.0.1:2\ntoken b", "")
	f("idc a", "prefix /other\nidc b", "")
	f("idc a", "idc b\nprotect 1%", "differ in idc, protect")
	f("snapshot a", "snapshot b", "snapshot")
	f("callback 127.0.0.1:1", "prefix /other\ncallback 127.0.0.1:1", "another mesh")
	f("callback 127.0.0.1:1\ntoken a", "callback 127.0.0.1:1\ntoken b", "another token")
	f("callback 127.0.0.1:1\ncallback_by id", "callback 127.0.0.1:1", "another callback_by")
	f("callback 127.0.0.1:1\ncallback_by backend", "callback 127.0.0.1:1", "")
}

// host is the subnet of one address.
func host(address string) netip.Prefix {
	parsed := netip.MustParseAddr(address)
	return netip.PrefixFrom(parsed, parsed.BitLen())
}
