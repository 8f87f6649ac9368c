package chaos

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// faults is the whole table, in its order.
func faults() []fault {
	return slices.Concat(etcdFaults(), siteFaults(), backendFaults(), lossFaults())
}

// TestChaos breaks one part after another, under load, and waits in between until all is as before.
func TestChaos(t *testing.T) {
	undoWhenInterrupted(t)
	w := newWorld(t)
	t.Cleanup(w.showLogs)
	t.Cleanup(w.stalls.watch())
	stop := startLoad(t.Context(), w)
	defer stop()
	w.say("%s", w.untilSteady())
	rows := faults()
	var entries []entry
	for n := range rows {
		if row := &rows[n]; *all || row.short {
			if e := w.row(t, row); e.name != "" {
				entries = append(entries, e)
			}
		}
	}
	w.report(entries)
}

// say tells how far it is.
func (w *world) say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%5s  %s\n", time.Since(w.started).Round(time.Second), fmt.Sprintf(format, arguments...))
}

// row makes one fault, as a test of its own, and waits until the mesh is steady again. The entry has no name if -run asks
// for other rows.
func (w *world) row(t *testing.T, row *fault) (e entry) {
	t.Helper()
	t.Run(row.name, func(t *testing.T) {
		if row.possible != nil {
			if err := row.possible(w); err != nil {
				e = entry{name: row.name, skipped: err}
				t.Skip(err)
			}
		}
		w.say("%s …", row.name)
		e = w.try(t, row)
		w.say("        %s", e.summary())
	})
	if e.name != "" && e.skipped == nil {
		w.say("        %s", w.untilSteady())
	}
	return e
}

// tries is how often a fault is made where the machine gets in the way.
const tries = 5

// try makes one fault, and judges what came of it. A promise that isn't kept while the machine itself stood still says nothing
// of the mesh: then it is made again.
func (w *world) try(t *testing.T, row *fault) entry {
	t.Helper()
	for turn := 1; ; turn++ {
		r := newTrial(w, t, *all)
		if row.prepares != nil {
			row.prepares(r)
			w.untilSteady()
		}
		w.ledger.turn()
		row.breaks(r)
		time.Sleep(500 * time.Millisecond)
		r.phase = w.ledger.turn()
		e := row.judge(r)
		if stall := w.stalls.longest(r.began); !e.kept && stall > 0 && turn < tries && !t.Failed() {
			t.Logf("the machine stood still for %s, so this is made again: %s", rounded(stall), strings.Join(e.broken, "\n"))
			w.untilSteady()
			continue
		}
		for _, broken := range e.broken {
			t.Errorf("not kept: %s", broken)
		}
		return e
	}
}

// judge holds the promises against what was sampled.
func (f *fault) judge(r *trial) entry {
	e := entry{name: f.name, counts: r.count(), requests: len(r.samples), measured: r.measured()}
	e.gap, e.stream = r.longestGap()
	if e.requests < 100 {
		e.broken = append(e.broken, fmt.Sprintf("only %d samples, which proves nothing", e.requests))
	}
	for _, p := range append(f.promises, notWrong) {
		if p.text != notWrong.text {
			e.promises = append(e.promises, p.text)
		}
		if err := p.broke(r); err != nil {
			e.broken = append(e.broken, fmt.Sprintf("%s: %v", p.text, err))
		}
	}
	e.kept = len(e.broken) == 0 && !r.t.Failed()
	return e
}

// report writes the table, where that was asked for and all of it is there.
func (w *world) report(entries []entry) {
	text := table(entries)
	fmt.Print("\n" + text)
	if !*update {
		return
	}
	if len(entries) < len(faults()) {
		w.t.Log("only some of the faults: the report is left as it was")
		return
	}
	if err := writeReport("../../docs/reliability.md", text); err != nil {
		w.t.Error(err)
	}
}

// showLogs shows what the parts said last, if the test failed.
func (w *world) showLogs() {
	if !w.t.Failed() {
		return
	}
	parts := []*process{}
	for _, m := range w.etcd.members {
		parts = append(parts, m.process)
	}
	for _, s := range w.sites {
		parts = append(parts, s.agent, s.dns)
	}
	for _, p := range parts {
		if p != nil {
			w.t.Logf("the end of the log of %s:\n%s", p.name, strings.TrimSpace(p.tail(25)))
		}
	}
}
