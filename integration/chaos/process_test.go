package chaos

import (
	"bytes"
	"context"
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

// process is a part of the mesh. It ends with the test at the latest, also when the test program is killed.
type process struct {
	t    testing.TB
	name string
	log  string // file with what it printed
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// startProcess starts a program in the top folder. env is added to this process's own. What it prints is appended to the
// log of the last one of this name.
func startProcess(t testing.TB, folder, name string, env []string, command ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, log: filepath.Join(folder, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(command[0], command[1:]...)
	p.cmd.Dir = top
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A group of its own, so that Ctrl-C reaches the test alone, which ends the rest.
	p.cmd.SysProcAttr = childOf()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	whenInterrupted(p.kill)
	return p
}

// signal sends sig to the process.
func (p *process) signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Errorf("signal %v to %s: %v", sig, p.name, err)
	}
}

// kill ends the process by SIGKILL, also one that is stopped, and returns when it is gone. One that has ended is left alone.
func (p *process) kill() {
	if !p.ended() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stillRuns is nil when the process has ended.
func (p *process) stillRuns() error {
	if !p.ended() {
		return fmt.Errorf("%s still runs", p.name)
	}
	return nil
}

// output is all that processes of this name printed so far.
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

// run runs a program to its end, in the top folder, and returns what it printed.
func run(t testing.TB, env []string, stdin string, command ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = childOf()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return output.String(), fmt.Errorf("%q: %w\n%s", command, err, output.String())
	}
	return output.String(), nil
}

// until repeats check until it returns nil, for limit. It returns how long that took; and what check said last, if it never
// was nil.
func until(limit time.Duration, check func() error) (time.Duration, error) {
	began := time.Now()
	for {
		err := check()
		took := time.Since(began)
		if err == nil {
			return took, nil
		}
		if took > limit {
			return took, fmt.Errorf("after %s still: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// mustUntil is until for what the test can't go on without.
func mustUntil(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	if _, err := until(limit, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

var (
	// nextPort walks over ports below those that the kernel gives out by itself, from a start that differs from process to
	// process, so that two runs on one machine seldom meet.
	nextPort  atomic.Int32
	portStart = sync.OnceFunc(func() { nextPort.Store(int32(12000 + os.Getpid()*37%16000)) })
)

// freePort returns a port that is free on the address for TCP and UDP, and was given out to nobody else here.
func freePort(t testing.TB, ip string) int {
	t.Helper()
	portStart()
	for range 1000 {
		port := int(nextPort.Add(1))
		if isFree(fmt.Sprintf("%s:%d", ip, port)) {
			return port
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

func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
