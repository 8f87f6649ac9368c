package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// problem is the body of the agent's own answers.
type problem struct {
	Type, Title, Detail, Reason, Service string
	Status                               int
}

func TestAgentsOwnAnswers(t *testing.T) {
	live := backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	r := newRig(t, nil, live)
	empty := model.DefaultService("empty")
	r.catalog.Apply(2, []model.Record{{Kind: model.KindService, Name: "empty", Service: empty}})
	f := func(header http.Header, status int, reason, detail string) {
		t.Helper()
		req := r.request(t, "GET", "/", nil)
		req.Header.Del("x-ufc-service-name")
		maps.Copy(req.Header, header)
		resp, body := r.do(t, req)
		if resp.StatusCode != status || resp.Header.Get("x-ufc-error") != reason {
			t.Fatalf("%v: got %d %q %s, want %d %q", header, resp.StatusCode, resp.Header.Get("x-ufc-error"), body, status, reason)
		}
		if reason == "" {
			return
		}
		var got problem
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if got.Type == "" || got.Title != http.StatusText(status) || got.Status != status || got.Reason != reason ||
			!strings.Contains(got.Detail, detail) || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: got %s", header, body)
		}
	}
	f(nil, 400, "no_callee", "x-ufc-service-name")
	f(http.Header{"X-Ufc-Service-Name": {""}}, 400, "no_callee", "")
	f(http.Header{"X-Ufc-Service-Name": {"nobody"}}, 404, "unknown_service", "")
	f(http.Header{"X-Ufc-Service-Name": {"empty"}}, 503, "no_instance", "")
	f(http.Header{"X-Ufc-Service-Name": {"Shop"}}, 400, "bad_request", "x-ufc-service-name")
	f(http.Header{"X-Ufc-Service-Name": {"../etc"}}, 400, "bad_request", "x-ufc-service-name")
	f(http.Header{"X-Ufc-Service-Name": {"shop", "empty"}}, 400, "bad_request", "x-ufc-service-name")
	f(http.Header{"X-Ufc-Service-Name": {"shop", "shop"}}, 200, "", "")
	with := func(name, value string) http.Header {
		return http.Header{"X-Ufc-Service-Name": {"shop"}, name: {value}}
	}
	f(with("X-Ufc-Self-Service-Name", "Video_Web"), 400, "bad_request", "x-ufc-self-service-name")
	f(with("X-Ufc-Self-Service-Name", "video-web"), 200, "", "")
	f(with("X-Ufc-Class", "8"), 400, "bad_request", "x-ufc-class")
	f(with("X-Ufc-Class", "-1"), 400, "bad_request", "x-ufc-class")
	f(with("X-Ufc-Class", "high"), 400, "bad_request", "x-ufc-class")
	f(with("X-Ufc-Class", "07"), 400, "bad_request", "x-ufc-class")
	f(with("X-Ufc-Class", "0"), 200, "", "")
	f(with("X-Ufc-Class", "7"), 200, "", "")
	f(with("X-Ufc-Class", ""), 200, "", "")
}

func TestConnectIsRefused(t *testing.T) {
	r := newRig(t, nil, backend(t, func(http.ResponseWriter, *http.Request) { t.Error("CONNECT reached an instance") }))
	_, reader := r.dial(t, "CONNECT inner.example.test:22 HTTP/1.1\nHost: inner.example.test:22\nx-ufc-service-name: shop\n\n")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("x-ufc-error") != "method" {
		t.Errorf("got %d %q", resp.StatusCode, resp.Header.Get("x-ufc-error"))
	}
}

// pass sends a request with the headers and returns what the instance got.
func (r *rig) pass(t *testing.T, got <-chan *http.Request, lines string) http.Header {
	t.Helper()
	conn, reader := r.dial(t, "GET /path?query HTTP/1.1\nHost: outer.example.test\n"+lines+"\n")
	defer conn.Close()
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return (<-got).Header
}

func TestRequestHeaders(t *testing.T) {
	got := make(chan *http.Request, 1)
	live := backend(t, func(w http.ResponseWriter, r *http.Request) { got <- r })
	r := newRig(t, nil, live)
	f := func(lines string, want http.Header) {
		t.Helper()
		header := r.pass(t, got, "x-ufc-service-name: shop\n"+lines)
		for _, name := range []string{
			"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Via", headerAttempt, headerService,
		} {
			if len(header[name]) == 0 {
				t.Errorf("%s is missing", name)
			}
			if want[name] == nil {
				delete(header, name)
			}
		}
		if !maps.EqualFunc(header, want, slices.Equal) {
			t.Errorf("%q: the instance got %v, want %v", lines, header, want)
		}
	}
	type h = http.Header
	f("", h{}) // neither a User-Agent nor an Accept-Encoding is invented
	f("User-Agent: x\nAccept-Encoding: br\n", h{"User-Agent": {"x"}, "Accept-Encoding": {"br"}})
	f("X-A: 1\nX-A: 2\n", h{"X-A": {"1", "2"}})
	f("Connection: close\nX-A: 1\n", h{"X-A": {"1"}})
	f("Connection: x-a, X-B\nX-A: 1\nX-B: 2\nX-C: 3\n", h{"X-C": {"3"}})
	f("Connection: x-a\nConnection: X-B\nX-A: 1\nX-B: 2\nX-C: 3\n", h{"X-C": {"3"}})
	f("Keep-Alive: 5\nProxy-Connection: x\nProxy-Authenticate: x\nProxy-Authorization: x\nAlt-Svc: x\n", h{})
	f("TE: gzip\n", h{})
	f("TE: trailers, gzip\n", h{"Te": {"trailers"}})
	f("Connection: TE\nTE: trailers\n", h{"Te": {"trailers"}})
	f("Upgrade: websocket\n", h{}) // Connection doesn't name it
	f("Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: x\n", h{})
	f("Cookie: a=1; b=2\nAuthorization: Basic x\n", h{"Cookie": {"a=1; b=2"}, "Authorization": {"Basic x"}})
	f("Via: 1.0 fred\n", h{"Via": {"1.0 fred", "1.1 ufc"}})
	f("Connection: Via\nVia: 1.0 fred\n", h{"Via": {"1.1 ufc"}})
	f("X-Forwarded-For: 9.9.9.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: forged\n", h{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"outer.example.test"}})
	f("Connection: X-Forwarded-For\nX-Forwarded-For: 9.9.9.9\n", h{"X-Forwarded-For": {"127.0.0.1"}})

	// UFC's own.
	f("x-ufc-self-service-name: video-web\nx-ufc-trace-id: 7\nx-ufc-class: 5\nx-ufc-new: 1\n", h{
		headerService: {"shop"}, headerSelf: {"video-web"}, "X-Ufc-Trace-Id": {"7"}, headerClass: {"5"}, "X-Ufc-New": {"1"}})
	f("x-ufc-idc: gz-a\nx-ufc-degrade: 3\nx-ufc-connect-timeout-ms: 9000\nx-ufc-read-timeout-ms: 9000\nx-ufc-write-timeout-ms: 9000\n", h{})
	f("x-ufc-attempt: 4\n", h{headerAttempt: {"4"}})
	f("x-ufc-attempt: many\n", h{headerAttempt: {"0"}})
	f("x-ufc-attempt: 100\n", h{headerAttempt: {"0"}})
	f("x-ufc-attempt: 1\nx-ufc-attempt: 2\n", h{headerAttempt: {"0"}})

	// From stands above what the program says.
	r.Proxy = &Proxy{Forwarder: r.Forwarder, From: "edge", Via: "gate"}
	f("x-ufc-self-service-name: Anything\n", h{headerSelf: {"edge"}, "Via": {"1.1 gate"}})

	// A gateway believes its clients nothing.
	r.Service = "shop"
	f("x-ufc-service-name: other\nx-ufc-class: 99\nx-ufc-trace-id: 7\nx-ufc-attempt: 4\nx-ufc-new: 1\n", h{
		headerService: {"shop"}, headerSelf: {"edge"}, headerAttempt: {"0"}})
	r.From = ""
	f("x-ufc-self-service-name: forged\n", h{headerService: {"shop"}})
}

func TestRequestLineAndHost(t *testing.T) {
	got := make(chan *http.Request, 1)
	live := backend(t, func(w http.ResponseWriter, r *http.Request) { got <- r })
	r := newRig(t, nil, live)
	f := func(target, want string) {
		t.Helper()
		_, reader := r.dial(t, "OPTIONS "+target+" HTTP/1.1\nHost: outer.example.test:81\nx-ufc-service-name: shop\n\n")
		if resp, err := http.ReadResponse(reader, nil); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if req := <-got; req.RequestURI != want || req.Host != "outer.example.test:81" {
			t.Errorf("%s: the instance got %q for %q", target, req.RequestURI, req.Host)
		}
	}
	f("/a%2Fb//c/../d?x=1;y=%zz&", "/a%2Fb//c/../d?x=1;y=%zz&")
	f("//two", "//two")
	f("/?", "/?")
	f("*", "*")
	f("http://outer.example.test:81/absolute", "/absolute")
}

func TestForwardedHeaders(t *testing.T) {
	f := func(remote string, trusted bool, in, want http.Header) {
		t.Helper()
		req := httptest.NewRequest("GET", "http://own.example.test/", nil)
		req.RemoteAddr = remote
		header := in.Clone()
		(&relay{r: req}).setForwarded(header, trusted)
		if !maps.EqualFunc(header, want, slices.Equal) {
			t.Errorf("%s trusted=%v %v: got %v, want %v", remote, trusted, in, header, want)
		}
	}
	header := func(forwarded, proto, host string) http.Header {
		return http.Header{"X-Forwarded-For": {forwarded}, "X-Forwarded-Proto": {proto}, "X-Forwarded-Host": {host}}
	}
	own := header("10.0.0.1", "http", "own.example.test")
	prior := header("1.1.1.1", "https", "prior.example.test")
	f("10.0.0.1:5", false, http.Header{}, own)
	f("10.0.0.1:5", true, http.Header{}, own)
	f("10.0.0.1:5", false, prior, own)
	f("10.0.0.1:5", true, prior, header("1.1.1.1, 10.0.0.1", "https", "prior.example.test"))
	f("10.0.0.1:5", true, http.Header{"X-Forwarded-For": {"1.1.1.1", "2.2.2.2"}, "X-Forwarded-Proto": {"https", "http"}},
		header("1.1.1.1, 2.2.2.2, 10.0.0.1", "http", "own.example.test"))
	f("[fe80::1%eth0]:5", false, http.Header{}, header("fe80::1", "http", "own.example.test"))
	f("10.0.0.1:5", true, header("", "", ""), own)
	f("nonsense", true, prior, http.Header{})
	f("@", false, prior, http.Header{})
	f("@", true, prior, prior)
	f("@", true, http.Header{}, http.Header{"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"own.example.test"}})
	f(":5", false, prior, http.Header{"X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"own.example.test"}})
	omitted := http.Header{"X-Forwarded-For": nil, "X-Forwarded-Proto": nil, "X-Forwarded-Host": nil}
	f("10.0.0.1:5", false, omitted, omitted)
}

func TestTrustedProxy(t *testing.T) {
	got := make(chan *http.Request, 1)
	r := newRig(t, nil, backend(t, func(w http.ResponseWriter, r *http.Request) { got <- r }))
	r.Trusted = func(req *http.Request) bool { return req.Host == "outer.example.test" }
	header := r.pass(t, got, "x-ufc-service-name: shop\nX-Forwarded-For: 9.9.9.9\nX-Forwarded-Proto: https\n")
	if header.Get("X-Forwarded-For") != "9.9.9.9, 127.0.0.1" || header.Get("X-Forwarded-Proto") != "https" {
		t.Errorf("got %v", header)
	}
}

func TestResponseHeaders(t *testing.T) {
	answer := make(chan string, 1)
	r := newRig(t, func(s *model.Service) { s.Connections.KeepAlive = false }, rawBackend(t, func(conn tcpConn, reader bufReader) {
		answering("HTTP/1.1 200 OK\nContent-Length: 2\n"+<-answer+"\nok")(conn, reader)
	}))
	f := func(lines string, want http.Header) {
		t.Helper()
		answer <- lines
		resp, body := r.do(t, r.request(t, "GET", "/", nil))
		if resp.StatusCode != 200 || body != "ok" || resp.Header.Get("Via") != "1.1 ufc" {
			t.Fatalf("%q: got %d %q %v", lines, resp.StatusCode, body, resp.Header)
		}
		for _, name := range []string{"Via", "Content-Length", "Content-Type", "Date"} {
			resp.Header.Del(name)
		}
		if !maps.EqualFunc(resp.Header, want, slices.Equal) {
			t.Errorf("%q: the client got %v, want %v", lines, resp.Header, want)
		}
	}
	type h = http.Header
	f("", h{})
	f("Server: nginx\nSet-Cookie: a=1\nSet-Cookie: b=2\n", h{"Server": {"nginx"}, "Set-Cookie": {"a=1", "b=2"}})
	f("Connection: x-a\nX-A: 1\nX-B: 2\n", h{"X-B": {"2"}})
	f("Keep-Alive: 5\nProxy-Authenticate: x\nProxy-Connection: x\nAlt-Svc: h3\nUpgrade: h2\nTe: x\n", h{})
	f("x-ufc-error: fused\nx-ufc-backend: 1.1.1.1:1\nx-ufc-panic: 1\nx-ufc-degrade: 2\nx-ufc-other: 1\n", h{"X-Ufc-Other": {"1"}})
}

func TestInstanceIsShownOnlyWhenDebugging(t *testing.T) {
	live := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Ufc-Backend", "forged") })
	r := newRig(t, nil, live)
	if resp, _ := r.do(t, r.request(t, "GET", "/", nil)); resp.Header["X-Ufc-Backend"] != nil {
		t.Errorf("got %v", resp.Header)
	}
	r.Debug = true
	if resp, _ := r.do(t, r.request(t, "GET", "/", nil)); !slices.Equal(resp.Header["X-Ufc-Backend"], []string{live}) {
		t.Errorf("got %v", resp.Header)
	}
}

func TestPanicIsShown(t *testing.T) {
	live := backend(t, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t, func(s *model.Service) {
		s.Ban.Requests, s.Ban.MaxRatio = &model.RequestBan{Failures: 1, Of: 1}, 1
	}, live)
	if resp, _ := r.do(t, r.request(t, "GET", "/", nil)); resp.Header["X-Ufc-Panic"] != nil {
		t.Errorf("before: %v", resp.Header)
	}
	attempt, err := r.agent.Pick(r.begin(t))
	if err != nil {
		t.Fatal(err)
	}
	attempt.Done(agent.Outcome{Result: health.ReadError}) // bans the only instance
	if resp, _ := r.do(t, r.request(t, "GET", "/", nil)); resp.StatusCode != 200 || resp.Header.Get("X-Ufc-Panic") != "1" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestResponsesWithoutBody(t *testing.T) {
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/empty":
			w.WriteHeader(200)
		default:
			w.Header().Set("Content-Length", "1000")
			if r.Method != "HEAD" {
				w.Write(make([]byte, 1000))
			}
		}
	})
	r := newRig(t, nil, live)
	f := func(method, path string, status int, length int64) {
		t.Helper()
		resp, body := r.do(t, r.request(t, method, path, nil))
		if resp.StatusCode != status || resp.ContentLength != length || body != "" {
			t.Errorf("%s %s: got %d, length %d, body %q", method, path, resp.StatusCode, resp.ContentLength, body)
		}
	}
	f("HEAD", "/", 200, 1000)
	f("GET", "/204", 204, 0)
	f("GET", "/304", 304, 0)
	f("GET", "/empty", 200, 0)
	r.expect(t, 4, "ufc_attempts_total", "result", "ok")
	r.expect(t, 4, "ufc_attempts_total")
}

func TestBodyLimit(t *testing.T) {
	live := backend(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	r := newRig(t, nil, live)
	inner := r.server.Config.Handler
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Body = http.MaxBytesReader(w, req.Body, 10)
		inner.ServeHTTP(w, req)
	})
	resp, _ := r.do(t, r.request(t, "POST", "/", strings.NewReader(strings.Repeat("x", 11))))
	if resp.StatusCode != 413 {
		t.Errorf("got %d", resp.StatusCode)
	}
	var tooLarge *http.MaxBytesError
	if err := <-r.errors; !errors.As(err, &tooLarge) {
		t.Errorf("ServeHTTP returned %v", err)
	}
	r.outcome(t, "canceled", "413")
}

func TestRequestBodyErrorStatus(t *testing.T) {
	f := func(err error, want int) {
		t.Helper()
		if got := (&RequestBodyError{err}).Status(); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
	f(fmt.Errorf("limit: %w", &http.MaxBytesError{Limit: 1}), 413)
	f(context.DeadlineExceeded, 408)
	f(errors.New("invalid byte in chunk length"), 400)
}

func TestDeadlineOfTheContext(t *testing.T) {
	live := backend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	r := newRig(t, nil, live)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	req.Header.Set("x-ufc-service-name", "shop")
	recorded := httptest.NewRecorder()
	if err := r.Proxy.ServeHTTP(recorded, req); err != nil {
		t.Fatal(err)
	}
	if recorded.Code != 504 || recorded.Header().Get("x-ufc-error") != "deadline" {
		t.Errorf("got %d %v", recorded.Code, recorded.Header())
	}
	r.outcome(t, "canceled", "504")
}
