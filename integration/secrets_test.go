package integration

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The secrets that a mesh is given here. None contains another.
const (
	secretToken    = "tok-3f81c2d9"
	secretPassword = "pass-7be04a11"
	secretGuess    = "guess-5d20e6f3" // what somebody tries as a token, and as a password
	secretHookUser = "hookuser-c18a94"
	secretHookPath = "hookpath-9e35b7"
	secretHookArgs = "hookargs-42ff08"
)

// secretive is a mesh that has secrets, and all that it lets out.
type secretive struct {
	*guarded
	secrets map[string]string // what must not come out, by what it is
	told    []string          // what did come out, beside logs and files
}

func newSecretive(t *testing.T) *secretive {
	s := &secretive{guarded: newGuarded(t), secrets: map[string]string{
		"token": secretToken, "password": secretPassword, "wrong token": secretGuess,
		"webhook's user": secretHookUser, "webhook's path": secretHookPath, "webhook's arguments": secretHookArgs,
	}}
	s.authority.issue("alice", nil)
	s.authority.issue("mesh", nil)
	for _, name := range []string{"mesh", "alice"} {
		data, err := os.ReadFile(s.file(name + ".key"))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		// A line of the file's, and a part of the key itself as it would be in a dump.
		s.secrets["key of "+name] = strings.Split(string(data), "\n")[1]
		s.secrets["bytes of the key of "+name] = string(block.Bytes[8:24])
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	s.script("init")
	s.script("operator", "alice")
	s.scriptWith(secretPassword, "host", host, "agents")
	s.script("enable")
	return s
}

// environment is the mesh's, with the secrets where a service manager would put them.
func (s *secretive) environment() []string {
	return append(s.guarded.environment(), "UFC_TOKEN="+secretToken, "ETCD_PASSWORD="+secretPassword)
}

// start starts both programs with all that can be asked of their logs.
func (s *secretive) start() {
	s.t.Helper()
	options := s.options("mesh")
	caddyfile := s.configure("xcaddy.Caddyfile", externalEtcd,
		replace(s.t, "etcd http://127.0.0.1:{$UFC_ETCD_PORT}", options+"\ncredentials agents {env.ETCD_PASSWORD}"),
		replace(s.t, "\tmetrics\n", "\tmetrics\n\tdebug\n"), replace(s.t, "\n\tufc\n", "\n\tlog\n\tufc\n"))
	corefile := s.configure("Corefile",
		replace(s.t, "etcd http://127.0.0.1:{$UFC_ETCD_PORT:2379}", options+"\ncredentials agents {$ETCD_PASSWORD}"),
		replace(s.t, "    errors\n", "    errors\n    debug\n    log\n"))
	s.caddy = startProcess(s.t, "caddy", s.environment(), "bin/caddy", "run", "--config", caddyfile, "--adapter", "caddyfile")
	s.coredns = startProcess(s.t, "coredns", s.environment(), "bin/coredns", "-conf", corefile)
	s.untilUp(s.caddy, s.agent)
	s.untilUp(s.coredns, s.callback)
}

// ask gets a URL with a header, and keeps the answer.
func (s *secretive) ask(url, header, value string) answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if header != "" {
		req.Header.Set(header, value)
	}
	a, err := s.do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.told = append(s.told, fmt.Sprintf("GET %s: %v %s", strings.ReplaceAll(url, secretGuess, "…"), a.header, a.body))
	return a
}

// questions asks everything that answers.
func (s *secretive) questions() {
	s.t.Helper()
	for _, selector := range []string{
		"sync_info", "config_info", "config_info^shop", "ban_info", "fuse_info", "fuse_info^shop", "explain^shop",
		"backend_info^shop", "request_info^shop", "nonsense^" + "shop",
	} {
		for _, port := range []int{s.agent, s.callback} {
			s.ask(fmt.Sprintf("http://127.0.0.1:%d/bypass?command=query&ar=%s", port, selector), "Token", secretToken)
			time.Sleep(100 * time.Millisecond) // as fast as queries are answered
		}
	}
	for _, port := range []int{s.agent, s.callback} {
		s.ask(fmt.Sprintf("http://127.0.0.1:%d/bypass?command=query&ar=sync_info", port), "Token", secretGuess).must(s.t, http.StatusForbidden, "forbidden")
		s.ask(fmt.Sprintf("http://127.0.0.1:%d/bypass?command=get&service=shop", port), "Token", secretToken)
	}
	s.ask(fmt.Sprintf("http://127.0.0.1:%d/", s.agent), "X-Ufc-Service-Name", "shop")
	for _, path := range []string{"/metrics", "/config/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2", "/debug/vars"} {
		s.ask(fmt.Sprintf("http://127.0.0.1:%d%s", s.admin, path), "", "")
	}
	s.ask(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.metrics), "", "")
	s.told = append(s.told, s.dig("_debug.shop."+zone, "TXT").text)
	for _, p := range []*process{s.caddy, s.coredns} {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.cmd.Process.Pid))
		if err != nil {
			s.t.Fatal(err)
		}
		s.told = append(s.told, string(title))
	}
}

// check looks for the secrets in what was told, in the logs, and in the files that the programs wrote.
func (s *secretive) check() {
	s.t.Helper()
	look := func(where, text string) {
		for what, secret := range s.secrets {
			if at := strings.Index(text, secret); at >= 0 {
				s.t.Errorf("%s tells the %s: …%q…", where, what, text[max(0, at-100):at])
			}
		}
	}
	for _, text := range s.told {
		look("an answer", text)
	}
	for _, p := range []*process{s.caddy, s.coredns} {
		look("the log of "+p.name, p.output())
	}
	looked := 0
	err := filepath.WalkDir(s.folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		looked++
		look(path, string(data))
		return err
	})
	// The two configurations, the two snapshots, and what Caddy keeps of its own.
	if err != nil || looked < 4 {
		s.t.Errorf("%d files were looked at, %v", looked, err)
	}
}

// Nothing secret comes out by logs, debug answers, metrics, the admin API, snapshots or process titles: at the start, in use,
// while etcd is gone, after it has refused a password, and after a start from the snapshots.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := newSecretive(t)
	s.start()
	dead, one := newBackend(t, "dead"), newBackend(t, "one")
	dead.stop()
	hook := fmt.Sprintf("http://%s:x@127.0.0.1:1/%s?a=%s", secretHookUser, secretHookPath, secretHookArgs)
	document := service("shop", fmt.Sprintf("ban: {webhook: {url: %q, after: 1s}}", hook), dead, one)
	if output, code := s.as("alice", document, "apply", "-f", "-"); code != 0 {
		t.Fatal(output)
	}
	eventually(t, 15*time.Second, func() error { _, err := s.lookupOK("shop"); return err })
	eventually(t, 20*time.Second, func() error { // until the webhook has failed
		s.mustGet("shop", "/")
		if !strings.Contains(s.caddy.output(), "webhook failed") {
			return fmt.Errorf("no webhook was sent")
		}
		return nil
	})
	s.questions()

	// etcd goes, and comes back with another password.
	s.etcd.signal(syscall.SIGKILL)
	s.etcd.wait(5 * time.Second)
	logs := func(p *process, want string) {
		t.Helper()
		eventually(t, 40*time.Second, func() error {
			if !strings.Contains(p.output(), want) {
				return fmt.Errorf("the log of %s has no %q", p.name, want)
			}
			return nil
		})
	}
	logs(s.caddy, "etcd isn't heard")
	logs(s.coredns, "etcd isn't heard")
	s.caddy.stop()
	s.coredns.stop()
	s.check() // the logs of the first start, too
	s.start()
	s.ask(fmt.Sprintf("http://127.0.0.1:%d/", s.agent), "X-Ufc-Service-Name", "shop").must(t, http.StatusOK, "") // from the snapshot
	s.etcd.start()
	if _, err := s.client("root").UserChangePassword(t.Context(), "agents", "another-password"); err != nil {
		t.Fatal(err)
	}
	logs(s.caddy, "authentication failed")
	logs(s.coredns, "authentication failed")
	s.questions()
	s.check()

	// The snapshots are for their owner alone.
	for _, name := range []string{"agent.snapshot", "dns.snapshot"} {
		info, err := os.Stat(filepath.Join(s.folder, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		data, err := os.ReadFile(filepath.Join(s.folder, name))
		if err != nil || !strings.Contains(string(data), `"name":"shop"`) {
			t.Errorf("%s has no service: %v", name, err)
		}
	}

	// What a wrong configuration is told has no secret either.
	output, code := run(t, 30*time.Second, s.environment(), "", "bin/coredns", "-conf",
		s.configure("Corefile", replace(t, "prefix /ufc/v1", "credentials agents "+secretPassword+" more")))
	if code == 0 || strings.Contains(output, secretPassword) {
		t.Errorf("a wrong Corefile: %d %s", code, output)
	}
}
