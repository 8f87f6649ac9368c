package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	zone   = "ufc.internal"
	prefix = "/ufc/v1"
	token  = "a-token-for-tests"
)

// site is what a data centre has of the mesh on one machine: an agent and a DNS, with their own ways to etcd.
type site struct {
	t      testing.TB
	name   string // of the data centre, as the Topology has it
	folder string
	data   string // where the snapshots are: a small disk, if small
	small  bool
	// protect is set to hold back great losses; the agent and the DNS have to be started anew.
	protect bool
	ports   struct{ agent, admin, dns, callback, metrics, ready int }
	etcd    []*link
	// The load's clients: one that keeps connections, and one that makes a new one each time. A request's own Close closes a
	// connection after it, and may take a kept one.
	keeping, renewing *http.Client

	agent, dns *process
}

// smallDisk is enough for the snapshots, and soon full.
const smallDisk = 1 << 20

func newSite(t testing.TB, folder, name string, c *cluster) *site {
	t.Helper()
	s := &site{t: t, name: name, folder: filepath.Join(folder, name)}
	s.data = filepath.Join(s.folder, "data")
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, port := range []*int{&s.ports.agent, &s.ports.admin, &s.ports.dns, &s.ports.callback, &s.ports.metrics, &s.ports.ready} {
		*port = freePort(t, "127.0.0.1")
	}
	for _, m := range c.members {
		s.etcd = append(s.etcd, newLink(t, fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1")), m.spec.Client))
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	s.keeping = &http.Client{Transport: transport}
	s.renewing = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	return s
}

// useSmallDisk puts the snapshots on a small disk, where that may be mounted.
func (s *site) useSmallDisk() {
	if err := mountSmall(s.data, smallDisk); err != nil {
		s.t.Logf("no small disk, and no fault of it: %v", err)
		return
	}
	s.small = true
	step := func() { _ = unmount(s.data) }
	whenInterrupted(step)
	s.t.Cleanup(step)
}

func (s *site) environment() []string {
	env := []string{"UFC_DATA=" + s.data, "XDG_DATA_HOME=" + s.folder, "XDG_CONFIG_HOME=" + s.folder, "UFC_TOKEN=" + token, "UFC_IDC=" + s.name}
	for name, port := range map[string]int{
		"AGENT": s.ports.agent, "ADMIN": s.ports.admin, "DNS": s.ports.dns,
		"CALLBACK": s.ports.callback, "DNS_METRICS": s.ports.metrics, "READY": s.ports.ready,
	} {
		env = append(env, fmt.Sprintf("UFC_%s_PORT=%d", name, port))
	}
	return env
}

var etcdLine = regexp.MustCompile(`(?m)^\s*etcd (embedded|http://127).*$`)

// configure writes this site's form of a configuration of the top folder and returns its path.
func (s *site) configure(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		s.t.Fatal(err)
	}
	lines := "etcd"
	for _, l := range s.etcd {
		lines += " http://" + l.address
	}
	lines += "\nagent_id " + s.name
	if s.protect {
		lines += "\nprotect 50%"
	}
	if len(etcdLine.FindAll(data, -1)) != 1 {
		s.t.Fatalf("%s has no line, or several, that name etcd", name)
	}
	path := filepath.Join(s.folder, name)
	if err := os.WriteFile(path, etcdLine.ReplaceAll(data, []byte(lines)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// startAgent starts the agent, again perhaps, and waits until it listens.
func (s *site) startAgent() {
	s.t.Helper()
	config := s.configure("xcaddy.Caddyfile")
	s.agent = startProcess(s.t, s.folder, "agent-"+s.name, s.environment(), "bin/caddy", "run", "--config", config, "--adapter", "caddyfile")
	s.untilListening(s.agent, s.ports.agent)
}

// startDNS starts the DNS, again perhaps, and waits until it listens.
func (s *site) startDNS() {
	s.t.Helper()
	s.dns = startProcess(s.t, s.folder, "dns-"+s.name, s.environment(), "bin/coredns", "-conf", s.configure("Corefile"))
	s.untilListening(s.dns, s.ports.dns)
}

func (s *site) untilListening(p *process, port int) {
	s.t.Helper()
	mustUntil(s.t, 30*time.Second, p.name, func() error {
		if p.ended() {
			s.t.Fatalf("%s has ended:\n%s", p.name, p.tail(20))
		}
		return dial(fmt.Sprintf("127.0.0.1:%d", port))
	})
}

// cut sets the ways to etcd.
func (s *site) cut(to state) {
	for _, l := range s.etcd {
		l.set(to)
	}
}

// reloadAgent makes the agent take up its configuration anew.
func (s *site) reloadAgent() error {
	config, err := os.ReadFile(s.configure("xcaddy.Caddyfile"))
	if err != nil {
		return err
	}
	// What `caddy reload --force` sends, without a process for each.
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/load", s.ports.admin), bytes.NewReader(config))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate")
	_, err = answerOf(req)
	return err
}

// reloadDNS makes the DNS take up its configuration anew.
func (s *site) reloadDNS() error {
	before := strings.Count(s.dns.output(), "Reloading complete")
	s.dns.signal(syscall.SIGUSR1)
	_, err := until(10*time.Second, func() error {
		if strings.Count(s.dns.output(), "Reloading complete") == before {
			return fmt.Errorf("the DNS of %s has not reloaded", s.name)
		}
		return nil
	})
	return err
}

// faces are where the agent and the DNS can be asked for their memory and their metrics.
func (s *site) faces() map[string]face {
	return map[string]face{
		"agent " + s.name: {s.ports.agent, s.ports.admin},
		"DNS " + s.name:   {s.ports.callback, s.ports.metrics},
	}
}

// face is one of them.
type face struct{ query, metrics int }

// ask asks for live memory by a selector, whose first segment is the one key of the answer. It is limited to ten a second.
func (f face) ask(selector string, into any) error {
	where := fmt.Sprintf("http://127.0.0.1:%d/bypass?command=query&ar=%s", f.query, url.QueryEscape(selector))
	req, err := http.NewRequest(http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Token", token)
	text, err := answerOf(req)
	if err != nil {
		return err
	}
	answer := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	first, _, _ := strings.Cut(selector, "^")
	return json.Unmarshal(answer[first], into)
}

// metric returns the value of a metric without labels.
func (f face) metric(name string) (float64, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", f.metrics), nil)
	if err != nil {
		return 0, err
	}
	text, err := answerOf(req)
	if err != nil {
		return 0, err
	}
	_, value, found := strings.Cut(string(text), "\n"+name+" ")
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	value, _, _ = strings.Cut(value, "\n")
	return strconv.ParseFloat(value, 64)
}

// asking is the client of what the tests ask for themselves. It keeps no connections, whose other ends are killed.
var asking = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}

func answerOf(req *http.Request) ([]byte, error) {
	resp, err := asking.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	return text, err
}
