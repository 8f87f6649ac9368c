package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// longest is how many lines a block of code may have, so that it is taken over rather than rewritten.
const longest = 15

// snippet is the code in a language of docs/clients.md, block after block, with this mesh's ports.
func (m *mesh) snippet(language string) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(top, "docs/clients.md"))
	if err != nil {
		m.t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(string(data), -1)
	if found == nil {
		m.t.Fatalf("docs/clients.md has nothing in %s", language)
	}
	code := ""
	for _, block := range found {
		code += block[1]
		if lines := strings.Count(block[1], "\n"); lines > longest {
			m.t.Errorf("docs/clients.md: a block in %s has %d lines, more than %d", language, lines, longest)
		}
	}
	return strings.NewReplacer("127.0.0.1:8888", fmt.Sprint("127.0.0.1:", m.agent), "127.0.0.1:8889", fmt.Sprint("127.0.0.1:", m.callback),
		"127.0.0.1:1053", fmt.Sprint("127.0.0.1:", m.dns), "-p 1053", fmt.Sprint("-p ", m.dns)).Replace(code)
}

// goProgram makes a program of statements.
func goProgram(code string) string {
	return fmt.Sprintf(`package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/redis/go-redis/v9"
	"github.com/ufc-mesh/ufc/shared/client"
)

func main() {
%s}
`, code)
}

// proxies would be asked by some languages' clients, even for this machine.
var noProxies = []string{"http_proxy=", "HTTP_PROXY=", "no_proxy=*", "NO_PROXY=*"}

// The snippets for other languages find a Redis, use it and report; and report, too, that it is dead.
func TestClientsDoc(t *testing.T) {
	t.Parallel()
	port := freePort(t, redisAddresses[0])
	backend := fmt.Sprintf("%s:%d", redisAddresses[0], port)
	server := startRedis(t, redisAddresses[0], port)
	m := startMesh(t, documents("redis-main", "protocol: tcp", backend)+"---\n"+service("hello", "protocol: http", newBackend(t, "one")))

	languages := []struct {
		name, file string
		port       int // whom it reports to
		command    []string
	}{
		{"sh", "find.sh", m.callback, []string{"sh"}},
		{"python", "find.py", m.agent, []string{"python3"}},
		{"js", "find.js", m.agent, []string{"node"}},
		{"php", "find.php", m.agent, []string{"php"}},
		{"go", "find.go", m.agent, []string{"go", "run", "-trimpath", "-buildvcs=false"}},
	}
	// reported is how often a result was.
	reported := func(port int, result string) string {
		found := regexp.MustCompile(`"` + result + `":(\d+)`).FindStringSubmatch(m.query(port, "backend_info^redis-main^"+backend).body)
		if found == nil {
			return "0"
		}
		return found[1]
	}
	for _, language := range languages {
		code := m.snippet(language.name)
		if language.name == "go" {
			code = goProgram(code)
		}
		language.command = append(language.command, writeFile(t, m.folder, language.file, code))
		before := reported(language.port, "ok")
		if output := mustRun(t, noProxies, "", language.command...); !strings.Contains(output, "PONG") {
			t.Errorf("%s printed %q", language.name, output)
		}
		if reported(language.port, "ok") == before {
			t.Errorf("%s hasn't reported", language.name)
		}
	}
	server.signal(syscall.SIGKILL)
	server.wait(5 * time.Second)
	for _, language := range languages[:4] {
		before := reported(language.port, "connect_error")
		if output, code := run(t, 20*time.Second, noProxies, "", append(language.command, filepath.Join(m.folder, language.file))...); code == 0 {
			t.Errorf("%s ended with exit code 0 though the server is dead: %s", language.name, output)
		}
		if reported(language.port, "connect_error") == before {
			t.Errorf("%s hasn't reported the dead server", language.name)
		}
	}
}

// connectorJ is where Debian's libmariadb-java has it. Neither it nor a JDK is asked for by .ci/install-tools, being large.
const connectorJ = "/usr/share/java/mariadb-java-client.jar"

// The SRV record that the Java snippet takes; and the snippet itself where there is a JDK and the driver.
func TestClientsDocJava(t *testing.T) {
	t.Parallel()
	address := mariadbAddresses[:1]
	port := freePort(t, address...)
	m := startMesh(t, documents("mysql-main", "protocol: tcp", at(address, port)...))
	d := m.dig("_mysql._tcp.mysql-main."+zone, "SRV")
	if len(d.answers) != 1 || !strings.Contains(d.answers[0], fmt.Sprintf(" %d ", port)) {
		t.Fatalf("SRV: %s", d.text)
	}
	if found := m.dig(strings.Fields(d.answers[0])[3], "A").answers; len(found) != 1 || found[0] != address[0] {
		t.Errorf("its target's address is %q", found)
	}
	_, err := exec.LookPath("javac")
	if _, missing := os.Stat(connectorJ); err != nil || missing != nil {
		t.Logf("the snippet itself was not run, for want of a JDK (%v) or of the driver (%v)", err, missing)
		return
	}
	startMariaDBs(t, address, port)
	mustRun(t, nil, "", "javac", "-d", m.folder, writeFile(t, m.folder, "Program.java", m.snippet("java")))
	if output := mustRun(t, nil, "", "java", "-cp", connectorJ+":"+m.folder, "Program"); !strings.Contains(output, "MariaDB") {
		t.Errorf("it printed %q", output)
	}
	if a := m.query(m.callback, "backend_info^mysql-main"); !strings.Contains(a.body, `"ok":1`) {
		t.Errorf("it hasn't reported: %s", a.body)
	}
}
