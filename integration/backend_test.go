package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// backend is an HTTP server of a callee. It answers with its name in x-backend, and with the request's body.
type backend struct {
	t       testing.TB
	name    string
	address string
	served  atomic.Int64
	last    atomic.Int64 // when it was asked last, in ns since 1970
	server  *http.Server
}

// newBackend starts one on a free port.
func newBackend(t testing.TB, name string) *backend {
	t.Helper()
	listener := listen(t)
	b := &backend{t: t, name: name, address: listener.Addr().String()}
	b.serve(listener)
	t.Cleanup(b.stop)
	return b
}

// listen listens on a free port, which may be listened on again later. Another run of tests on this machine may take a port
// between the look at it and the use.
func listen(t testing.TB) net.Listener {
	t.Helper()
	var failed error
	for range 5 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
		if err == nil {
			return listener
		}
		failed = err
	}
	t.Fatal(failed)
	return nil
}

// start listens on the same address again.
func (b *backend) start() {
	b.t.Helper()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.serve(listener)
}

func (b *backend) serve(listener net.Listener) {
	b.server = &http.Server{Handler: b}
	go b.server.Serve(listener)
}

// stop closes its port and its connections, as the end of a process would.
func (b *backend) stop() { b.server.Close() }

// ServeHTTP obeys the request's query: status=CODE; and, of those with a name in at or of all, delay=DURATION before the
// answer, and abort=1, a connection that breaks off instead.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.served.Add(1)
	b.last.Store(time.Now().UnixNano())
	query := r.URL.Query()
	if at := query.Get("at"); at == "" || at == b.name {
		if delay, err := time.ParseDuration(query.Get("delay")); err == nil {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
			}
		}
		if query.Has("abort") {
			panic(http.ErrAbortHandler)
		}
	}
	w.Header().Set("X-Backend", b.name)
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Ufc-") {
			w.Header()["Got-"+name] = values
		}
	}
	w.Header().Set("Got-Host", r.Host)
	if code := query.Get("status"); code != "" {
		var status int
		fmt.Sscanf(code, "%d", &status)
		w.WriteHeader(status)
	}
	_, _ = io.Copy(w, r.Body)
}

// service is a Service document with settings, and the Instances of backends.
func service(name, settings string, backends ...*backend) string {
	addresses := make([]string, len(backends))
	for i, b := range backends {
		addresses[i] = b.address
	}
	return documents(name, settings, addresses...)
}

// documents are a Service document with settings (YAML lines, without indentation) and its Instances.
func documents(name, settings string, addresses ...string) string {
	instances := make([]string, len(addresses))
	for i, address := range addresses {
		instances[i] = fmt.Sprintf("{address: %q}", address)
	}
	return registered(name, settings, instances...)
}

// registered is documents for instances of which more is said than the address: {address: "127.0.0.1:1", idc: bj-a}.
func registered(name, settings string, instances ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "kind: Service\nname: %s\n%s\n---\nkind: Instances\nservice: %s\ninstances:", name, settings, name)
	if len(instances) == 0 {
		text.WriteString(" []")
	}
	for _, instance := range instances {
		text.WriteString("\n  - " + instance)
	}
	text.WriteString("\n")
	return text.String()
}

// with is the backend as registered takes it, with more fields: idc: bj-a.
func (b *backend) with(fields string) string {
	return fmt.Sprintf("{address: %q, %s}", b.address, fields)
}
