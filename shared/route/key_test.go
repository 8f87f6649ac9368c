package route

import (
	"net/http"
	"strings"
	"testing"
)

// checkKey checks that a key's hash is that of a value, or that there is none if the value is empty.
func checkKey(t *testing.T, hash string, request *Request, want string) {
	t.Helper()
	got, ok := ParseKey(hash).Hash(request)
	if ok != (want != "") || ok && got != HashOf(want) {
		t.Errorf("%s of %.200q, %.200q, %.200q: hash %#x, %v; want that of %.200q, %#x", hash, request.RawQuery, request.Header, request.Path, got, ok, want, HashOf(want))
	}
}

func TestKeyHeader(t *testing.T) {
	f := func(name string, header http.Header, want string) {
		t.Helper()
		checkKey(t, "header:"+name, &Request{Header: header}, want)
	}
	f("X-Uid", http.Header{"X-Uid": {"4711"}}, "4711")
	f("x-UID", http.Header{"X-Uid": {"4711"}}, "4711")
	f("X-Uid", http.Header{"X-Uid": {"4711", "4712"}}, "4711")
	f("X-Uid", http.Header{"X-Uid": {"47%31"}}, "47%31")
	f("X-Uid", http.Header{"X-Uid": {"", "4711"}}, "")
	f("X-Uid", http.Header{"X-Uid": {}}, "")
	f("X-Uid", http.Header{"X-Other": {"4711"}}, "")
	f("X-Uid", nil, "")
}

func TestKeyQuery(t *testing.T) {
	f := func(name, query, want string) {
		t.Helper()
		checkKey(t, "query:"+name, &Request{RawQuery: query}, want)
	}
	long := strings.Repeat("ä", 100)
	f("uid", "uid=4711", "4711")
	f("uid", "a=b&&uid=4711&c", "4711")
	f("uid", "uid=4711&uid=4712", "4711")
	f("uid", "%75%69d=4711", "4711")
	f("uid", "uid=47%311", "4711")
	f("uid", "uid=a+b", "a b")
	f("uid", "uid=a%20b", "a b")
	f("uid", "uid=a%2Bb", "a+b")
	f("uid", "uid=a=b", "a=b")
	f("uid", "uid=a;b", "a;b")
	f("uid", "uid=%zz%4", "%zz%4")
	f("uid", "uid=%", "%")
	f("uid", "uid="+long, long)
	f("uid", "uid="+strings.Repeat("%c3%A4", 100), long) // longer than a piece
	f("user id", "user+id=1", "1")
	f("user id", "user%20id=1", "1")
	f("a&b=c", "a%26b%3dc=1", "1")
	f("größe", "gr%C3%B6%C3%9Fe=1", "1")
	f("größe", "größe=1", "1")
	f("uid", "", "")
	f("uid", "uid", "")
	f("uid", "uid=", "")
	f("uid", "uid=&uid=4711", "")
	f("uid", "UID=4711", "")
	f("uid", "uidd=4711&xuid=4711&ui=d", "")
	f("uid", "a=uid=4711", "")
}

func TestKeyCookie(t *testing.T) {
	f := func(name, want string, cookies ...string) {
		t.Helper()
		checkKey(t, "cookie:"+name, &Request{Header: http.Header{"Cookie": cookies}}, want)
	}
	f("uid", "4711", "uid=4711")
	f("uid", "4711", "a=b; uid=4711; c=d")
	f("uid", "4711", "a=b;uid=4711")
	f("uid", "4711", "a=b", "uid=4711")
	f("uid", "4711", "uid=4711; uid=4712", "uid=4713")
	f("uid", "4711", `uid="4711"`)
	f("uid", "4711", " ;; \t uid =4711 \t")
	f("uid", " 4711", "uid= 4711") // as net/http has it
	f("uid", "a=b", "uid=a=b")
	f("uid", "47%31", "uid=47%31")
	f("uid", `{"a":1}`, `uid={"a":1}`)
	f("uid", `"`, `uid="`)
	f("uid", `"a`, `uid="a`)
	f("uid", "ä", "uid=ä")
	f("uid", "")
	f("uid", "", "", ";", "=")
	f("uid", "", "uid")
	f("uid", "", "uid=")
	f("uid", "", `uid=""`)
	f("uid", "", "uid=; uid=4711")
	f("uid", "", "UID=4711; xuid=1; uidd=1; $uid=1")
	f("uid", "", "a=uid=4711")
}

func TestKeyPathAndClient(t *testing.T) {
	f := func(hash string, request *Request, want string) {
		t.Helper()
		checkKey(t, hash, request, want)
	}
	f("path", &Request{Path: "/a/b", RawQuery: "c=d"}, "/a/b")
	f("path", &Request{Path: "/%61/b%2"}, "/a/b%2")
	f("path", &Request{Path: "/a%2fb+c"}, "/a/b+c")
	f("path", &Request{Client: "10.0.0.1"}, "")
	f("client", &Request{Client: "10.0.0.1"}, "10.0.0.1")
	f("client", &Request{Path: "/a"}, "")
	for _, none := range []string{"", "header", "host", "header-x", "Path"} {
		if _, ok := ParseKey(none).Hash(exampleRequest()); ok {
			t.Errorf("%q is a key", none)
		}
	}
	if ParseKey("") != (Key{}) {
		t.Error("no hash is not the zero key")
	}
}

// Other agents, and other versions of this one, must come to the same: these are xxHash64 with seed 0.
func TestHashStays(t *testing.T) {
	for key, want := range map[string]uint64{"": 0xef46db3751d8e999, "a": 0xd24ec4f1a98c6e5b, "abc": 0x44bc2cf5ad770999} {
		if got := HashOf(key); got != want {
			t.Errorf("%q: %#x, want %#x", key, got, want)
		}
	}
}
