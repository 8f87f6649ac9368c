package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTour does what the README's tour says, on a mesh of make run, and compares what it prints with what the README shows.
//
// A block of the tour is fenced as console or sh and has the comment <!-- tour --> before it. In it:
//
//	$ command           a command, in the top folder, in one shell for the whole tour; it must succeed
//	> more of it        its next line, as a shell would ask for it; a \ at a line's end goes on, too
//	output              what it prints, line by line; nothing there: not compared
//	...                 on a line alone: any lines, none too; within a line: any text
//
// The README's ports are replaced by those of the test's mesh, in commands and in outputs, but for the demo servers', which
// must be free.
func TestTour(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := parseTour(string(data))
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) == 0 {
		t.Fatal("README.md has no block with <!-- tour --> before it")
	}
	q := newQuickstart(t)
	q.demo = 9101 // as in examples/, which the tour applies again
	q.start("bin/run")
	ports := q.tourPorts()
	shell := startShell(t, q.environment())
	for _, step := range steps {
		command, want := moved(step.command, ports), moved(step.want, ports)
		output, code := shell.do(command)
		if code != 0 {
			t.Fatalf("README.md:%d: exit code %d of\n%s\nwhich printed\n%s", step.line, code, command, output)
		}
		if want != "" && !matches(want, output) {
			t.Errorf("README.md:%d: %s\nprinted\n%s\nand the README shows\n%s", step.line, command, output, want)
		}
	}
}

// tourPorts maps the defaults to this mesh's ports, but for the demo servers'.
func (q *quickstart) tourPorts() map[string]string {
	return map[string]string{
		"8888": fmt.Sprint(q.agent), "2019": fmt.Sprint(q.admin), "2379": fmt.Sprint(q.mesh.etcd), "1053": fmt.Sprint(q.dns),
		"8889": fmt.Sprint(q.callback), "9153": fmt.Sprint(q.metrics), "8181": fmt.Sprint(q.ready),
	}
}

var number = regexp.MustCompile(`\b[0-9]{4}\b`)

// moved replaces the default ports in text.
func moved(text string, ports map[string]string) string {
	return number.ReplaceAllStringFunc(text, func(found string) string {
		if port, ok := ports[found]; ok {
			return port
		}
		return found
	})
}

// tourStep is one command of the tour.
type tourStep struct {
	line    int // of README.md
	command string
	want    string // "": not compared
}

// parseTour finds the tour's commands in a Markdown text.
func parseTour(text string) ([]tourStep, error) {
	var steps []tourStep
	marked, inside := false, false
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case inside && line == "```":
			inside = false
		case inside:
			var err error
			if steps, err = addTourLine(steps, i+1, line); err != nil {
				return nil, err
			}
		case line == "<!-- tour -->":
			marked = true
		case marked && (line == "```console" || line == "```sh"):
			marked, inside = false, true
			steps = append(steps, tourStep{}) // ends the last block's output
		case marked && line != "":
			return nil, fmt.Errorf("README.md:%d: after <!-- tour --> must come a block fenced as console or sh, not %q", i+1, line)
		}
	}
	if inside || marked {
		return nil, fmt.Errorf("README.md: the last block of the tour has no end")
	}
	var kept []tourStep
	for _, step := range steps {
		if step.command != "" {
			kept = append(kept, step)
		}
	}
	return kept, nil
}

func addTourLine(steps []tourStep, number int, line string) ([]tourStep, error) {
	last := &steps[len(steps)-1]
	continued := last.want == "" && strings.HasSuffix(last.command, "\\")
	switch {
	case strings.HasPrefix(line, "$ "):
		return append(steps, tourStep{line: number, command: line[2:]}), nil
	case last.command != "" && last.want == "" && strings.HasPrefix(line, "> "):
		last.command += "\n" + line[2:]
	case continued:
		last.command += "\n" + line
	case last.command != "":
		last.want += line + "\n"
	case line != "":
		return nil, fmt.Errorf("README.md:%d: %q stands before the block's first command", number, line)
	}
	return steps, nil
}

// ellipsis is any text, and the dots that are more than three stand for themselves before or after it: 127.0.0....
var ellipsis = regexp.MustCompile(`\.{3,}`)

// matches tells whether output is as wanted says: lines are compared without blanks at their ends.
func matches(wanted, output string) bool {
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for line := range strings.Lines(strings.TrimRight(wanted, "\n")) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "..." {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		end := 0
		for _, run := range ellipsis.FindAllStringIndex(line, -1) {
			pattern.WriteString(regexp.QuoteMeta(line[end:run[0]]) + `.*` + strings.Repeat(`\.`, run[1]-run[0]-3) + `.*`)
			end = run[1]
		}
		pattern.WriteString(regexp.QuoteMeta(line[end:]) + `[ \t\r]*\n`)
	}
	pattern.WriteString(`\n*\z`)
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimRight(output, "\n") + "\n")
}

// shell is one bash for several commands, so that variables and folders last.
type shell struct {
	t     testing.TB
	input io.Writer
	lines chan string
}

// endMark stands before the exit code that ends a command's output.
const endMark = "--end-of-command--"

func startShell(t testing.TB, env []string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), env...)
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, input: input, lines: make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		input.Close()
		_ = cmd.Process.Kill()
		for range s.lines { // until the reader has ended
		}
		_ = cmd.Wait()
	})
	return s
}

// do runs one command and returns what it printed, and its exit code.
func (s *shell) do(command string) (output string, code int) {
	s.t.Helper()
	// The command may not read the next ones. What it printed may end without a line's end.
	fmt.Fprintf(s.input, "{ %s\n} </dev/null\nprintf '\\n%s %%d\\n' $?\n", command, endMark)
	limit := time.After(time.Minute)
	var text strings.Builder
	for {
		select {
		case <-limit:
			s.t.Fatalf("%s\ndid not end within a minute; it printed\n%s", command, &text)
		case line, open := <-s.lines:
			if !open {
				s.t.Fatalf("%s\nended the shell; it printed\n%s", command, &text)
			}
			if _, err := fmt.Sscanf(line, endMark+" %d", &code); err == nil {
				return strings.TrimSuffix(text.String(), "\n"), code
			}
			text.WriteString(line + "\n")
		}
	}
}

func TestParseTour(t *testing.T) {
	t.Parallel()
	steps, err := parseTour(strings.Join([]string{
		"# Title", "```console", "$ not of the tour", "```",
		"<!-- tour -->", "```console", "$ echo one", "one", "$ echo \\", "  two", "> three", "...", "", "$ true", "```", "text",
		"<!-- tour -->", "", "```sh", "$ last", "```", "",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []tourStep{
		{7, "echo one", "one\n"}, {9, "echo \\\n  two\nthree", "...\n\n"}, {14, "true", ""}, {20, "last", ""},
	}
	if !slices.Equal(steps, want) {
		t.Errorf("parseTour gave\n%#v\nwant\n%#v", steps, want)
	}
	for _, bad := range []string{
		"<!-- tour -->\ntext", "<!-- tour -->\n```go\n```", "<!-- tour -->\n```sh\n$ x\n", "<!-- tour -->\n```sh\noutput\n```", "<!-- tour -->",
	} {
		if steps, err := parseTour(bad); err == nil {
			t.Errorf("parseTour(%q) = %v, want an error", bad, steps)
		}
	}
}

func TestTourMatches(t *testing.T) {
	t.Parallel()
	f := func(want, output string, expected bool) {
		t.Helper()
		if got := matches(want, output); got != expected {
			t.Errorf("matches(%q, %q) = %t", want, output, got)
		}
	}
	f("a\nb\n", "a\nb", true)
	f("a\n", "a\nb", false)
	f("a\nb\n", "a\n", false)
	f("a\n...\n", "a\n", true)
	f("a\n...\n", "a\nb\nc\n", true)
	f("...\nc\n", "a\nb\nc\n", true)
	f("...\nc\n", "a\nb\n", false)
	f("{\"id\": \"...\"}\n", "{\"id\": \"x1\"}\n", true)
	f("{\"id\": \"...\"}\n", "{\"id\": 1}\n", false)
	f("a.c", "abc", false)
	f("127.0.0....", "127.0.0.2", true)
	f("127.0.0....", "127.0.0", false)
	f("-910....i.", "-9101.i.", true)
	f("-910....i.", "-9101i.", false)
	f("a  \n\n", "a \n", true)
	if got := moved("curl 127.0.0.1:8888/18888 -p 1053", map[string]string{"8888": "1", "1053": "2"}); got != "curl 127.0.0.1:1/18888 -p 2" {
		t.Errorf("moved gave %q", got)
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	s := startShell(t, nil)
	f := func(command, output string, code int) {
		t.Helper()
		if got, gotCode := s.do(command); got != output || gotCode != code {
			t.Errorf("%q: %q, %d; want %q, %d", command, got, gotCode, output, code)
		}
	}
	f("x=1; echo one", "one\n", 0)
	f("echo $x >&2; false", "1\n", 1)
	f("printf end", "end", 0)
	f("cat", "", 0)
	f("cat <<E\nhere\nE", "here\n", 0)
	f("true", "", 0)
}
