package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The variables that a backend's process is told by.
const (
	backendName    = "UFC_CHAOS_BACKEND"
	backendAddress = "UFC_CHAOS_ADDRESS"
)

// serveBackend answers with its name and what the request asked for, after long enough that some are always under way. It
// ends by SIGTERM when all are answered.
func serveBackend() int {
	name, address := os.Getenv(backendName), os.Getenv(backendAddress)
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		time.Sleep(4 * time.Millisecond)
		fmt.Fprintf(w, "%s %s %s", name, r.URL.Path, body)
	})}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() {
		<-signals
		ended <- server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ended
	return 0
}

// backend is an instance of the service shop. Each has an IP address of its own, since DNS tells no ports.
type backend struct {
	*process
	t       testing.TB
	folder  string
	name    string
	address string // which is registered
	listens string // where its process listens: the same, unless there is a link before it
	link    *link  // nil: none
}

// newBackend starts one, with a link before it if linked.
func newBackend(t testing.TB, folder, name, ip string, linked bool) *backend {
	t.Helper()
	b := &backend{t: t, folder: folder, name: name, address: fmt.Sprintf("%s:%d", ip, freePort(t, ip))}
	b.listens = b.address
	if linked {
		b.listens = fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
		b.link = newLink(t, b.address, b.listens)
	}
	b.start()
	return b
}

// start starts it, again perhaps, and waits until it listens.
func (b *backend) start() {
	b.t.Helper()
	env := []string{role + "=backend", backendName + "=" + b.name, backendAddress + "=" + b.listens}
	b.process = startProcess(b.t, b.folder, "backend-"+b.name, env, os.Args[0])
	mustUntil(b.t, 20*time.Second, b.name, func() error { return dial(b.listens) })
}

// die kills it; a link before it refuses then, as its port would.
func (b *backend) die() {
	if b.link != nil {
		b.link.set(refusing)
	}
	b.kill()
}

// revive starts it again after die.
func (b *backend) revive() {
	b.start()
	if b.link != nil {
		b.link.set(open)
	}
}

func (b *backend) ip() string {
	host, _, _ := net.SplitHostPort(b.address)
	return host
}

// key is the instance's in etcd.
func (b *backend) key() string { return prefix + "/config/instances/shop/" + b.address }

// document is the instance's value in etcd.
func (b *backend) document(idc string) string {
	return fmt.Sprintf(`{"address": %q, "idc": %q}`, b.address, idc)
}

// checkAnswer is nil if the text is what a backend of the name answers to the path and the body.
func checkAnswer(text, path, body string) (name string, err error) {
	name, rest, _ := strings.Cut(text, " ")
	if rest != path+" "+body {
		return name, fmt.Errorf("%q was asked for, the answer is of %q", path+" "+body, rest)
	}
	return name, nil
}
