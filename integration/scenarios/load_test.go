package scenarios

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// runs keeps what was run: rows share it, and their plots do.
type runs struct {
	mu    sync.Mutex
	flows map[runKey]func() *flow
}

type runKey struct {
	guard string
	load  *load
	seed  int
}

func (r *runs) get(key runKey, run func() *flow) *flow {
	r.mu.Lock()
	if r.flows == nil {
		r.flows = map[runKey]func() *flow{}
	}
	once := r.flows[key]
	if once == nil {
		once = sync.OnceValue(run)
		r.flows[key] = once
	}
	r.mu.Unlock()
	return once()
}

func (r *runs) ufc(t *testing.T, l *load, seed int) *flow {
	return r.get(runKey{ufcName, l, seed}, func() *flow { return runUFCRush(t, l, uint64(seed)) })
}

func (r *runs) rival(rule rival, l *load, seed int) *flow {
	return r.get(runKey{rule.name, l, seed}, func() *flow { return runRival(rule, l, uint64(seed)) })
}

const ufcName = "UFC"

// all runs seeds of all variants.
func (r *loadRow) all(variants []*load, seeds int, run func(l *load, seed int) *flow) [][]*flow {
	flows := make([][]*flow, len(variants))
	for n, l := range variants {
		for seed := range seeds {
			flows[n] = append(flows[n], run(l, seed+1))
		}
	}
	return flows
}

// rivalSeeds are as many as the comparators get, whose figures hardly differ by the seed.
const rivalSeeds = 1

// measure fills an entry of the table.
func (r *loadRow) measure(t *testing.T, made *runs) entry {
	seeds := r.seeds
	if *long {
		seeds *= 5
	} else if !*all {
		seeds = 1
	}
	e := entry{name: r.name, wanted: r.wanted}
	ufc := r.all(r.variants, seeds, func(l *load, seed int) *flow { return made.ufc(t, l, seed) })
	f := r.judge(ufc)
	var others [][][]*flow
	if compared := r.variants[:len(r.variants)-r.ufcOnly]; *all && len(compared) > 0 {
		for _, rule := range rivals {
			others = append(others, r.all(compared, min(seeds, rivalSeeds), func(l *load, seed int) *flow { return made.rival(rule, l, seed) }))
		}
		if r.beside != nil {
			beside := r.beside(ufc, others)
			f = finding{f.shows + "; " + beside.shows, f.reached && beside.reached}
		}
	}
	e.findings = append(e.findings, f)
	for n := range rivals {
		if others == nil {
			e.findings = append(e.findings, finding{shows: "–"})
			continue
		}
		e.findings = append(e.findings, r.judge(others[n]))
		t.Logf("%s: %s", rivals[n].name, e.findings[n+1].shows)
	}
	t.Log(f.shows)
	if !f.reached && !r.open {
		t.Errorf("%s: %s; wanted: %s", r.name, f.shows, r.wanted)
	}
	return e
}

func (r *loadRow) draw(t *testing.T, made *runs) {
	for n := range r.plots {
		c := &r.plots[n]
		l := r.variants[c.variant]
		lines := []line[*flow]{{ufcName, made.ufc(t, l, 1)}}
		for _, rule := range rivals {
			lines = append(lines, line[*flow]{rule.name, made.rival(rule, l, 1)})
		}
		if err := c.draw(filepath.Join(folder, r.key+"-"+c.key+".svg"), c.title, lines); err != nil {
			t.Error(err)
		}
	}
}

// TestOverload runs the rows of the fuse.
func TestOverload(t *testing.T) {
	if raceDetector {
		t.Skip("minutes long with the race detector; TestAgentsInARush looks for races")
	}
	list := loadRows(!*all)
	entries := make([]entry, len(list))
	made := &runs{}
	t.Run("rows", func(t *testing.T) {
		for n := range list {
			t.Run(list[n].key, func(t *testing.T) {
				t.Parallel()
				entries[n] = list[n].measure(t, made)
				if *update {
					list[n].draw(t, made)
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
	for _, rule := range rivals {
		names = append(names, rule.name)
	}
	text := table(entries, names)
	fmt.Print(text)
	if !*update {
		return
	}
	var pictures strings.Builder
	for _, r := range list {
		for n := range r.plots {
			picture(&pictures, r.plots[n].title+": "+r.plots[n].y, r.key+"-"+r.plots[n].key)
		}
	}
	if err := writeReport(folder, generatedLoad, text+"\n"+strings.TrimSuffix(pictures.String(), "\n")); err != nil {
		t.Error(err)
	}
}
