package caddyufc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
)

// etcdEndpoint is an etcd for all tests; each has its own prefix.
var etcdEndpoint string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "caddyufc")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	address, err := findAddress()
	if err != nil {
		panic(err)
	}
	server := &embeddedetcd.Server{Dir: filepath.Join(dir, "etcd"), Address: address}
	if err := errors.Join(server.Provision(caddy.Context{}), server.Open()); err != nil {
		panic(err)
	}
	defer server.Close()
	etcdEndpoint = server.Endpoint()
	return m.Run()
}

var prefixes atomic.Int64

// newPrefix returns a prefix that no other test uses.
func newPrefix() string { return fmt.Sprintf("/test/%d", prefixes.Add(1)) }

// freeAddress returns an address that was free a moment ago. Its port is under those that systems give to clients, so
// that no connection takes it meanwhile.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := findAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func findAddress() (address string, err error) {
	for range 100 {
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+rand.IntN(15000))); err == nil {
			listener.Close()
			return listener.Addr().String(), nil
		}
	}
	return "", err
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// load loads a Caddyfile: global options as in global, beside those that every test needs, and sites.
func load(t *testing.T, global, sites string) {
	t.Helper()
	if err := tryLoad(t, global, sites); err != nil {
		t.Fatal(err)
	}
}

func tryLoad(t *testing.T, global, sites string) error {
	t.Helper()
	adapted, err := adapt(caddyfileOf(t, global, sites))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	return caddy.Load(adapted, true)
}

func caddyfileOf(t *testing.T, global, sites string) string {
	t.Helper()
	if !strings.Contains(global, "log ") {
		global += "\n\tlog default {\n\t\toutput discard\n\t}\n"
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 5s
	storage file_system %s
	%s
}
%s
`, t.TempDir(), global, sites)
}

// logTo is the global option that writes all logs to a file.
func logTo(file string) string {
	return "\n\tlog default {\n\t\toutput file " + file + "\n\t}\n"
}

// ufcOption is the global option for the etcd of all tests.
func ufcOption(prefix, more string) string {
	return fmt.Sprintf("ufc {\n\t\tetcd %s\n\t\tprefix %s\n\t\t%s\n\t}\n", etcdEndpoint, prefix, more)
}

// site is a site at an address.
func site(address, directives string) string {
	return fmt.Sprintf("http://:%s {\n\tbind 127.0.0.1\n\t%s\n}\n", port(address), directives)
}

// cli runs caddy ufc with arguments, and returns what it wrote to the standard output and error.
func cli(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, problems bytes.Buffer
	root := &cobra.Command{Use: "caddy", SilenceUsage: true}
	ufc := &cobra.Command{Use: "ufc"}
	caddycmd.Commands()["ufc"].CobraFunc(ufc)
	root.AddCommand(ufc)
	root.SetArgs(append([]string{"ufc"}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&problems)
	err = root.ExecuteContext(t.Context())
	return out.String(), problems.String(), err
}

// apply writes documents.
func apply(t *testing.T, prefix, documents string) {
	t.Helper()
	if _, stderr, err := cli(t, documents, "apply", "-f", "-", "--etcd", etcdEndpoint, "--prefix", prefix); err != nil {
		t.Fatal(stderr)
	}
}

// instances is an Instances document.
func instances(service string, addresses ...string) string {
	document := fmt.Sprintf("---\nkind: Instances\nservice: %s\ninstances:\n", service)
	for _, address := range addresses {
		document += fmt.Sprintf("  - {address: %q}\n", address)
	}
	return document
}

// backend starts an HTTP server and returns its address.
func backend(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.Listener.Addr().String()
}

// named answers every request with a name.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }
}

// reply is an HTTP response read to its end.
type reply struct {
	*http.Response
	body string
}

// ask sends a request, whose headers are given as "name: value", and returns the response.
func ask(t *testing.T, method, url, body string, headers ...string) reply {
	t.Helper()
	answer, err := tryAsk(t.Context(), http.DefaultClient, method, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func tryAsk(ctx context.Context, client *http.Client, method, url, body string, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		req.Header.Add(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	return reply{resp, string(read)}, err
}

// timeLimit is for what takes milliseconds.
const timeLimit = 10 * time.Second

// eventually tries until f is content.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(timeLimit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// answers waits until a GET is answered with a status.
func answers(t *testing.T, url string, status int, headers ...string) {
	t.Helper()
	eventually(t, func() error {
		answer, err := tryAsk(t.Context(), http.DefaultClient, http.MethodGet, url, "", headers...)
		if err == nil && answer.StatusCode != status {
			err = fmt.Errorf("%s answers %s, not %d: %s", url, answer.Status, status, answer.body)
		}
		return err
	})
}
