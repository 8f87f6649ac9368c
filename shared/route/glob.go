package route

import (
	"path"
	"strings"
)

// Globs are compiled patterns over names, in the syntax of path.Match.
type Globs struct {
	globs []glob
}

// glob is one pattern. Nearly all are a name, or a name's beginning or end and one star; those need no interpreter.
type glob struct {
	shape globShape
	text  string // without the star of a prefix or suffix
}

type globShape uint8

const (
	globOther   globShape = iota // left to path.Match
	globLiteral                  // name
	globPrefix                   // video-*, or * alone
	globSuffix                   // *-web
)

// CompileGlobs compiles patterns. One that is malformed, which model's validation refuses, matches nothing.
func CompileGlobs(globs []string) Globs {
	compiled := make([]glob, len(globs))
	for i, pattern := range globs {
		compiled[i] = compileGlob(pattern)
	}
	return Globs{compiled}
}

func compileGlob(pattern string) glob {
	const special = `*?[\`
	if !strings.ContainsAny(pattern, special) {
		return glob{globLiteral, pattern}
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok && !strings.ContainsAny(prefix, special) {
		return glob{globPrefix, prefix}
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok && !strings.ContainsAny(suffix, special) {
		return glob{globSuffix, suffix}
	}
	return glob{globOther, pattern}
}

// Match tells whether one of the patterns matches the name. No patterns match nothing.
func (g Globs) Match(name string) bool {
	for i := range g.globs {
		if g.globs[i].match(name) {
			return true
		}
	}
	return false
}

// match obeys path.Match, whose star stops at a slash.
func (g *glob) match(name string) bool {
	switch g.shape {
	case globLiteral:
		return name == g.text
	case globPrefix:
		return strings.HasPrefix(name, g.text) && strings.IndexByte(name[len(g.text):], '/') < 0
	case globSuffix:
		return strings.HasSuffix(name, g.text) && strings.IndexByte(name[:len(name)-len(g.text)], '/') < 0
	}
	matched, err := path.Match(g.text, name)
	return matched && err == nil
}
