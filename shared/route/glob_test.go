package route

import (
	"path"
	"testing"
)

func TestGlobs(t *testing.T) {
	f := func(pattern string, shape globShape, matches, others []string) {
		t.Helper()
		globs := CompileGlobs([]string{pattern})
		if got := globs.globs[0].shape; got != shape {
			t.Errorf("%q: shape %d, want %d", pattern, got, shape)
		}
		for _, name := range matches {
			if !globs.Match(name) {
				t.Errorf("%q doesn't match %q", pattern, name)
			}
		}
		for _, name := range others {
			if globs.Match(name) {
				t.Errorf("%q matches %q", pattern, name)
			}
		}
	}
	f("shop", globLiteral, []string{"shop"}, []string{"", "sho", "shop2", "Shop"})
	f("a]b", globLiteral, []string{"a]b"}, []string{"ab"})
	f("*", globPrefix, []string{"", "shop", "ä"}, []string{"a/b", "/"})
	f("video-*", globPrefix, []string{"video-", "video-web"}, []string{"video", "xvideo-web", "video-a/b"})
	f("a/*", globPrefix, []string{"a/", "a/b"}, []string{"a", "a/b/c"})
	f("*-web", globSuffix, []string{"-web", "video-web"}, []string{"web", "video-web2", "a/b-web", ""})
	f("*a", globSuffix, []string{"a", "aa"}, []string{"", "b"})
	f("**", globOther, []string{"", "a"}, []string{"a/b"})
	f("*-x-*", globOther, []string{"a-x-b", "-x-"}, []string{"-x", "a-y-b"})
	f("video-?", globOther, []string{"video-1", "video-ä"}, []string{"video-", "video-12"})
	f("shop[0-9]", globOther, []string{"shop1"}, []string{"shop", "shopa"})
	f(`a\*`, globOther, []string{"a*"}, []string{"ab", `a\b`})
	f(`a\b`, globOther, []string{"ab"}, []string{`a\b`})
	f("[", globOther, nil, []string{"[", ""}) // malformed
	f("a[", globOther, nil, []string{"a[", "a"})
	f("", globLiteral, []string{""}, []string{"a"})
}

func TestGlobsAny(t *testing.T) {
	globs := CompileGlobs([]string{"shop", "video-*"})
	for name, want := range map[string]bool{"shop": true, "video-1": true, "audio": false} {
		if got := globs.Match(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
	for _, none := range []Globs{{}, CompileGlobs(nil), CompileGlobs([]string{})} {
		if none.Match("") || none.Match("shop") {
			t.Error("no globs match something")
		}
	}
}

// FuzzGlob checks the fast tests against the interpreter that they stand in for.
func FuzzGlob(f *testing.F) {
	for _, pattern := range []string{"", "*", "a", "a*", "*a", "**", "*a*", `\*`, "[a-c]*", "a/*", "*/a", "ä?", "[", `a\`} {
		for _, name := range []string{"", "a", "aa", "a/a", "/", "ä", "*", "ab"} {
			f.Add(pattern, name)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		want, err := path.Match(pattern, name)
		if got := CompileGlobs([]string{pattern}).Match(name); got != (want && err == nil) {
			t.Errorf("%q, %q: %v; path.Match says %v, error %v", pattern, name, got, want, err)
		}
	})
}
