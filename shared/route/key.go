package route

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Key says what of a request is its balance key: what consistent_hash hashes, and what percents and splits are stable by.
// The zero value is no key.
type Key struct {
	source keySource
	name   string
}

type keySource uint8

const (
	noKey keySource = iota
	headerKey
	queryKey
	cookieKey
	pathKey
	clientKey
)

// ParseKey reads the hash of a Balance: header:NAME, query:NAME, cookie:NAME, path or client. Anything else, which model's
// validation refuses unless it is empty, is no key.
func ParseKey(hash string) Key {
	source, name, _ := strings.Cut(hash, ":")
	switch source {
	case "header":
		return Key{headerKey, textproto.CanonicalMIMEHeaderKey(name)}
	case "query":
		return Key{queryKey, name}
	case "cookie":
		return Key{cookieKey, name}
	case "path":
		return Key{pathKey, ""}
	case "client":
		return Key{clientKey, ""}
	}
	return Key{}
}

// HashOf is the hash of a key that is given as such. A request whose key has this value has the same hash.
func HashOf(key string) uint64 { return xxhash.Sum64String(key) }

// Hash returns the hash (xxHash64) of the request's key; false if the request has none. An empty value is none: else
// everybody who isn't logged in yet would meet at one instance. Of a name that is there several times the first value
// counts, as with programs.
//
// What counts is what the value stands for: a query's is form-decoded (+ is a space), a path percent-decoded (its encoded
// slashes too: two paths of one hash do no harm here). What isn't encoded right stands for itself, since a doubtful key is
// better than none. A cookie loses the quotes around it, and is not decoded: RFC 6265 knows no encoding.
func (k Key) Hash(r *Request) (uint64, bool) {
	switch k.source {
	case headerKey:
		if k.name == "Host" {
			return xxhash.Sum64String(r.Host), r.Host != ""
		}
		if values := r.Header[k.name]; len(values) > 0 {
			return xxhash.Sum64String(values[0]), values[0] != ""
		}
	case queryKey:
		value := queryValue(r.RawQuery, k.name)
		return hashForm(value), value != ""
	case cookieKey:
		value := cookieValue(r.Header, k.name)
		return xxhash.Sum64String(value), value != ""
	case pathKey:
		return hashPath(r.Path), r.Path != ""
	case clientKey:
		return xxhash.Sum64String(r.Client), r.Client != ""
	}
	return 0, false
}

// queryValue returns the first value of a name, still encoded. Pairs are parted by & alone, and ; is no separator, as
// with browsers (WHATWG URL Standard, application/x-www-form-urlencoded) and net/url.
func queryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if equalForm(key, name) {
			return value
		}
	}
	return ""
}

// cookieValue returns the first value of a name in the Cookie headers (RFC 6265, section 4.2), without quotes around it.
// HTTP/2 may send a header for each cookie (RFC 9113, section 8.2.3). Names are case-sensitive. A value may hold what it
// shouldn't, such as commas or UTF-8: it is only hashed.
func cookieValue(header http.Header, name string) string {
	for _, line := range header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, _ := strings.Cut(textproto.TrimString(pair), "=")
			if textproto.TrimString(key) == name {
				return unquote(value)
			}
		}
	}
	return ""
}

func unquote(s string) string {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
