package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// fault is a row of the table: what is done to the mesh, and what it promises for the case.
type fault struct {
	name     string
	short    bool // it is in the short form, too
	promises []promise
	// breaks does it, and heals it again. What is promised for a time, it measures, and what for a part, it marks.
	breaks func(r *trial)
	// prepares does what isn't part of it, before; nil: nothing.
	prepares func(r *trial)
	// possible tells why the fault can't be made here; nil: it always can.
	possible func(w *world) error
}

// trial is one fault under way, and then what is known of it.
type trial struct {
	*world
	t       *testing.T
	full    bool // at its whole length
	took    map[string]time.Duration
	marks   map[string]time.Time
	found   map[string]error
	downs   map[string][]down
	seen    []string // what took is of, in order
	remarks []string
	*phase
}

func newTrial(w *world, t *testing.T, full bool) *trial {
	return &trial{
		world: w, t: t, full: full,
		took: map[string]time.Duration{}, marks: map[string]time.Time{}, found: map[string]error{}, downs: map[string][]down{},
	}
}

// hold is how long a fault lasts: less in the short form.
func (r *trial) hold(whole time.Duration) {
	if !r.full {
		whole = min(whole/2, 3*time.Second)
	}
	time.Sleep(whole)
}

// times is how often something is repeated: a tenth in the short form.
func (r *trial) times(whole int) int {
	if !r.full {
		return whole / 10
	}
	return whole
}

// mark notes that something has happened just now.
func (r *trial) mark(what string) { r.marks[what] = time.Now() }

// down is a time in which a part is gone; it isn't back while to is zero.
type down struct{ from, to time.Time }

// gone notes that a part is about to go.
func (r *trial) gone(part string) { r.downs[part] = append(r.downs[part], down{from: time.Now()}) }

// back notes that the part is back.
func (r *trial) back(part string) { r.downs[part][len(r.downs[part])-1].to = time.Now() }

// note notes that something has taken so long. Of what is noted more than once, the longest counts.
func (r *trial) note(what string, took time.Duration) {
	if longest, known := r.took[what]; !known {
		r.seen = append(r.seen, what)
	} else if longest > took {
		return
	}
	r.took[what] = took
}

// remark notes what isn't a time.
func (r *trial) remark(format string, arguments ...any) {
	r.remarks = append(r.remarks, fmt.Sprintf(format, arguments...))
}

// measured tells what was noted, in words.
func (r *trial) measured() string {
	words := r.remarks
	for _, what := range r.seen {
		words = append(words, what+": "+rounded(r.took[what]))
	}
	return strings.Join(words, "; ")
}

// measure repeats check until it returns nil, and notes how long that has taken. That it never did is an error of the row's.
func (r *trial) measure(what string, check func() error) {
	r.t.Helper()
	took, err := until(time.Minute, check)
	if err != nil {
		r.t.Logf("%s: %v", what, err)
		took = time.Hour
	}
	r.note(what, took)
}

// finds notes whether what a promise of finds says is so; nil: it is.
func (r *trial) finds(what string, err error) { r.found[what] = err }

// promise is what must hold of a trial.
type promise struct {
	text  string
	broke func(r *trial) error // nil: kept
}

// excuse tells whether a sample may go without an answer. It never excuses a wrong one.
type excuse func(r *trial, s *sample) bool

// noneFails promises that all but the excused are answered.
func noneFails(text string, excused ...excuse) promise {
	return promise{text, func(r *trial) error {
		var bad []string
		count := 0
		for n := range r.samples {
			s := &r.samples[n]
			if s.verdict == answered || slices.ContainsFunc(excused, func(e excuse) bool { return e(r, s) }) {
				continue
			}
			if count++; count <= 3 {
				bad = append(bad, r.describe(s))
			}
		}
		if count == 0 {
			return nil
		}
		return fmt.Errorf("%d, the first:\n\t%s", count, strings.Join(bad, "\n\t"))
	}}
}

// describe tells of a sample, beside what had happened before.
func (r *trial) describe(s *sample) string {
	text := fmt.Sprintf("%s %s at %s, sent %s after the beginning, %s later %s: %s", s.sent.Format("15:04:05.000"), s.kind, s.site,
		rounded(s.sent.Sub(r.began)), rounded(s.done.Sub(s.sent)), s.verdict, s.why)
	for name, at := range r.marks {
		text += fmt.Sprintf(" (%s after: %s)", rounded(s.sent.Sub(at)), name)
	}
	return text
}

// notWrong is promised in all rows.
var notWrong = promise{"no wrong answer", func(r *trial) error {
	for n := range r.samples {
		if s := &r.samples[n]; s.verdict == wrong {
			return fmt.Errorf("%s", r.describe(s))
		}
	}
	return nil
}}

// within promises that what the trial measures by the name takes no longer.
func within(name, text string, limit time.Duration) promise {
	return promise{fmt.Sprintf("%s within %s", text, rounded(limit)), func(r *trial) error {
		took, measured := r.took[name]
		if !measured {
			return fmt.Errorf("%s was not measured", name)
		}
		if took > limit {
			return fmt.Errorf("%s: %s", name, rounded(took))
		}
		return nil
	}}
}

// finds promises what the trial finds out by itself.
func finds(what string) promise {
	return promise{what, func(r *trial) error {
		err, known := r.found[what]
		if !known {
			return errors.New("nobody has looked")
		}
		return err
	}}
}

// The excuses.

// is excuses samples of these kinds only if the excuses all do.
func is(kinds []kind, also ...excuse) excuse {
	return func(r *trial, s *sample) bool {
		if !slices.Contains(kinds, s.kind) {
			return false
		}
		for _, e := range also {
			if !e(r, s) {
				return false
			}
		}
		return true
	}
}

var posts, requests, lookups = []kind{post, kept}, []kind{get, post, kept}, []kind{lookup}

// atFirst excuses what is sent to the first site, which is the one that is broken.
func atFirst(r *trial, s *sample) bool { return s.site == r.sites[0].name }

// before excuses what was sent before a mark.
func before(mark string) excuse {
	return func(r *trial, s *sample) bool { return s.sent.Before(r.marks[mark]) }
}

// while excuses what was under way at any time at which a part was down.
func while(part string) excuse {
	return func(r *trial, s *sample) bool {
		return slices.ContainsFunc(r.downs[part], func(d down) bool { return s.sent.Before(d.to) && s.done.After(d.from) })
	}
}

// sentWhile excuses what was sent while a part was down.
func sentWhile(part string) excuse {
	return func(r *trial, s *sample) bool {
		return slices.ContainsFunc(r.downs[part], func(d down) bool { return s.sent.After(d.from) && s.sent.Before(d.to) })
	}
}

// rounded is a duration as people read it.
func rounded(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
