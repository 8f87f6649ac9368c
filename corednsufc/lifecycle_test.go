package corednsufc

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/whoami"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/model"
)

// snapshot writes a snapshot of the demo mesh, and returns its file.
func snapshot(t *testing.T, prefix string) string {
	t.Helper()
	lines := fmt.Sprintf("ufc-snapshot 1 {\"prefix\":%q,\"revision\":7,\"written\":\"2026-01-02T15:04:05Z\"}\n", prefix)
	records := 0
	for _, record := range demo() {
		if record.Kind == model.KindInstances {
			lines += fmt.Sprintf("instances/%s/%s 1 %s\n", record.Name, record.Address, record.Instance.JSON())
			records++
		}
	}
	file := filepath.Join(t.TempDir(), "dns.snapshot")
	lines += fmt.Sprintf("end %d %x\n", records, sha256.Sum256([]byte(lines)))
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// corefile writes Corefiles of one mesh, whose etcd is down.
type corefile struct {
	address  string // of the DNS
	callback string
	mesh     string // options of the mesh
}

func newCorefile(t *testing.T) corefile {
	t.Helper()
	prefix := "/" + t.Name()
	return corefile{
		address: freeAddress(t), callback: freeAddress(t),
		mesh: fmt.Sprintf("etcd http://%s\nprefix %s\nsnapshot %s\n", freeAddress(t), prefix, snapshot(t, prefix)),
	}
}

// block writes a server block.
func (c corefile) block(zone, lines string) string {
	_, port, _ := net.SplitHostPort(c.address)
	return fmt.Sprintf("%s:%s {\nbind 127.0.0.1\nufc {\n%s%s\n}\n}\n", zone, port, c.mesh, lines)
}

func (c corefile) withCallback(zone, token string) string {
	return c.block(zone, "callback "+c.callback+"\ntoken "+token)
}

func input(body string) caddy.Input {
	return caddy.CaddyfileInput{Contents: []byte(body), Filepath: "Corefile", ServerTypeName: "dns"}
}

// server is a CoreDNS that the test stops.
type server struct {
	t        *testing.T
	address  string
	instance *caddy.Instance
}

func startServer(t *testing.T, c corefile, body string) *server {
	t.Helper()
	instance, err := caddy.Start(input(body))
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t, c.address, instance}
	s.awaitServing()
	t.Cleanup(func() {
		if errs := s.instance.ShutdownCallbacks(); errs != nil {
			t.Errorf("shutdown: %v", errs)
		}
		s.instance.Stop()
		expectNothingHeld(t)
	})
	return s
}

func (s *server) reload(body string) error {
	next, err := s.instance.Restart(input(body))
	s.instance = next
	s.awaitServing()
	return err
}

// awaitServing waits until the servers run: CoreDNS starts them in the background, and can't stop one that doesn't run yet.
func (s *server) awaitServing() {
	s.t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network}
		if _, _, err := client.ExchangeContext(s.t.Context(), question("example.org.", dns.TypeA), s.address); err != nil {
			s.t.Fatal(err)
		}
	}
}

// block returns the plugin in the first server block.
func (s *server) block() *UFC {
	return s.instance.Storage[generationKey{}].(*generation).members[0]
}

func expectNothingHeld(t *testing.T) {
	t.Helper()
	if len(callbacks.listeners) != 0 || len(exported.agents) != 0 {
		t.Errorf("still held: listeners %v, metrics %v", callbacks.listeners, exported.agents)
	}
}

func exchange(t *testing.T, address string, r *dns.Msg) *dns.Msg {
	t.Helper()
	answer, err := dns.Exchange(r, address)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// queryCode returns the status of a debug query to the callback listener: 403 if the token is wrong, 0 if nobody listens.
func (c corefile) queryCode(t *testing.T, token string) int {
	t.Helper()
	code, _ := get(t, "http://"+c.callback+"/bypass?command=query&ar=sync_info", "token", token)
	return code
}

func TestServerFromSnapshot(t *testing.T) {
	c := newCorefile(t)
	s := startServer(t, c, c.block("ufc.internal", ""))
	answer := exchange(t, c.address, question("redis.ufc.internal.", dns.TypeA).SetEdns0(1232, false))
	if len(answer.Answer) != 1 || extendedError(answer) != dns.ExtendedErrorCodeStaleAnswer {
		t.Errorf("got %v, want an answer marked as stale", answer)
	}
	answer = exchange(t, c.address, question("none.ufc.internal.", dns.TypeA).SetEdns0(1232, false))
	if answer.Rcode != dns.RcodeNameError || extendedError(answer) != dns.ExtendedErrorCodeStaleNXDOMAINAnswer {
		t.Errorf("got %v, want an NXDOMAIN marked as stale", answer)
	}
	answer = exchange(t, c.address, question("_debug.redis.ufc.internal.", dns.TypeTXT))
	if len(answer.Answer) != 2 || len(answer.Extra) != 0 {
		t.Errorf("without EDNS: %v", answer)
	}
	var readiness ready.Readiness = s.block()
	if !readiness.Ready() {
		t.Error("isn't ready, with a snapshot")
	}
}

func TestReloadKeepsState(t *testing.T) {
	c := newCorefile(t)
	s := startServer(t, c, c.withCallback("ufc.internal", "one"))
	before := s.block()
	ban(t, before, "redis", "10.0.0.1:6379")
	if err := s.reload(c.withCallback("ufc.internal", "two")); err != nil {
		t.Fatal(err)
	}
	after := s.block()
	if after == before || after.mesh.Load().Agent != before.mesh.Load().Agent {
		t.Error("the reload made another mesh")
	}
	if !bannedOf(after.mesh.Load().Agent, "redis")["10.0.0.1:6379"] {
		t.Error("the ban is lost")
	}
	if old, now := c.queryCode(t, "one"), c.queryCode(t, "two"); old != 403 || now != 200 {
		t.Errorf("the old token gets %d, the new one %d", old, now)
	}
	if answer := exchange(t, c.address, question("redis.ufc.internal.", dns.TypeA)); len(answer.Answer) != 1 {
		t.Errorf("after the reload: %v", answer)
	}
	if err := s.reload(c.block("ufc.internal", "")); err != nil {
		t.Fatal(err)
	}
	if code := c.queryCode(t, "two"); code != 0 {
		t.Errorf("the callback listener, taken out of the Corefile, answers %d", code)
	}
}

// A reload that fails, in whatever step, leaves the old configuration as it was, and nothing of the new one.
func TestReloadFails(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.Addr().String()
	_, takenPort, _ := net.SplitHostPort(taken)

	c := newCorefile(t)
	s := startServer(t, c, c.withCallback("ufc.internal", "one"))
	mesh := s.block().mesh.Load()
	elsewhere := c
	elsewhere.mesh = "etcd http://127.0.0.1:1\nprefix /elsewhere\n"
	f := func(name, body, message string) {
		t.Helper()
		err := s.reload(body)
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: got error %v, want one with %q", name, err, message)
		}
		if old, failed := c.queryCode(t, "one"), c.queryCode(t, "two"); old != 200 || failed != 403 {
			t.Errorf("%s: the old token gets %d, the failed one %d", name, old, failed)
		}
		if got := mesh.Agent.IDC(); got != "" {
			t.Errorf("%s: the IDC is %q", name, got)
		}
		if answer := exchange(t, c.address, question("redis.ufc.internal.", dns.TypeA)); len(answer.Answer) != 1 {
			t.Errorf("%s: %v", name, answer)
		}
		if len(callbacks.listeners) != 1 || callbacks.listeners[c.callback].users != 1 || len(exported.agents) != 1 || exported.agents[0].users != 1 {
			t.Errorf("%s: the failed configuration still holds something", name)
		}
	}
	f("a mistake", c.block("ufc.internal", "ttl x"), `"x" is not a number`)
	f("callback address taken", c.block("ufc.internal", "callback "+taken), taken)
	f("taken in the second block", c.block("ufc.internal", "")+c.block("b.internal", "callback "+taken), taken)
	// The servers' own sockets come last, when all has been started.
	late := "c.internal:" + takenPort + " {\nbind 127.0.0.1\nwhoami\n}\n"
	f("DNS address taken", c.block("ufc.internal", "idc new\ncallback "+c.callback+"\ntoken two")+late, "address already in use")
	f("another mesh, DNS address taken", elsewhere.withCallback("ufc.internal", "two")+late, "address already in use")
}

func TestReloadToAnotherMesh(t *testing.T) {
	c := newCorefile(t)
	s := startServer(t, c, c.withCallback("ufc.internal", "one"))
	before := s.block().mesh.Load()
	next := c
	next.mesh = "etcd http://127.0.0.1:1\nprefix /elsewhere\n"
	if err := s.reload(next.withCallback("ufc.internal", "one")); err != nil {
		t.Fatal(err)
	}
	if s.block().mesh.Load().Agent == before.Agent {
		t.Error("the mesh is the old one")
	}
	if len(exported.agents) != 1 || exported.agents[0].agent != s.block().mesh.Load().Metrics() {
		t.Error("the metrics aren't those of the new mesh")
	}
	if answer := exchange(t, c.address, question("redis.ufc.internal.", dns.TypeA)); answer.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v, want SERVFAIL: the new mesh has no configuration", answer)
	}
}

func TestStartFails(t *testing.T) {
	c := newCorefile(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	body := c.withCallback("ufc.internal", "one") + c.block("b.internal", "callback "+other.Addr().String())
	if _, err := caddy.Start(input(body)); err == nil || !strings.Contains(err.Error(), "Corefile:") {
		t.Errorf("got error %v, want one that names the block", err)
	}
	expectNothingHeld(t)
}

func TestSeveralServerBlocks(t *testing.T) {
	c := newCorefile(t)
	s := startServer(t, c, c.withCallback("ufc.internal", "one")+c.withCallback("b.internal", "one")+c.block("c.internal", "ttl 9"))
	for zone, ttl := range map[string]uint32{"ufc.internal.": 0, "b.internal.": 0, "c.internal.": 9} {
		answer := exchange(t, c.address, question("redis."+zone, dns.TypeA))
		if len(answer.Answer) != 1 || answer.Answer[0].Header().Ttl != ttl {
			t.Errorf("%s: %v", zone, answer)
		}
	}
	if names := gathered(t); !slices.Contains(names, "ufc_services") || !slices.Contains(names, "ufc_config_revision") {
		t.Errorf("metrics: %v", names)
	}
	if err := s.reload(c.withCallback("b.internal", "one")); err != nil {
		t.Fatal(err)
	}
	if code := c.queryCode(t, "one"); code != 200 {
		t.Errorf("the callback listener that one block still has answers %d", code)
	}
}

// gathered returns the names of UFC's metrics, as CoreDNS exports them.
func gathered(t *testing.T) []string {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "ufc_") {
			names = append(names, family.GetName())
		}
	}
	return names
}

func TestMetricsEnd(t *testing.T) {
	t.Run("server", func(t *testing.T) {
		c := newCorefile(t)
		startServer(t, c, c.block("ufc.internal", ""))
		if len(gathered(t)) == 0 {
			t.Error("no metrics while the server runs")
		}
	})
	if names := gathered(t); len(names) > 0 {
		t.Errorf("after the end there are still %v", names)
	}
}

func TestWarnsOfWhatHasNoUse(t *testing.T) {
	buffer := capture(t)
	c := newCorefile(t)
	startServer(t, c, c.block("ufc.internal", "client_idc 10.0.0.0/8 bj-a\nprotect 50%\nfused answer\nfollow used\ntoken x"))
	for _, want := range []string{"Corefile:3: the token has no use"} {
		if !strings.Contains(buffer.String(), want) {
			t.Errorf("the log doesn't tell %q: %s", want, buffer)
		}
	}
	if strings.Contains(buffer.String(), "metrics of this mesh") {
		t.Errorf("warns of a second mesh: %s", buffer)
	}
}

func TestSecondMeshIsNotExported(t *testing.T) {
	buffer := capture(t)
	c := newCorefile(t)
	other := c
	other.mesh = "etcd http://127.0.0.1:1\nprefix /elsewhere\n"
	startServer(t, c, c.block("ufc.internal", "")+other.block("b.internal", ""))
	if !strings.Contains(buffer.String(), "metrics of this mesh are not exported") {
		t.Errorf("the log doesn't tell that the second mesh has no metrics: %s", buffer)
	}
	gathered(t) // fails if both told theirs, which have the same names
}

// What programs report decides what the DNS hands out.
func TestCallbackBans(t *testing.T) {
	c := newCorefile(t)
	startServer(t, c, c.withCallback("ufc.internal", "hush"))
	ports := func() map[string]int {
		seen := map[string]int{}
		for range 6 {
			answer := exchange(t, c.address, question("both.ufc.internal.", dns.TypeSRV))
			seen[answer.Answer[0].(*dns.SRV).Target]++
		}
		return seen
	}
	if seen := ports(); len(seen) != 2 {
		t.Fatalf("before: %v, want both instances", seen)
	}
	report := strings.Repeat(`{"service":"both","backend":"10.0.0.2:80","from":"web","result":"reset"},`, 10)
	response, err := http.Post("http://"+c.callback+"/bypass?command=callback", "application/json", strings.NewReader("["+strings.TrimSuffix(report, ",")+"]"))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if response.StatusCode != http.StatusNoContent {
		t.Fatalf("callback: %s", response.Status)
	}
	if seen := ports(); seen["0a000002-80.i.both.ufc.internal."] > 0 || len(seen) != 1 {
		t.Errorf("after: %v, want the other instance alone", seen)
	}
}
