package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// rig is a real agent and forwarder over a catalog that the test writes, behind a real server.
type rig struct {
	*Proxy
	agent    *agent.Agent
	catalog  *catalog.Catalog
	server   *httptest.Server
	client   *http.Client
	registry *prometheus.Registry
	errors   chan error // of Proxy.ServeHTTP
	cancel   func()     // ends the requests' context, where a test sets it
}

// newRig returns a rig whose callee "shop" has the instances. No probe fails, so that nobody is proven dead.
func newRig(t testing.TB, change func(*model.Service), instances ...string) *rig {
	t.Helper()
	r := &rig{catalog: catalog.New(quiet), registry: prometheus.NewPedanticRegistry(), errors: make(chan error, 16)}
	r.agent = agent.New(r.catalog, agent.Options{IDC: "bj-a", Probe: noProbe})
	t.Cleanup(r.agent.Close)
	r.registry.MustRegister(r.agent)
	service := model.DefaultService("shop")
	service.Ban.Requests, service.Fuse.SuccessBelow = &model.RequestBan{Failures: 64, Of: 64}, 0 // out of the way
	if change != nil {
		change(service)
	}
	records := []model.Record{{Kind: model.KindService, Name: "shop", Service: service}}
	for _, address := range instances {
		instance := model.DefaultInstance()
		instance.Address = netip.MustParseAddrPort(address)
		records = append(records, model.Record{Kind: model.KindInstances, Name: "shop", Address: address, Instance: &instance})
	}
	r.catalog.Replace(1, records)
	r.Proxy = &Proxy{Forwarder: New(r.agent, quiet)}
	t.Cleanup(r.Forwarder.Close)
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	r.server.Config.DisableGeneralOptionsHandler = true
	r.server.Config.Protocols = new(http.Protocols)
	r.server.Config.Protocols.SetHTTP1(true)
	r.server.Config.Protocols.SetUnencryptedHTTP2(true)
	r.server.Start()
	t.Cleanup(r.server.Close)
	r.client = r.newClient(t)
	return r
}

func noProbe(context.Context, netip.AddrPort, time.Duration) error { return nil }

// serve is what a face does.
func (r *rig) serve(w http.ResponseWriter, req *http.Request) {
	err := r.Proxy.ServeHTTP(w, req)
	if err == nil {
		return
	}
	r.errors <- err
	status := http.StatusInternalServerError
	if broken := new(RequestBodyError); errors.As(err, &broken) {
		status = broken.Status()
	}
	http.Error(w, err.Error(), status)
}

// newClient returns a client that adds and hides nothing.
func (r *rig) newClient(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request returns a request to the callee "shop".
func (r *rig) request(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, r.server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-ufc-service-name", "shop")
	return req
}

// do sends a request and returns the response and its body.
func (r *rig) do(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	// A client whose upload is cut off by an early answer may close the connection when it has read all of it.
	if err != nil && (len(body) == 0 || !errors.Is(err, net.ErrClosed)) {
		t.Fatalf("body %q: %v", body, err)
	}
	return resp, string(body)
}

// count returns a counter or gauge of the agent's, such as count("ufc_attempts_total", "result", "ok"), summed over other labels.
func (r *rig) count(t testing.TB, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	next:
		for _, metric := range family.GetMetric() {
			have := map[string]string{}
			for _, label := range metric.GetLabel() {
				have[label.GetName()] = label.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue next
				}
			}
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	return sum
}

// expect waits until the counter is n: the client may know the end of a call before the agent does.
func (r *rig) expect(t testing.TB, n float64, name string, labels ...string) {
	t.Helper()
	got := -1.0
	eventually(t, func() bool {
		got = r.count(t, name, labels...)
		return got == n
	}, func() string { return fmt.Sprintf("%s%v is %v, want %v", name, labels, got, n) })
}

// outcome waits until the only attempt and the only call have ended in the way given.
func (r *rig) outcome(t testing.TB, result string, code string) {
	t.Helper()
	r.expect(t, 1, "ufc_attempts_total", "result", result)
	r.expect(t, 1, "ufc_attempts_total")
	r.expect(t, 1, "ufc_requests_total", "code", code)
	r.expect(t, 1, "ufc_requests_total")
}

func eventually(t testing.TB, holds func() bool, complaint func() string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(complaint())
		}
	}
}

// within fails the test if f doesn't come to its end.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("waited in vain for: " + what)
	}
}

// backend starts an instance and returns its address.
func backend(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Config.DisableGeneralOptionsHandler = true
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// rawBackend starts an instance that handles each connection by hand.
func rawBackend(t testing.TB, handle func(conn *net.TCPConn, reader *bufio.Reader)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				handle(conn.(*net.TCPConn), bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// answering is a rawBackend's handle that reads one request's head and writes a fixed text.
func answering(text string) func(*net.TCPConn, *bufio.Reader) {
	return func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := http.ReadRequest(reader); err == nil {
			io.WriteString(conn, strings.ReplaceAll(text, "\n", "\r\n"))
		}
	}
}

// refusing returns n addresses where nobody listens.
func refusing(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.7:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses
}

// dial connects to the rig's server, for clients that http.Client can't be.
func (r *rig) dial(t testing.TB, request string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	return conn.(*net.TCPConn), bufio.NewReader(conn)
}

type (
	tcpConn   = *net.TCPConn
	bufReader = *bufio.Reader
)
