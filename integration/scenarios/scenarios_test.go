package scenarios

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

var (
	all    = flag.Bool("all", false, "the whole table, with all seeds and whole lengths; else a quick form of it")
	long   = flag.Bool("long", false, "as -all, with five times the seeds")
	update = flag.Bool("update", false, "as -all, and writes docs/scenarios")
)

const folder = "../../docs/scenarios"

func TestMain(m *testing.M) {
	flag.Parse()
	*all = *all || *long || *update
	debug.SetGCPercent(800) // the heap is small, and requests are made by the million
	os.Exit(m.Run())
}

// quickly is what the quick form divides the number of seeds by. Comparators have no more than comparatorSeeds in any form
// but the long one: they needn't reach anything, and a figure of theirs that is a few per cent off says the same.
const (
	quickly         = 10
	comparatorSeeds = 20
)

func (r *row) form() (variants []*setup, seeds int) {
	if *long {
		return r.variants, 5 * r.seeds
	}
	if *all {
		return r.variants, r.seeds
	}
	for _, v := range r.variants {
		short := *v
		short.after /= time.Duration(max(r.shorten, 1))
		variants = append(variants, &short)
	}
	seeds = (r.seeds + quickly - 1) / quickly
	if raceDetector {
		seeds = min(seeds, 2)
	}
	return variants, seeds
}

// run runs all seeds of all variants by run and judges them. held tells whether the test is content.
func (r *row) run(variants []*setup, seeds int, run func(*setup, uint64) *ledger) (f finding, held bool) {
	ledgers := make([][]*ledger, len(variants))
	for n, s := range variants {
		for seed := range seeds {
			ledgers[n] = append(ledgers[n], run(s, uint64(seed+1)))
		}
	}
	f = r.judge(ledgers)
	return f, f.reached || r.insists != nil && r.insists(ledgers).reached
}

// measure fills an entry of the table.
func (r *row) measure(t *testing.T) entry {
	variants, seeds := r.form()
	e := entry{name: r.name, wanted: r.wanted}
	f, held := r.run(variants, seeds, func(s *setup, seed uint64) *ledger { return runUFC(t, s, seed) })
	e.findings = append(e.findings, f)
	t.Log(f.shows)
	if !held {
		t.Errorf("%s: %s; wanted: %s", r.name, e.findings[0].shows, r.wanted)
	}
	if !*all {
		return e
	}
	if !*long {
		seeds = min(seeds, comparatorSeeds)
	}
	for _, c := range comparators {
		f, _ := r.run(variants[:len(variants)-r.ufcOnly], seeds, func(s *setup, seed uint64) *ledger {
			return runComparator(c, s, seed)
		})
		e.findings = append(e.findings, f)
	}
	return e
}

// draw draws the row's plot.
func (r *row) draw(t *testing.T) {
	s := r.plotted()
	lines := []line[*ledger]{{"UFC", runUFC(t, s, 1)}}
	for _, c := range comparators {
		lines = append(lines, line[*ledger]{c.name, runComparator(c, s, 1)})
	}
	if err := r.plot.draw(filepath.Join(folder, r.key+".svg"), r.name, lines); err != nil {
		t.Error(err)
	}
}

func TestScenarios(t *testing.T) {
	list := rows()
	entries := make([]entry, len(list))
	t.Run("rows", func(t *testing.T) {
		for n := range list {
			t.Run(list[n].key, func(t *testing.T) {
				t.Parallel()
				entries[n] = list[n].measure(t)
				if *update && list[n].plot != nil {
					list[n].draw(t)
				}
			})
		}
	})
	for n := range entries {
		if entries[n].name == "" || !*all {
			return // only some were asked for
		}
	}
	var names []string
	for _, c := range comparators {
		names = append(names, c.name)
	}
	text := table(entries, names)
	fmt.Print(text)
	if *update {
		if err := writeReport(folder, generated, text+"\n"+gallery(list)); err != nil {
			t.Error(err)
		}
	}
}

// gallery shows the plots.
func gallery(list []row) string {
	var b strings.Builder
	for _, r := range list {
		if r.plot != nil {
			picture(&b, r.name, r.key)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func picture(b *strings.Builder, name, key string) { fmt.Fprintf(b, "![%s](%s.svg)\n\n", name, key) }
