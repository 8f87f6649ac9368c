package route

import (
	"math"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// FuzzMatch compares the decisions of arbitrary valid routes with those of a plain reading of the rules, below.
func FuzzMatch(f *testing.F) {
	for seed := range byte(200) {
		data := make([]byte, 500)
		rand.NewChaCha8([32]byte{seed}).Read(data)
		f.Add(data, uint64(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte, key uint64) {
		c := chooser{data}
		routes := c.routes()
		table, err := Compile(routes)
		if err != nil {
			t.Fatalf("%+v: %v", routes, err)
		}
		for range 10 {
			comparePlain(t, table, routes, c.request(), key)
		}
	})
}

func comparePlain(t *testing.T, table *Table, routes []model.Route, request *Request, key uint64) {
	t.Helper()
	want := slices.IndexFunc(routes, func(r model.Route) bool {
		return plainMatch(&r.Match, request) && plainPercent(&r, key)
	})
	got := table.Match(request, key)
	if got != want {
		t.Fatalf("%+v, %+v, key %d: route %d, want %d", routes, request, key, got, want)
	}
	if got < 0 {
		return
	}
	split := table.Routes[got].Split(key)
	if want := plainSplit(&routes[got], key); split != want {
		t.Errorf("%+v, key %d: split %d, want %d", routes[got], key, split, want)
	}
}

// plainMatch is the rules of model.Match without the percent, one after the other.
func plainMatch(m *model.Match, r *Request) bool {
	if len(m.Callers) > 0 && !slices.ContainsFunc(m.Callers, func(glob string) bool {
		matched, err := path.Match(glob, r.Caller)
		return matched && err == nil
	}) {
		return false
	}
	if len(m.CallerIDCs) > 0 && !slices.Contains(m.CallerIDCs, r.CallerIDC) {
		return false
	}
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, r.Method) {
		return false
	}
	if prefix, isPrefix := strings.CutSuffix(m.Path, "*"); isPrefix {
		want, got := plainDecode(prefix), plainDecode(r.Path)
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			return false
		}
	} else if m.Path != "" && !slices.Equal(plainDecode(m.Path), plainDecode(r.Path)) {
		return false
	}
	for name, test := range m.Headers {
		if !plainHeader(r.Header.Values(name), test) {
			return false
		}
	}
	return true
}

func plainHeader(values []string, m model.StringMatch) bool {
	if m.Present != nil {
		return len(values) > 0 == *m.Present
	}
	return slices.ContainsFunc(values, func(value string) bool {
		switch {
		case m.Equal != nil:
			return value == *m.Equal
		case m.Prefix != nil:
			return strings.HasPrefix(value, *m.Prefix)
		}
		// The whole matches if the longest match at the first place is the whole: no anchors needed.
		regex := regexp.MustCompile(*m.Regex)
		regex.Longest()
		found := regex.FindStringIndex(value)
		return found != nil && found[0] == 0 && found[1] == len(value)
	})
}

var escape = regexp.MustCompile("%[0-9A-Fa-f]{2}")

// plainDecode returns what an escaped path stands for: bytes, and 256 for an encoded slash.
func plainDecode(s string) (decoded []int) {
	for s != "" {
		if found := escape.FindStringIndex(s); found != nil && found[0] == 0 {
			c, _ := strconv.ParseUint(s[1:3], 16, 8)
			if c == '/' {
				c = 256
			}
			decoded, s = append(decoded, int(c)), s[3:]
			continue
		}
		decoded, s = append(decoded, int(s[0])), s[1:]
	}
	return decoded
}

func plainPercent(r *model.Route, key uint64) bool {
	if p := r.Match.Percent; p != nil && *p < 100 {
		return math.Ldexp(float64(Uniform(key, salt(r))), -64) < *p/100
	}
	return true
}

func plainSplit(r *model.Route, key uint64) int {
	total := int64(0)
	for _, split := range r.Split {
		total += int64(split.Weight)
	}
	at := new(big.Int).SetUint64(Uniform(key, mix(salt(r))))
	at.Rsh(at.Mul(at, big.NewInt(total)), 64)
	end := int64(0)
	for i, split := range r.Split {
		if end += int64(split.Weight); at.Int64() < end {
			return i
		}
	}
	return -1
}

// chooser makes routes and requests of a fuzzer's bytes. Both draw on the same few words, so that many match.
type chooser struct{ data []byte }

// below returns a number of 0 to n-1, 0 when the bytes are used up.
func (c *chooser) below(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % n
}

// text returns one of the words or, now and then, bytes of the fuzzer's own.
func (c *chooser) text(words ...string) string {
	if c.below(8) > 0 {
		return words[c.below(len(words))]
	}
	n := min(c.below(12), len(c.data))
	s := string(c.data[:n])
	c.data = c.data[n:]
	return s
}

// texts returns up to two texts that are valid.
func (c *chooser) texts(valid func(string) bool, words ...string) (list []string) {
	for range max(c.below(4)-1, 0) {
		if s := c.text(words...); valid(s) {
			list = append(list, s)
		}
	}
	return list
}

func (c *chooser) routes() []model.Route {
	routes := make([]model.Route, 1+c.below(3))
	for i := range routes {
		r := &routes[i]
		r.Match = c.match()
		for range c.below(4) {
			r.Split = append(r.Split, model.Split{Labels: map[string]string{"version": c.text("v1", "v2")}, Weight: c.below(3) * c.below(256)})
		}
		if len(r.Split) > 0 {
			r.Split[0].Weight++
		}
	}
	return routes
}

func (c *chooser) match() model.Match {
	valid := func(s string) bool { return s != "" }
	m := model.Match{
		Callers: c.texts(func(s string) bool {
			_, err := path.Match(s, "")
			return err == nil && s != ""
		}, "video-*", "*", "*-web", "video-web", "video-?*", "[a-z]*", "*o-w*", `\v*`),
		CallerIDCs: c.texts(valid, "bj-a", "bj-b"),
		Methods:    c.texts(valid, "GET", "PUT"),
	}
	if c.below(2) > 0 {
		s := "/" + c.text("", "a", "a/", "%61", "a%2Fb", "%2f", "ä", "%C3%A4", "a%", "%zz", "%2A")
		m.Path = strings.ReplaceAll(s, "*", "%2a") + []string{"", "*"}[c.below(2)]
	}
	for range max(c.below(5)-2, 0) {
		if m.Headers == nil {
			m.Headers = make(map[string]model.StringMatch)
		}
		m.Headers[[]string{"x-a", "X-B"}[c.below(2)]] = c.headerTest()
	}
	if c.below(2) > 0 {
		m.Percent = new([]float64{0, 0.01, 5, 50, 99.99, 100}[c.below(6)])
	}
	return m
}

func (c *chooser) headerTest() model.StringMatch {
	words := []string{"", "gray", "gr", "blue", "gray\n"}
	switch c.below(4) {
	case 0:
		return model.StringMatch{Equal: new(c.text(words...))}
	case 1:
		return model.StringMatch{Prefix: new(c.text(words...))}
	case 2:
		return model.StringMatch{Present: new(c.below(2) > 0)}
	}
	s := c.text("gr[ae]y", "", "gray|blue", "g|gr", ".*", "(?i)GRAY", "(?m)^gray$", `\Qgray`, `a)|(?:b`, "(?s).+", "(?U)g.*?y?", `\bgray\b`)
	if _, err := regexp.Compile(s); err != nil {
		s = regexp.QuoteMeta(s)
	}
	if _, err := regexp.Compile(s); err != nil { // not UTF-8
		s = "gray"
	}
	return model.StringMatch{Regex: &s}
}

func (c *chooser) request() *Request {
	r := &Request{
		Caller:    c.text("video-web", "video-", "shop", "", "a/b"),
		CallerIDC: c.text("bj-a", "bj-b", ""),
		Method:    c.text("GET", "PUT", "get", ""),
		Path:      c.text("/", "/a", "/a/", "/%61", "/a/b", "/a%2Fb", "/a%2fb", "/%2F", "/ä", "/%c3%a4", "/a%", "/%zz", "/*", "", "*"),
	}
	for range c.below(4) {
		if r.Header == nil {
			r.Header = make(http.Header)
		}
		r.Header.Add([]string{"x-a", "x-b"}[c.below(2)], c.text("gray", "grey", "blue", "", "GRAY", "gray\n", "g"))
	}
	return r
}

// FuzzRegex checks that an expression in its group says what it says alone.
func FuzzRegex(f *testing.F) {
	for _, s := range []string{"", "a|ab", `\Qa`, "a)|(?:b", "(?i)a", "(?m)^a$", `a\`, "[a", "(?P<n>a)", "a{2,3}?", `\x{10FFFF}|\pL`, "(?U)a*", `\C`} {
		f.Add(s, "a")
		f.Add(s, "ab")
		f.Add(s, "a\na")
	}
	f.Fuzz(func(t *testing.T, expression, value string) {
		if len(expression) > 1024 {
			return // validation refuses it
		}
		_, wantErr := regexp.Compile(expression)
		test, err := compileHeader("a", model.StringMatch{Regex: &expression})
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: error %v, alone %v", expression, err, wantErr)
		}
		if err != nil {
			return
		}
		if got, want := test.matchValue(value), plainHeader([]string{value}, model.StringMatch{Regex: &expression}); got != want {
			t.Errorf("%q, %q: %v, want %v", expression, value, got, want)
		}
	})
}

// FuzzKey compares the extraction of keys with net/url and net/http wherever those read the input without complaint, and
// that of a query with a plain reading of the WHATWG's rules everywhere.
func FuzzKey(f *testing.F) {
	for _, name := range []string{"uid", "user id", "a&b", "ä"} {
		for _, s := range []string{
			"", "uid=4711", "a=b&uid=4711&uid=2", "%75id=%34", "user+id=a+b", "uid=a;b", "uid=%zz", "uid=&uid=1", "uid", "=", "&&", "%",
			`uid="4711"; a=b`, "a=b;uid = 1", `uid="`, "uid=ä", "uid=a b", "/a%2Fb%2", strings.Repeat("uid=%41", 30),
		} {
			f.Add(name, s, "uid=1")
		}
	}
	f.Fuzz(func(t *testing.T, name, one, two string) {
		if name == "" {
			return // validation refuses it
		}
		request := &Request{RawQuery: one, Path: one, Client: one, Header: http.Header{"Cookie": {one, two}, "X-Uid": {one, two}}}
		checkKey(t, "query:"+name, request, plainQuery(one, name))
		if values, err := url.ParseQuery(one); err == nil {
			checkKey(t, "query:"+name, request, values.Get(name))
		}
		if decoded, err := url.PathUnescape(one); err == nil {
			checkKey(t, "path", request, decoded)
		}
		checkKey(t, "client", request, one)
		checkKey(t, "header:x-uid", request, one)
		ParseKey("cookie:" + name).Hash(request) // must not panic
		_, oneErr := http.ParseCookie(one)
		_, twoErr := http.ParseCookie(two)
		if oneErr == nil && twoErr == nil {
			want := ""
			if cookie, err := (&http.Request{Header: request.Header}).Cookie(name); err == nil {
				want = cookie.Value
			}
			checkKey(t, "cookie:"+name, request, want)
		}
		if key := ParseKey("header:" + name); key.name != textproto.CanonicalMIMEHeaderKey(name) {
			t.Errorf("the key of header %q is %q", name, key.name)
		}
	})
}

func plainQuery(query, name string) string {
	decode := func(s string) string {
		return escape.ReplaceAllStringFunc(strings.ReplaceAll(s, "+", " "), func(escaped string) string {
			c, _ := strconv.ParseUint(escaped[1:], 16, 8)
			return string([]byte{byte(c)})
		})
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if decode(key) == name {
			return decode(value)
		}
	}
	return ""
}
