package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// quickstart is a `make run` on ports and in a folder of its own.
type quickstart struct {
	*process
	*mesh
	demo int // port of the first of the demo servers
}

// demoServers is how many the examples have.
const demoServers = 10

// newQuickstart chooses ports, and starts nothing.
func newQuickstart(t testing.TB) *quickstart {
	return &quickstart{mesh: newMesh(t), demo: freePorts(t, demoServers)}
}

func (q *quickstart) environment() []string {
	return append(q.mesh.environment(), fmt.Sprintf("UFC_DEMO_PORT=%d", q.demo))
}

const runEnds = "Ctrl-C stops everything."

// start runs command (make run, or its program alone), and returns when it has said what to try.
func (q *quickstart) start(command ...string) {
	t := q.mesh.t
	t.Helper()
	q.process = startProcess(t, "run", q.environment(), command...)
	t.Cleanup(q.end)
	eventually(t, 5*time.Minute, func() error {
		select {
		case <-q.done:
			t.Fatalf("%q ended:\n%s", command, q.tail(60))
		default:
		}
		if !strings.Contains(q.output(), runEnds) {
			return fmt.Errorf("not ready:\n%s", q.tail(60))
		}
		return nil
	})
}

// end stops what a test has left running, in good order and before the data folder is removed: of a program that is killed
// the children die too, but a moment later.
func (q *quickstart) end() {
	_ = syscall.Kill(-q.cmd.Process.Pid, syscall.SIGTERM) // an error says that all have ended
	select {
	case <-q.done:
	case <-time.After(20 * time.Second):
		q.mesh.t.Errorf("the quickstart did not stop within 20 s")
	}
	q.nothingLeft()
}

// running are the processes that belong to this quickstart, and their commands: they have its data folder in their
// environment.
func (q *quickstart) running() map[int]string {
	found := map[int]string{}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		q.mesh.t.Fatal(err)
	}
	for _, path := range environments {
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), "UFC_DATA="+q.folder+"\x00") {
			continue // gone in the meantime, or another's
		}
		folder := filepath.Dir(path)
		command, err := os.ReadFile(filepath.Join(folder, "cmdline"))
		pid, pidErr := strconv.Atoi(filepath.Base(folder))
		if err == nil && pidErr == nil && len(command) > 0 { // a zombie has no command
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found
}

func (q *quickstart) nothingLeft() {
	q.mesh.t.Helper()
	eventually(q.mesh.t, 20*time.Second, func() error {
		if left := q.running(); len(left) > 0 {
			return fmt.Errorf("still running: %v", left)
		}
		return nil
	})
}

// commands are the indented lines that make run proposes to try.
func (q *quickstart) commands() []string {
	var list []string
	for _, found := range regexp.MustCompile(`(?m)^    (\S.*)$`).FindAllStringSubmatch(q.output(), -1) {
		list = append(list, found[1])
	}
	return list
}

func TestMakeRun(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	q.start("make", "run")
	if len(q.running()) < 3 {
		t.Errorf("of what runs the test sees only %v", q.running())
	}

	commands := q.commands()
	if len(commands) < 6 {
		t.Fatalf("make run proposes %q", commands)
	}
	expected := map[string]string{
		"curl -H":                  "hello-",
		"dig ":                     ".i.hello." + zone,
		"command=get":              `"backends"`,
		"command=callback":         "204",
		"bin/caddy ufc":            fmt.Sprintf("127.0.0.1:%d", q.demo),
		fmt.Sprint(q.admin):        "ufc_config_revision",
		fmt.Sprint(q.mesh.metrics): "ufc_config_revision",
	}
	for part, want := range expected {
		found := false
		for _, command := range commands {
			if !strings.Contains(command, part) {
				continue
			}
			found = true
			// As pasted into a new terminal, without this test's environment.
			if output := mustRun(t, nil, "", "bash", "-c", command); !strings.Contains(output, want) {
				t.Errorf("%s\nprinted\n%s\nwithout %q", command, output, want)
			}
		}
		if !found {
			t.Errorf("make run proposes no command with %q: %q", part, commands)
		}
	}

	// Ctrl-C, as a terminal sends it: to make and the program that it started.
	if err := syscall.Kill(-q.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	q.wait(30 * time.Second) // make itself ends as interrupted, whatever its program does
	if !strings.Contains(q.output(), "nothing is left running") {
		t.Errorf("make run ended like this:\n%s", q.tail(20))
	}
	q.nothingLeft()

	// Again, on the data of the first time; stopped the other way.
	q.start("bin/run")
	q.stop() // fails the test if the exit code isn't 0
	q.nothingLeft()
}

func TestRunEndsWithItsChildren(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	q.start("bin/run")
	killed := false
	for pid, command := range q.running() {
		if strings.HasPrefix(command, "bin/coredns ") {
			killed = syscall.Kill(pid, syscall.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatalf("no child coredns among %v", q.running())
	}
	if code := q.wait(30 * time.Second); code != 1 {
		t.Errorf("after a child's death: exit code %d", code)
	}
	if output := q.output(); !strings.Contains(output, "coredns ended: signal: killed") || !strings.Contains(output, "coredns.log") {
		t.Errorf("a child's death is told like this:\n%s", q.tail(30))
	}
	q.nothingLeft()

	// Killed itself, it takes the others with it.
	q.start("bin/run")
	q.kill()
	q.nothingLeft()
}

func TestRunWithTakenPorts(t *testing.T) {
	t.Parallel()
	q := newQuickstart(t)
	for _, port := range []int{q.agent, q.demo + 1} {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	packets, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", q.dns))
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()

	output, code := run(t, time.Minute, q.environment(), "", "bin/run")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		fmt.Sprintf("port %d, for the agent, is taken", q.agent), "UFC_AGENT_PORT=",
		fmt.Sprintf("port %d, for the DNS, is taken", q.dns), "UFC_DNS_PORT=",
		fmt.Sprintf("port %d, for the demo server hello-2, is taken", q.demo+1), "UFC_DEMO_PORT=",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("no %q in:\n%s", want, output)
		}
	}
	if started, _ := filepath.Glob(filepath.Join(q.folder, "*.log")); len(started) > 0 {
		t.Errorf("something was started: %q", started)
	}

	output, code = run(t, time.Minute, append(q.environment(), "UFC_AGENT_PORT=eighty"), "", "bin/run")
	if code != 1 || !strings.Contains(output, `UFC_AGENT_PORT: "eighty"`) {
		t.Errorf("a port that is none: exit code %d, %s", code, output)
	}
}
