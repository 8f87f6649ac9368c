// Command run starts a whole mesh on one machine: Caddy with the agent and an embedded etcd, CoreDNS, and the demo services
// of examples/. It says what to try, and ends with all of it on Ctrl-C.
//
// It is started by `make run` in the top folder. Its settings are environment variables, listed in settings.go.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// startLimit is how long the mesh may take to become ready. It takes about two seconds; slow machines get more.
const startLimit = 90 * time.Second

func init() {
	// The kernel ties a child's life to the *thread* that started it (see die_linux.go), so the main goroutine, which
	// starts them all, keeps its thread.
	runtime.LockOSThread()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "make run:", err)
		os.Exit(1)
	}
}

// run returns nil when the mesh was stopped by a signal.
func run() error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	demo, err := readDemo("examples", s)
	if err != nil {
		return err
	}
	if err := checkPorts(append(s.ports(), demo.ports()...)); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()

	if err := os.MkdirAll(s.Data, 0o755); err != nil {
		return err
	}
	if err := demo.start(filepath.Join(s.Data, "demo.log")); err != nil {
		return err
	}
	defer demo.stop()

	family := newFamily(s)
	err = family.startAll()
	if err == nil {
		err = bringUp(ctx, s, demo, family)
	}
	if err == nil {
		printTour(os.Stdout, s)
		err = family.wait(ctx)
	}
	if ctx.Err() != nil {
		err = nil
		stop() // a second Ctrl-C ends this program at once, and the kernel its children
		fmt.Println("\nstopping")
	}
	family.stop()
	if err == nil {
		fmt.Println("stopped, nothing is left running")
	}
	return err
}

// bringUp registers the demo services and returns when they can be reached in both modes. It returns early when a child
// dies or ctx ends.
func bringUp(ctx context.Context, s *settings, demo *demo, family *family) error {
	fmt.Printf("starting: logs are in %s\n", filepath.Join(s.Data, "*.log"))
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()

	steps := []struct {
		what  string
		ready func() error
	}{
		{"etcd", func() error { return dial(s.Etcd) }},
		{"the demo services, registered", func() error { return demo.apply(ctx, s) }},
		{"the agent", func() error { return askAgent(ctx, s) }},
		{"the DNS", func() error { return askDNS(ctx, s) }},
	}
	for _, step := range steps {
		if err := family.until(ctx, step.what, step.ready); err != nil {
			return err
		}
		fmt.Printf("  ready: %s\n", step.what)
	}
	return nil
}
