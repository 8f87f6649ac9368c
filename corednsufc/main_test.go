package corednsufc

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestMain(m *testing.M) {
	dnsserver.Directives = []string{"bind", "errors", "ready", "prometheus", "reload", "wrapper", "nameless", pluginName, "cache", "file", "whoami"}
	caddy.Quiet, dnsserver.Quiet = true, true
	goleak.VerifyTestMain(m)
}

// controller reads a Corefile's server block of the given zones, with these lines in its ufc block.
func controller(zones, lines string) *caddy.Controller {
	c := caddy.NewTestController("dns", "ufc {\n"+lines+"\n}")
	c.ServerBlockKeys = strings.Fields(zones)
	return c
}

// attach returns a plugin whose mesh holds the records, without an etcd: it is never started.
func attach(t testing.TB, zones, lines string, records ...model.Record) *UFC {
	t.Helper()
	cfg, err := parse(controller(zones, lines))
	if err != nil {
		t.Fatal(err)
	}
	cfg.mesh.Store.Prefix = "/" + strings.ReplaceAll(t.Name(), "#", "_") // a mesh of its own
	m, err := mesh.Acquire(cfg.mesh)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Release)
	if records != nil {
		m.Catalog.Replace(7, records)
	}
	u := &UFC{config: cfg, Next: test.NextHandler(dns.RcodeBadKey, nil)} // a code that tells who answered
	u.mesh.Store(m)
	return u
}

// document is a Service document.
func document(name string) model.Record {
	return model.Record{Kind: model.KindService, Name: name, Revision: 1, Service: model.DefaultService(name)}
}

// listed are the instances of a service. A word after an address is its state.
func listed(service string, addresses ...string) []model.Record {
	var records []model.Record
	for _, text := range addresses {
		address, state, _ := strings.Cut(text, " ")
		one := model.DefaultInstance()
		one.Address = netip.MustParseAddrPort(address)
		if state != "" {
			one.State = model.State(state)
		}
		records = append(records, model.Record{
			Kind: model.KindInstances, Name: service, Address: address, Revision: 1, Instance: &one,
		})
	}
	return records
}

// ask asks from an address, "" for any, by UDP, through what CoreDNS's server puts before plugins.
func ask(t testing.TB, u *UFC, from string, question *dns.Msg) (*dns.Msg, int) {
	t.Helper()
	recorder := newRecorder(from)
	code, err := u.ServeDNS(t.Context(), scrub(question, recorder), question)
	if err != nil {
		t.Fatal(err)
	}
	recorder.unpack(t)
	if recorder.Msg != nil {
		if _, err := recorder.Msg.Pack(); err != nil {
			t.Fatalf("%v: the answer can't be packed: %v", question.Question, err)
		}
	}
	return recorder.Msg, code
}

// recorder keeps what is written.
type recorder struct {
	*dnstest.Recorder
	packed []byte // nil: a message was written
}

func newRecorder(from string) *recorder {
	return &recorder{Recorder: dnstest.NewRecorder(&test.ResponseWriter{RemoteIP: from})}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.packed = slices.Clone(b) // its buffer is used again
	return len(b), nil
}

// unpack makes a message of what was written packed.
func (r *recorder) unpack(t testing.TB) {
	t.Helper()
	if r.packed == nil {
		return
	}
	r.Msg = new(dns.Msg)
	if err := r.Msg.Unpack(r.packed); err != nil {
		t.Fatalf("%x: %v", r.packed, err)
	}
}

// bothWays runs a test with answers that are written as messages, and with answers that are packed where they can be.
func bothWays(t *testing.T, u *UFC, test func(t *testing.T)) {
	t.Helper()
	for _, raw := range []bool{false, true} {
		u.canWriteRaw.Store(raw)
		t.Run(fmt.Sprintf("raw=%t", raw), test)
	}
}

func question(qname string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(qname, qtype)
}

// freeAddress returns an address on the loopback that nobody listens at.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return fmt.Sprint(listener.Addr())
}
