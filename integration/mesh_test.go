package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// mesh is one machine's part of a mesh: an agent in Caddy, a DNS beside it, and an etcd, embedded or not.
type mesh struct {
	t      testing.TB
	folder string

	agent, admin, etcd, dns, callback, metrics, ready int // ports

	caddy, coredns *process
	client         *http.Client
}

// newMesh chooses ports and a folder, and starts nothing.
func newMesh(t testing.TB) *mesh {
	m := &mesh{t: t, folder: t.TempDir()}
	for _, port := range []*int{&m.agent, &m.admin, &m.etcd, &m.dns, &m.callback, &m.metrics, &m.ready} {
		*port = freePort(t)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	m.client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	return m
}

// startMesh starts Caddy with an embedded etcd, and CoreDNS, registers the documents, and waits until they are in force.
func startMesh(t testing.TB, documents string) *mesh {
	t.Helper()
	m := newMesh(t)
	m.startCaddy()
	m.startCoreDNS()
	m.apply(documents)
	m.untilCurrent()
	return m
}

// startAgent starts Caddy alone, with an embedded etcd, registers the documents, and waits until they are in force.
func startAgent(t testing.TB, documents string, edits ...edit) *mesh {
	t.Helper()
	m := newMesh(t)
	m.startCaddy(edits...)
	m.apply(documents)
	m.untilCurrent()
	return m
}

// environment is what adapts the Caddyfile, the Corefile and the CLI to this mesh.
func (m *mesh) environment() []string {
	env := []string{
		"UFC_DATA=" + m.folder, "XDG_DATA_HOME=" + m.folder, "XDG_CONFIG_HOME=" + m.folder,
		"UFC_TOKEN=" + token,
		fmt.Sprintf("UFC_ETCD=http://127.0.0.1:%d", m.etcd),
	}
	for name, port := range map[string]int{
		"AGENT": m.agent, "ADMIN": m.admin, "ETCD": m.etcd, "DNS": m.dns,
		"CALLBACK": m.callback, "DNS_METRICS": m.metrics, "READY": m.ready,
	} {
		env = append(env, fmt.Sprintf("UFC_%s_PORT=%d", name, port))
	}
	return env
}

const token = "a-token-for-tests"

// edit changes a configuration before it is used.
type edit func(string) string

// without embedded etcd: the agent follows the one on the mesh's etcd port, which the test starts.
func externalEtcd(caddyfile string) string {
	return regexp.MustCompile(`etcd embedded .*`).ReplaceAllString(caddyfile, "etcd http://127.0.0.1:{$$UFC_ETCD_PORT}")
}

// replace is an edit that puts one text in another's place, which must be there.
func replace(t testing.TB, old, replacement string) edit {
	return func(config string) string {
		t.Helper()
		if !strings.Contains(config, old) {
			t.Fatalf("the configuration has no %q", old)
		}
		return strings.ReplaceAll(config, old, replacement)
	}
}

// configure writes an edited copy of a file of the top folder and returns its path.
func (m *mesh) configure(name string, edits ...edit) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		m.t.Fatal(err)
	}
	config := string(data)
	for _, edit := range edits {
		config = edit(config)
	}
	return writeFile(m.t, m.folder, name, config)
}

// startCaddy starts the agent and waits until it answers at all.
func (m *mesh) startCaddy(edits ...edit) {
	m.t.Helper()
	config := m.configure("xcaddy.Caddyfile", edits...)
	m.caddy = startProcess(m.t, "caddy", m.environment(), "bin/caddy", "run", "--config", config, "--adapter", "caddyfile")
	m.untilUp(m.caddy, m.agent)
}

// startCoreDNS starts the DNS and waits until it answers at all.
func (m *mesh) startCoreDNS(edits ...edit) {
	m.t.Helper()
	m.coredns = startProcess(m.t, "coredns", m.environment(), "bin/coredns", "-conf", m.configure("Corefile", edits...))
	m.untilUp(m.coredns, m.dns)
	m.untilUp(m.coredns, m.callback)
}

func (m *mesh) untilUp(p *process, port int) {
	m.t.Helper()
	eventually(m.t, 30*time.Second, func() error {
		select {
		case <-p.done:
			m.t.Fatalf("%s ended: %v", p.name, p.err)
		default:
		}
		return dial(port)
	})
}

// reloadCaddy makes Caddy take up its Caddyfile, changed by edits.
func (m *mesh) reloadCaddy(edits ...edit) {
	m.t.Helper()
	mustRun(m.t, m.environment(), "", "bin/caddy", "reload", "--force", "--adapter", "caddyfile",
		"--config", m.configure("xcaddy.Caddyfile", edits...), "--address", fmt.Sprintf("127.0.0.1:%d", m.admin))
}

// apply registers documents by the CLI. It repeats what fails, since etcd may not be up yet.
func (m *mesh) apply(documents string) {
	m.t.Helper()
	eventually(m.t, 30*time.Second, func() error {
		output, code := run(m.t, 30*time.Second, m.environment(), documents, "bin/caddy", "ufc", "apply", "-f", "-")
		if code != 0 {
			return fmt.Errorf("caddy ufc apply ended with exit code %d: %s", code, output)
		}
		return nil
	})
}

// answer is an HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get sends a GET through the agent. service "" sends no name.
func (m *mesh) get(service, path string) (answer, error) {
	req, err := m.request(service, path)
	if err != nil {
		return answer{}, err
	}
	return m.do(req)
}

func (m *mesh) request(service, path string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", m.agent, path), nil)
	if err == nil && service != "" {
		req.Header.Set("X-Ufc-Service-Name", service)
	}
	return req, err
}

func (m *mesh) do(req *http.Request) (answer, error) {
	resp, err := m.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}, err
}

// mustGet is get for requests that have to be answered with 200. It returns the name of the backend that answered.
func (m *mesh) mustGet(service, path string) string {
	m.t.Helper()
	a, err := m.get(service, path)
	if err != nil || a.status != http.StatusOK {
		m.t.Fatalf("GET %s of %s: %d %q, %v", path, service, a.status, a.body, err)
	}
	return a.header.Get("X-Backend")
}

// report posts a callback to the agent's or the DNS's port and returns the answer's status.
func (m *mesh) report(port int, service, backend, result string) answer {
	m.t.Helper()
	form := url.Values{"service": {service}, "backend": {backend}, "result": {result}}
	req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/bypass?command=callback", port), strings.NewReader(form.Encode()))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := m.do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

// query asks the agent's or the DNS's memory.
func (m *mesh) query(port int, selector string) answer {
	m.t.Helper()
	a, err := m.tryQuery(m.t.Context(), port, selector)
	if err != nil {
		m.t.Fatal(err)
	}
	return a
}

// tryQuery is query where no answer is no reason to end the test.
func (m *mesh) tryQuery(ctx context.Context, port int, selector string) (answer, error) {
	where := fmt.Sprintf("http://127.0.0.1:%d/bypass?command=query&ar=%s", port, url.QueryEscape(selector))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Token", token)
	return m.do(req)
}
