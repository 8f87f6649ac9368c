package route

import "strings"

// pathTest is the path of a match. Both the route's path and the request's are compared by what they stand for: an
// escape and the byte it encodes are the same, whether the byte needed it or not (RFC 3986, section 6.2.2.2, goes as far
// for the unreserved ones only; servers decode them all). So "/caf%c3%a9", "/caf%C3%A9" and "/café" are one path, and a
// route can't be evaded by an escape. The exception is %2F: an encoded slash is data within one segment and equals only
// itself, never a "/". A route's * is a wildcard at the end alone, and %2A a literal star.
type pathTest struct {
	escaped string // as the route has it, without the * of a prefix
	prefix  bool   // the path goes on as it likes
	simple  bool   // the route's path holds no %
}

func compilePath(s string) pathTest {
	var t pathTest
	t.escaped, t.prefix = strings.CutSuffix(s, "*")
	t.simple = strings.IndexByte(t.escaped, '%') < 0
	return t
}

// match tells whether an escaped path passes. The empty path, which is an unknown one, never does, as every route's path
// begins with a slash.
func (t *pathTest) match(path string) bool {
	// Fast: no escape can begin within what equals a text without %.
	if t.simple && strings.HasPrefix(path, t.escaped) {
		return t.prefix || len(path) == len(t.escaped)
	}
	if t.simple && strings.IndexByte(path, '%') < 0 {
		return false
	}
	return t.matchDecoded(path)
}

// matchDecoded compares byte by byte.
func (t *pathTest) matchDecoded(path string) bool {
	want := t.escaped
	for want != "" {
		if path == "" {
			return false
		}
		w, wantSize := unescape(want)
		p, pathSize := unescape(path)
		if w != p || w == '/' && wantSize != pathSize {
			return false
		}
		want, path = want[wantSize:], path[pathSize:]
	}
	return t.prefix || path == ""
}
