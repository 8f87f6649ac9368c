package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// zone is the Corefile's.
const zone = "ufc.internal"

// dug is what dig(1) said.
type dug struct {
	status     string   // NOERROR NXDOMAIN SERVFAIL ...
	answers    []string // data of the answer section, sorted: "127.0.0.1", "0 100 9101 7f000001-238d.i.hello.ufc.internal."
	additional []string // records of the additional section, in one-space columns
	text       string
}

var (
	statusLine = regexp.MustCompile(`status: ([A-Z]+)`)
	blanks     = regexp.MustCompile(`[ \t]+`)
)

// dig asks the mesh's DNS by dig(1), once.
func (m *mesh) dig(arguments ...string) dug {
	m.t.Helper()
	command := append([]string{"dig", "@127.0.0.1", "-p", fmt.Sprint(m.dns), "+tries=1", "+time=2"}, arguments...)
	text, code := run(m.t, 10*time.Second, nil, "", command...)
	if code != 0 {
		m.t.Fatalf("%q ended with exit code %d:\n%s", command, code, text)
	}
	return parseDig(text)
}

func parseDig(text string) dug {
	d := dug{text: text}
	if found := statusLine.FindStringSubmatch(text); found != nil {
		d.status = found[1]
	}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasSuffix(line, "SECTION:"):
			section = line
		case line == "" || strings.HasPrefix(line, ";"):
		case strings.Contains(section, "ANSWER"):
			columns := blanks.Split(line, 5)
			d.answers = append(d.answers, columns[len(columns)-1])
		case strings.Contains(section, "ADDITIONAL"):
			d.additional = append(d.additional, blanks.ReplaceAllString(line, " "))
		}
	}
	slices.Sort(d.answers)
	return d
}

func TestParseDig(t *testing.T) {
	d := parseDig(`
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: 1
;; QUESTION SECTION:
;a.ufc.internal.		IN	SRV

;; ANSWER SECTION:
a.ufc.internal.	0	IN	SRV	0 100 80 b.i.a.ufc.internal.

;; ADDITIONAL SECTION:
b.i.a.ufc.internal.	0	IN	A	127.0.0.1
`)
	if d.status != "NOERROR" || !slices.Equal(d.answers, []string{"0 100 80 b.i.a.ufc.internal."}) ||
		!slices.Equal(d.additional, []string{"b.i.a.ufc.internal. 0 IN A 127.0.0.1"}) {
		t.Errorf("parseDig gave %+v", d)
	}
}

// handedOut asks for a service's address so often, and returns how often each was the answer.
func (m *mesh) handedOut(name string, times int) map[string]int {
	m.t.Helper()
	counts := map[string]int{}
	for range times {
		addresses, err := m.lookup(name)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, address := range addresses {
			counts[address]++
		}
	}
	return counts
}
