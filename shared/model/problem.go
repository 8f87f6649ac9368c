package model

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Problem is one fault of a document: where it is, and what would be right.
type Problem struct {
	File     string // as given to Read; empty for a value of etcd
	Line     int    // from 1; 0: unknown
	Document string // such as `service "pcs-upload"`; empty before the document's kind is known
	Path     string // such as routes[0].match.headers.x-a.regex; empty: the document as a whole
	Message  string
}

// Error writes the problem on one line: `FILE:LINE: service "pcs-upload": ban.max_ratio: 1.2 is not between 0 and 1`.
// The line is left out without a file, since values of etcd rarely have more than one.
func (p Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(printable(p.File))
		if p.Line > 0 {
			b.WriteString(":" + strconv.Itoa(p.Line))
		}
		b.WriteString(": ")
	}
	if p.Document != "" {
		b.WriteString(p.Document + ": ")
	}
	if p.Path != "" {
		b.WriteString(printable(p.Path) + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is all that is wrong, in the order of the lines.
type Problems []Problem

// Error writes one problem per line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// maxProblems is how many faults of one document are told. Nobody reads more, and a wrong file may hold a million.
const maxProblems = 100

// report gathers the problems of one file or value.
type report struct {
	file     string
	document string // the document being read
	start    int    // index of its first problem
	problems Problems
}

// begin says which document the problems to come belong to.
func (r *report) begin(document string) {
	r.document, r.start = document, len(r.problems)
}

// full tells whether nothing more is told of the document.
func (r *report) full() bool { return len(r.problems)-r.start > maxProblems }

// add notes one problem. What hangs on a value that was refused already is left out, since it only echoes that.
func (r *report) add(line int, path, format string, args ...any) {
	if r.full() {
		return
	}
	known := r.problems[r.start:]
	for i := range known {
		if known[i].Path != "" && covers(known[i].Path, path) {
			return
		}
	}
	p := Problem{File: r.file, Line: line, Document: r.document, Path: path, Message: fmt.Sprintf(format, args...)}
	if len(known) == maxProblems {
		p.Path, p.Message = "", "more problems follow, they are left out"
	}
	r.problems = append(r.problems, p)
}

// syntax notes what keeps a text from being read at all.
func (r *report) syntax(err error) {
	line := 0
	if syntax, ok := errors.AsType[*syntaxError](err); ok {
		line = syntax.line
	}
	r.add(line, "", "%v", err)
}

// err returns what was found as an error, nil if nothing was.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return r.problems
}

// covers tells whether path is outer, or lies within it.
func covers(outer, path string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// maxQuoted bounds what an error repeats of a value, in bytes.
const maxQuoted = 100

// quote writes a value for an error: in quotes, control characters escaped, cut when it is long.
func quote(value string) string {
	if len(value) <= maxQuoted {
		return strconv.Quote(value)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(value[cut]) {
		cut--
	}
	return strconv.Quote(value[:cut]) + "…"
}

// printable makes a path or file name fit for one line of a log: keys are free text, and might forge one.
func printable(s string) string {
	if len(s) > 2*maxQuoted {
		s = s[:2*maxQuoted] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
