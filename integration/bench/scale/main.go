// Command scale measures agents that hold a whole mesh: 1,000 services of 200 instances in 10 IDCs. It starts etcd, fills it,
// starts bin/caddy and bin/coredns against it, and prints what was measured beside what is wanted: the time of the first load,
// the time until a change is in force, the cost of following a thousand changes a second, and memory. With -part tier it
// follows the mesh with a thousand simulated agents instead, with and without etcd's proxies between them.
//
// It needs Linux, for /proc. Instances are addresses in 127.0.0.0/8, all of which this process answers on.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var (
	caddyBinary   = flag.String("caddy", "bin/caddy", "the binary to measure, through mode")
	corednsBinary = flag.String("coredns", "bin/coredns", "the binary to measure, bypass mode")
	part          = flag.String("part", "agents", "what to measure: agents, tier, or a list of load, change, follow, memory")
	faceNames     = flag.String("faces", "caddy,coredns", "which agents to measure")
	pairs         = flag.Int("pairs", 10, "pairs of requests without and with changes")
	each          = flag.Duration("each", time.Second, "how long each half of a pair takes")
	rateFlag      = flag.Int("rate", 1000, "changes a second")
	settle        = flag.Duration("settle", 60*time.Second, "age of an agent at which its memory counts")
	// etcd's gRPC proxy passes these on, but no agent's question for one.
	progressInterval = flag.Duration("progress", 5*time.Second, "how often etcd tells each watch that it lives")
	simulated        = flag.Int("agents", 1000, "simulated agents of -part tier")
	boards           = flag.Bool("boards", true, "whether simulated agents hear the bans of their machines, as real ones do")
	profile          = flag.String("profile", "", "where to write heap profiles of Caddy agents: PROFILE.idle and PROFILE.called")
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == etcdCommand {
		serveEtcd(os.Args[1:])
		return
	}
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	dir, err := os.MkdirTemp("", "ufc-scale")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, report: &report{}}
	defer b.stopAll()
	if b.etcd, err = b.startEtcd(); err != nil {
		return err
	}
	if b.backends, err = listen(); err != nil {
		return err
	}
	if *part == "tier" {
		err := b.tier()
		b.report.print(os.Stdout)
		return err
	}
	progress("filling etcd with %d services and %d instances", services, services*perService)
	if err := b.fill(); err != nil {
		return err
	}
	wanted := strings.Split(strings.Replace(*part, "agents", "load,change,follow,memory", 1), ",")
	for _, name := range strings.Split(*faceNames, ",") {
		if err := b.measure(name, wanted); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	b.report.print(os.Stdout)
	return nil
}

// bench is one run.
type bench struct {
	dir      string
	etcd     *server
	backends *backends
	running  []*server
	report   *report
	names    int // of directories given out
}

// folder returns a new directory.
func (b *bench) folder() (string, error) {
	b.names++
	path := filepath.Join(b.dir, fmt.Sprint(b.names))
	return path, os.Mkdir(path, 0o700)
}

// measure measures parts of one face.
func (b *bench) measure(name string, wanted []string) error {
	of, err := faceOf(name)
	if err != nil {
		return err
	}
	parts := map[string]func(face) error{"load": b.load, "change": b.change, "follow": b.follow, "memory": b.memory}
	for _, part := range wanted {
		if parts[part] == nil {
			return fmt.Errorf("no part %q", part)
		}
		progress("%s: %s", name, part)
		if err := parts[part](of); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

func progress(format string, values ...any) { fmt.Fprintf(os.Stderr, "scale: "+format+"\n", values...) }
