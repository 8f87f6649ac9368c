package route

import (
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
)

// headerTest is the test of one header. A header that is there several times passes if any one of its values does: it is
// a list whose elements came on lines of their own (RFC 9110, section 5.3), and which of them stands first says nothing.
// A line is not split at its commas. A header that is absent has no value, not an empty one: it passes only
// `present: false`.
type headerTest struct {
	name  string // canonical
	kind  headerKind
	text  string         // of equal and prefix
	regex *regexp.Regexp // anchored
}

type headerKind uint8

const (
	headerAbsent headerKind = iota
	headerPresent
	headerEqual
	headerPrefix
	headerRegex
)

// compileHeaders compiles the tests in the order of their names. Its error begins with the path of the fault.
func compileHeaders(headers map[string]model.StringMatch) ([]headerTest, error) {
	var tests []headerTest
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		test, err := compileHeader(name, headers[name])
		if err != nil {
			return nil, fmt.Errorf("headers.%s%w", name, err)
		}
		tests = append(tests, test)
	}
	return tests, nil
}

func compileHeader(name string, m model.StringMatch) (headerTest, error) {
	t := headerTest{name: textproto.CanonicalMIMEHeaderKey(name)}
	given := 0
	if m.Equal != nil {
		given++
		t.kind, t.text = headerEqual, *m.Equal
	}
	if m.Prefix != nil {
		given++
		t.kind, t.text = headerPrefix, *m.Prefix
	}
	if m.Regex != nil {
		given++
		regex, err := anchored(*m.Regex)
		if err != nil {
			return t, fmt.Errorf(".regex: %w", err)
		}
		t.kind, t.regex = headerRegex, regex
	}
	if m.Present != nil {
		given++
		if *m.Present {
			t.kind = headerPresent
		}
	}
	if given != 1 {
		return t, errors.New(": exactly one of equal, prefix, regex, present is needed")
	}
	return t, nil
}

// anchored compiles an expression that must match the whole of a text. It is parsed alone and written again before it is
// put into a group, since what is typed may reach out of the group: "a)|(?:b" closes it, and "\Qa" quotes its end.
func anchored(expression string) (*regexp.Regexp, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + parsed.String() + `)\z`)
}

// holds tells whether a request passes.
func (t *headerTest) holds(r *Request) bool {
	var values []string
	if t.name != "Host" {
		values = r.Header[t.name]
	} else if r.Host != "" {
		values = []string{r.Host}
	}
	switch t.kind {
	case headerAbsent:
		return len(values) == 0
	case headerPresent:
		return len(values) > 0
	}
	for _, value := range values {
		if t.matchValue(value) {
			return true
		}
	}
	return false
}

func (t *headerTest) matchValue(value string) bool {
	switch t.kind {
	case headerEqual:
		return value == t.text
	case headerPrefix:
		return strings.HasPrefix(value, t.text)
	}
	return t.regex.MatchString(value)
}
