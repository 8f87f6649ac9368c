package forward

import (
	"bufio"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzRequestHeader prepares requests as a server reads them, and checks what must hold of every one.
func FuzzRequestHeader(f *testing.F) {
	for _, lines := range []string{
		"", "Connection: close", "Connection: x-a, ,Via\nX-A: 1\nVia: 1.0 x", "TE: trailers\nTE:gzip", "Connection: Upgrade\nUpgrade: WebSocket",
		"Connection: upgrade\nUpgrade: x, h2C/2", "Trailer: X-A\nTransfer-Encoding: chunked", "X-Ufc-Attempt: 9\nX-UFC-idc: x",
		"X-Forwarded-For: 1.1.1.1\nX-Forwarded-For: 2.2.2.2\nConnection: x-forwarded-for", "x-ufc-class: 8", "Sec-WebSocket-Key: x",
	} {
		f.Add(lines, false, false)
		f.Add(lines, true, true)
	}
	f.Fuzz(func(t *testing.T, lines string, gateway, trusted bool) {
		raw := "GET / HTTP/1.1\r\nHost: h\r\n" + strings.ReplaceAll(lines, "\n", "\r\n") + "\r\n\r\n"
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		req.RemoteAddr = "10.0.0.1:5"
		before := req.Header.Clone()
		x := &relay{Proxy: &Proxy{Trusted: func(*http.Request) bool { return trusted }}, r: req, header: http.Header{}}
		if gateway {
			x.Service = "shop"
		}
		if !gateway {
			_ = x.readHeaders() // refused or not, what goes on must be clean
		}
		header := x.requestHeader()
		if !maps.EqualFunc(before, req.Header, slices.Equal) {
			t.Fatalf("the client's header was changed: %v", req.Header)
		}
		checkRequestHeader(t, header, before, gateway)
		if chain := header.Get("X-Forwarded-For"); !strings.HasSuffix(chain, "10.0.0.1") || !trusted && chain != "10.0.0.1" {
			t.Errorf("X-Forwarded-For: %q", chain)
		}
	})
}

func checkRequestHeader(t *testing.T, header, before http.Header, gateway bool) {
	t.Helper()
	upgrade := header["Upgrade"]
	for name, values := range header {
		switch {
		case name == "Te" && slices.Equal(values, []string{"trailers"}):
		case name == "Connection" && slices.Equal(values, []string{"Upgrade"}) && len(upgrade) == 1:
		case name == "Upgrade" && len(values) == 1 && !strings.Contains(values[0], "h2c"):
		case isHopByHop(name):
			t.Errorf("%s: %q is hop by hop", name, values)
		case forAgent(name), gateway && isUFC(name) && name != headerService:
			t.Errorf("%s: %q is not for the instance", name, values)
		}
	}
	ours := []string{"Te", "Connection", "Upgrade", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
		headerService, headerSelf}
	tokens(before["Connection"], func(token string) bool {
		if name := http.CanonicalHeaderKey(token); header[name] != nil && !slices.Contains(ours, name) {
			t.Errorf("%s is named by Connection, and stayed", name)
		}
		return true
	})
}
