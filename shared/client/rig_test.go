package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a net without sockets, so that time in tests can be synctest's.
type network struct {
	mu      sync.Mutex
	hosts   map[string]*host
	dialed  []string
	closers []func()
}

// host is what listens at an address. One that is nil, or absent, refuses.
type host struct {
	hangs  bool           // takes no connection and refuses none
	accept func(net.Conn) // runs in a goroutine of its own
	fails  error          // of the connect
}

func newNetwork(t *testing.T) *network {
	n := &network{hosts: map[string]*host{}}
	t.Cleanup(n.close)
	return n
}

// close ends what was started, which a bubble waits for.
func (n *network) close() {
	for _, f := range n.closers {
		f()
	}
	n.closers = nil
}

func (n *network) set(address string, h *host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = h
}

func (n *network) dials() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialed)
}

func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// dial is a dialFunc.
func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[address]
	n.dialed = append(n.dialed, address)
	n.mu.Unlock()
	switch {
	case h == nil:
		return nil, refused()
	case h.fails != nil:
		return nil, h.fails
	case h.hangs:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	near, far := net.Pipe()
	go h.accept(far)
	return near, nil
}

// serve makes an HTTP server listen at an address. Until it is stopped, that is: then it refuses, and its connections end.
func (n *network) serve(address string, handler http.Handler) (stop func()) {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(l)
		close(done)
	}()
	n.set(address, &host{accept: func(conn net.Conn) {
		select {
		case l.conns <- conn:
		case <-l.closed:
			conn.Close()
		}
	}})
	stop = sync.OnceFunc(func() {
		n.set(address, nil)
		server.Close()
		<-done
	})
	n.closers = append(n.closers, stop)
	return stop
}

// pipes is a listener of connections that are made elsewhere.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// brain stands for an agent: it hands out the instances in turn, and keeps what is reported.
type brain struct {
	mu       sync.Mutex
	backends []string
	turn     int
	asked    []string // query strings
	reports  []report
	posts    int
	refusal  string // x-ufc-error of every get
	ignorant bool   // of the parameter family
	limits   int    // for writes and reads, in ms
	blocked  chan struct{}
}

func (b *brain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if b.blocked != nil && query.Get("command") == "callback" {
		<-b.blocked
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch query.Get("command") {
	case "get":
		if query.Get("service") == noService { // a probe
			w.Header().Set(headerError, "unknown_service")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		b.asked = append(b.asked, r.URL.RawQuery)
		if b.refusal != "" {
			w.Header().Set(headerError, b.refusal)
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"detail": "for a test", "reason": %q}`, b.refusal)
			return
		}
		n := 1
		fmt.Sscan(query.Get("n"), &n)
		var list []map[string]any
		backends := b.ofFamily(query.Get("family"))
		for range min(n, len(backends)) {
			b.turn++
			list = append(list, map[string]any{
				"backend": backends[b.turn%len(backends)], "id": fmt.Sprint("id-", b.turn), "weight": 100,
				"timeouts": map[string]int{"connect_ms": 200, "write_ms": b.limits, "read_ms": b.limits, "total_ms": 2 * b.limits},
			})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"backends": list})
	case "callback":
		body, _ := io.ReadAll(r.Body)
		var reports []report
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&reports); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b.posts++
		b.reports = append(b.reports, reports...)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set(headerError, "bad_request")
		w.WriteHeader(http.StatusBadRequest)
	}
}

// ofFamily are the instances of an IP version: "4", "6", or "" for any.
func (b *brain) ofFamily(family string) []string {
	if family == "" || b.ignorant {
		return b.backends
	}
	return slices.DeleteFunc(slices.Clone(b.backends), func(address string) bool { return (address[0] == '[') != (family == "6") })
}

// results are the reports so far, as result/latency in ms.
func (b *brain) results() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, r := range b.reports {
		all = append(all, fmt.Sprintf("%s/%.0f", r.Result, r.Latency))
	}
	return all
}

// callbacks is how many times was reported.
func (b *brain) callbacks() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.posts
}

const local, backup = "127.0.0.1:8888", "10.0.0.9:8888"

// base is a client in a net with a local agent and a backup.
type base struct {
	*network
	client    *Client
	stopLocal func()
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, localAgent, backupAgent http.Handler, test func(t *testing.T, b base)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		b := base{n, newClient(Config{Caller: "shop-web", Agents: []string{local, backup}}.withDefaults(), n.dial), n.serve(local, localAgent)}
		n.serve(backup, backupAgent)
		test(t, b)
		b.client.Close()
		n.close()
	})
}

// rig is one whose agents hand out instances.
type rig struct {
	base
	local, backup *brain
}

func bubble(t *testing.T, backends []string, test func(t *testing.T, r *rig)) {
	t.Helper()
	local, backup := &brain{backends: backends, limits: 1000}, &brain{backends: backends, limits: 1000}
	inBubble(t, local, backup, func(t *testing.T, b base) { test(t, &rig{b, local, backup}) })
}

// dialed is a dial that has to succeed.
func (r *rig) dialed(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := r.client.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// reported waits until reports have been sent, and compares them.
func (r *rig) reported(t *testing.T, want ...string) {
	t.Helper()
	time.Sleep(2 * gatherFor)
	if got := r.local.results(); !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
}

// echo sends back what it gets, after a while.
func echo(after time.Duration) *host {
	return &host{accept: func(conn net.Conn) {
		defer conn.Close()
		buffer := make([]byte, 1024)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			time.Sleep(after)
			if _, err := conn.Write(buffer[:n]); err != nil {
				return
			}
		}
	}}
}
