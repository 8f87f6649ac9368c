package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a program that a test started. It ends with the test at the latest.
type process struct {
	t    testing.TB
	name string
	log  string // file with what it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait, once done is closed
}

// startProcess starts a program in the top folder. env is added to this process's own.
func startProcess(t testing.TB, name string, env []string, command ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{t: t, name: name, log: log.Name(), done: make(chan struct{})}
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir = top
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A group of its own: a test can signal a program with its children, as a terminal does.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.tail(60))
		}
	})
	return p
}

// signal sends sig to the process.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("signal %v to %s: %v", sig, p.name, err)
	}
}

// kill ends the process by SIGKILL, and returns when it is gone. One that has ended is left alone.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends the process by SIGTERM and fails the test if it isn't gone, with exit code 0, in time.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.wait(20 * time.Second); code != 0 {
		p.t.Errorf("%s ended with exit code %d after SIGTERM", p.name, code)
	}
}

// wait waits for the process's end and returns its exit code, -1 if a signal ended it.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s did not end within %s", p.name, limit)
	}
	return p.cmd.ProcessState.ExitCode()
}

// output is all that the process printed so far.
func (p *process) output() string {
	data, err := os.ReadFile(p.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Error(err)
	}
	return string(data)
}

func (p *process) tail(count int) string {
	lines := strings.Split(strings.TrimRight(p.output(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// run runs a program to its end, in the top folder, with stdin, and returns what it printed and its exit code.
func run(t testing.TB, limit time.Duration, env []string, stdin string, command ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var buffer bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buffer, &buffer
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	if err := cmd.Start(); err != nil {
		timer.Stop()
		t.Fatalf("starting %q: %v", command, err)
	}
	err := cmd.Wait()
	if !timer.Stop() {
		t.Fatalf("%q did not end within %s; it printed:\n%s", command, limit, &buffer)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", command, err)
	}
	return buffer.String(), cmd.ProcessState.ExitCode()
}

// mustRun is run for programs that have to succeed.
func mustRun(t testing.TB, env []string, stdin string, command ...string) string {
	t.Helper()
	output, code := run(t, time.Minute, env, stdin, command...)
	if code != 0 {
		t.Fatalf("%q ended with exit code %d:\n%s", command, code, output)
	}
	return output
}

// eventually repeats check until it returns nil, for limit.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// always repeats check for as long as period, and fails the test at its first error.
func always(t testing.TB, period time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(period); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	// nextPort walks over ports below those that the kernel gives out by itself, from a start that differs from process
	// to process, so that two runs on one machine seldom meet.
	nextPort  atomic.Int32
	portStart = sync.OnceFunc(func() { nextPort.Store(int32(12000 + os.Getpid()*37%16000)) })
)

// freePort returns a port that is free on the addresses (default 127.0.0.1), for TCP and UDP.
func freePort(t testing.TB, addresses ...string) int { return freePorts(t, 1, addresses...) }

// freePorts returns the first of so many ports in a row, all free and none given to another test.
func freePorts(t testing.TB, count int, addresses ...string) int {
	t.Helper()
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1"}
	}
	portStart()
	for range 1000 {
		first := int(nextPort.Add(int32(count))) - count + 1
		free := true
		for _, address := range addresses {
			for port := first; port < first+count; port++ {
				free = free && isFree(fmt.Sprintf("%s:%d", address, port))
			}
		}
		if free {
			return first
		}
	}
	t.Fatal("no free port found")
	return 0
}

func isFree(address string) bool {
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	udp.Close()
	return true
}

// writeFile writes a file in a folder and returns its path.
func writeFile(t testing.TB, folder, name, contents string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
