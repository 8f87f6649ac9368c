package chaos

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The judge is judged: what isn't kept must be seen.

// madeUp is a trial of two sites in which what was sent, by its time after the beginning, became of what it says.
func madeUp(samples ...sample) *trial {
	w := &world{members: newMembers(), sites: []*site{{name: "first"}, {name: "second"}}}
	r := newTrial(w, nil, true)
	r.phase = &phase{began: atSecond(0), ended: atSecond(10), samples: samples}
	return r
}

func atSecond(seconds float64) time.Time {
	return time.Unix(1_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func sent(site string, kind kind, from, to float64, verdict verdict) sample {
	return sample{site: site, kind: kind, sent: atSecond(from), done: atSecond(to), verdict: verdict, why: "made up"}
}

func TestPromises(t *testing.T) {
	f := func(name string, p promise, kept bool, r *trial) {
		t.Helper()
		if err := p.broke(r); (err == nil) != kept {
			t.Errorf("%s: kept should be %t: %v", name, kept, err)
		}
	}
	none := noneFails("none")
	f("all answered", none, true, madeUp(sent("first", get, 1, 2, answered)))
	for _, v := range []verdict{failed, wrong, lost} {
		f("a GET "+v.String(), none, false, madeUp(sent("first", get, 1, 2, v)))
	}
	f("a wrong one", notWrong, false, madeUp(sent("second", lookup, 1, 2, wrong)))
	f("a failed one isn't wrong", notWrong, true, madeUp(sent("second", lookup, 1, 2, failed)))

	// A part of the first site is down from the 3rd to the 5th second.
	excused := noneFails("none but", is(requests, atFirst, while("agent")))
	during := func(s sample) *trial {
		r := madeUp(s)
		r.downs["agent"] = []down{{atSecond(0), atSecond(1)}, {atSecond(3), atSecond(5)}}
		return r
	}
	f("sent while it is down", excused, true, during(sent("first", post, 4, 4.5, lost)))
	f("under way when it goes", excused, true, during(sent("first", get, 2.9, 3.1, lost)))
	f("over before", excused, false, during(sent("first", get, 2, 2.5, lost)))
	f("sent when it is back", excused, false, during(sent("first", get, 5.1, 5.5, lost)))
	f("at the other site", excused, false, during(sent("second", get, 4, 4.5, lost)))
	f("a question", excused, false, during(sent("first", lookup, 4, 4.5, lost)))

	graceful := noneFails("none but new ones", is(requests, sentWhile("agent")))
	f("sent when it ends", graceful, true, during(sent("first", get, 3.1, 3.2, lost)))
	f("in flight when it ends", graceful, false, during(sent("first", get, 2.9, 3.1, lost)))

	early := noneFails("none but early", is(posts, before("gone")))
	marked := func(s sample) *trial {
		r := madeUp(s)
		r.marks["gone"] = atSecond(3)
		return r
	}
	f("a POST before", early, true, marked(sent("first", post, 2.9, 4, failed)))
	f("a POST after", early, false, marked(sent("first", post, 3.1, 4, failed)))
	f("a GET before", early, false, marked(sent("first", get, 2.9, 4, failed)))
	f("the mark was never made", early, false, madeUp(sent("first", post, 2.9, 4, failed)))

	took := func(took ...time.Duration) *trial {
		r := madeUp()
		for _, d := range took {
			r.note("it", d)
		}
		return r
	}
	soon := within("it", "it is done", time.Second)
	f("in time", soon, true, took(time.Second))
	f("once late", soon, false, took(time.Millisecond, 2*time.Second, time.Millisecond))
	f("not measured", soon, false, took())

	found := madeUp()
	f("nobody looked", finds("that"), false, found)
	found.finds("that", os.ErrNotExist)
	f("found to be otherwise", finds("that"), false, found)
	found.finds("that", nil)
	f("found", finds("that"), true, found)
}

func TestLongestGap(t *testing.T) {
	r := madeUp(
		sent("first", get, 0, 1, answered), sent("first", get, 1, 2, failed), sent("first", get, 3, 4, answered),
		sent("first", get, 4, 12, answered), // too late to end the gap at the phase's end
		sent("second", lookup, 0, 5, answered),
	)
	if gap, stream := r.longestGap(); gap != 6*time.Second || stream != "GET, first" {
		t.Errorf("the longest gap is %s, of %q", gap, stream)
	}
	if counts := r.count(); counts != [...]int{answered: 4, failed: 1, wrong: 0, lost: 0} {
		t.Errorf("counted %v", counts)
	}
}

// What is sent in a phase belongs to it, though it is answered in the next one.
func TestLedger(t *testing.T) {
	l := newLedger()
	p := l.begin()
	one := sent("first", get, 0, 1, answered)
	turned := make(chan *phase)
	go func() { turned <- l.turn() }()
	for l.begin() == p { // until the phase has turned
		l.end(p, &one)
	}
	late := sent("first", get, 0, 20, lost)
	l.end(p, &late)
	if last := <-turned; last != p || last.samples[len(last.samples)-1].verdict != lost {
		t.Errorf("the phase's last sample is not the late one: %v", last.samples)
	}
}

func TestMembers(t *testing.T) {
	m := newMembers()
	m.add("one", "127.7.2.1")
	m.remove("one", "first", atSecond(5))
	f := func(name, site string, at float64, allowed bool) {
		t.Helper()
		if err := m.allowed(name, site, atSecond(at)); (err == nil) != allowed {
			t.Errorf("%s at %s after %v s: allowed should be %t: %v", name, site, at, allowed, err)
		}
	}
	f("one", "first", 4.9, true)
	f("one", "first", 5.1, false)
	f("one", "second", 5.1, true)
	f("two", "first", 1, false)
	if _, err := m.named("127.7.2.2"); err == nil {
		t.Error("a stranger's address has a name")
	}
	if _, err := checkAnswer("one /7 body", "/7", "body"); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"one /8 body", "one /7 bod", "", "one"} {
		if _, err := checkAnswer(text, "/7", "body"); err == nil {
			t.Errorf("%q is taken for the answer", text)
		}
	}
}

func TestStalls(t *testing.T) {
	var s stalls
	s.note(atSecond(1), 2*time.Second)
	s.note(atSecond(3), atLeast-1)
	s.note(atSecond(5), atLeast)
	for after, want := range map[float64]time.Duration{0: 2 * time.Second, 2: atLeast, 6: 0} {
		if got := s.longest(atSecond(after)); got != want {
			t.Errorf("the longest after %v s is %s, want %s", after, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(path, []byte("before\n"+generated+"old\n"+generatedEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries := []entry{
		{name: "kept", requests: 12, kept: true, promises: []string{"a", "b"}},
		{name: "broken"},
		{name: "skipped", skipped: os.ErrPermission},
	}
	if err := writeReport(path, table(entries)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{"before\n", "| kept | 12 |", "| a; b | yes |", "| **no** |", "| not tried |", "\nafter\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old table is still there")
	}
	if err := os.WriteFile(path, []byte("no markers"), 0o600); err != nil {
		t.Fatal(err)
	}
	if writeReport(path, "") == nil {
		t.Error("a file without markers is written")
	}
}
