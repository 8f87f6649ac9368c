package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

var (
	all    = flag.Bool("all", false, "every fault at its whole length; else a short form of the most telling ones")
	update = flag.Bool("update", false, "as -all, and writes docs/reliability.md")
)

// top is the project's top folder.
var top string

// role is the variable that turns this test program into a part of the mesh.
const role = "UFC_CHAOS_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "etcd":
		os.Exit(serveMember())
	case "backend":
		os.Exit(serveBackend())
	}
	if runtime.GOOS != "linux" {
		fmt.Println("chaos needs Linux: addresses below 127.0.0.0/8, and children that end with their parent; skipped")
		return
	}
	flag.Parse()
	*all = *all || *update
	var err error
	if top, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, binary := range []string{"bin/caddy", "bin/coredns"} {
		if _, err := os.Stat(filepath.Join(top, binary)); err != nil {
			fmt.Fprintf(os.Stderr, "%v: these tests need the binaries; run them by make chaos or make integration\n", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// undo is what has to be done when the test is interrupted, the last one first. Children would end by themselves, but not
// before their files are removed.
var undo struct {
	sync.Mutex
	steps []func()
}

func whenInterrupted(step func()) {
	undo.Lock()
	defer undo.Unlock()
	undo.steps = append(undo.steps, step)
}

// undoWhenInterrupted makes Ctrl-C undo what is left, until the test ends.
func undoWhenInterrupted(t *testing.T) {
	signals := make(chan os.Signal, 1)
	ended := make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-signals:
			undo.Lock()
			for _, step := range slices.Backward(undo.steps) {
				step()
			}
			os.Exit(130)
		case <-ended:
		}
	})
	t.Cleanup(func() {
		signal.Stop(signals)
		close(ended)
		waiting.Wait()
	})
}
