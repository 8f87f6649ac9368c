package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// backend is an HTTP server of a callee. It answers with its name in x-backend, and with the request's body.
type backend struct {
	t       testing.TB
	name    string
	address string
	served  atomic.Int64
	server  *http.Server
}

// newBackend starts one on a free port.
func newBackend(t testing.TB, name string) *backend {
	t.Helper()
	b := &backend{t: t, name: name, address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	b.start()
	t.Cleanup(b.stop)
	return b
}

// start listens on the same address again.
func (b *backend) start() {
	b.t.Helper()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.server = &http.Server{Handler: b}
	go b.server.Serve(listener)
}

// stop closes its port and its connections, as the end of a process would.
func (b *backend) stop() { b.server.Close() }

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.served.Add(1)
	w.Header().Set("X-Backend", b.name)
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Ufc-") {
			w.Header()["Got-"+name] = values
		}
	}
	w.Header().Set("Got-Host", r.Host)
	if code := r.URL.Query().Get("status"); code != "" {
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
	var text strings.Builder
	fmt.Fprintf(&text, "kind: Service\nname: %s\n%s\n---\nkind: Instances\nservice: %s\ninstances:", name, settings, name)
	if len(addresses) == 0 {
		text.WriteString(" []")
	}
	for _, address := range addresses {
		fmt.Fprintf(&text, "\n  - {address: %q}", address)
	}
	text.WriteString("\n")
	return text.String()
}
