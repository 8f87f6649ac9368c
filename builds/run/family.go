package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	stopLimit = 15 * time.Second // for a child to end by itself, before it is killed
	tailLines = 15               // of a dead child's log, to be shown
)

// family are the child processes: they live and end together.
type family struct {
	settings *settings
	children []*child
	died     chan *child // one message for each child that ends; has room for all
}

type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	err  error         // of Wait, once done is closed
	done chan struct{} // closed when it has ended
}

func newFamily(s *settings) *family { return &family{settings: s, died: make(chan *child, 8)} }

// startAll starts Caddy and CoreDNS. The DNS doesn't wait for etcd: it takes it up when it comes.
func (f *family) startAll() error {
	if err := f.start("caddy", "bin/caddy", "run", "--config", "xcaddy.Caddyfile", "--adapter", "caddyfile"); err != nil {
		return err
	}
	return f.start("coredns", "bin/coredns", "-conf", "Corefile")
}

func (f *family) start(name string, command ...string) error {
	path := filepath.Join(f.settings.Data, name+".log")
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor of it

	c := &child{name: name, log: path, done: make(chan struct{})}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Env = f.settings.environment()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = childAttributes()
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w (is it built? make build)", name, err)
	}
	f.children = append(f.children, c)
	go func() { // ends with the child, which stop waits for
		c.err = c.cmd.Wait()
		close(c.done)
		f.died <- c
	}()
	return nil
}

// wait returns when ctx ends (nil) or a child does (an error, with the last lines of its log).
func (f *family) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case c := <-f.died:
		return c.obituary()
	}
}

// until asks ready until it is, ctx ends, or a child dies. ready itself should give up within a second or so.
func (f *family) until(ctx context.Context, what string, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; the logs are in %s", what, err, filepath.Join(f.settings.Data, "*.log"))
		case c := <-f.died:
			return c.obituary()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the children in the order opposite to their start, and returns when they are gone.
func (f *family) stop() {
	for i := len(f.children) - 1; i >= 0; i-- {
		c := f.children[i]
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // an error says that it is gone already
		select {
		case <-c.done:
			continue
		case <-time.After(stopLimit):
		}
		fmt.Fprintf(os.Stderr, "%s did not stop within %s, and is killed\n", c.name, stopLimit)
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (c *child) obituary() error {
	state := "ended"
	if c.err != nil {
		state = "ended: " + c.err.Error()
	}
	return fmt.Errorf("%s %s. The end of %s:\n%s", c.name, state, c.log, tail(c.log, tailLines))
}

// tail returns the last lines of a file, indented.
func tail(path string, count int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimRight(data, "\n")), "\n")
	lines = lines[max(0, len(lines)-count):]
	return "    " + strings.Join(lines, "\n    ")
}
