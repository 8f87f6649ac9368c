package bypass

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/model"
)

const token = "s3cret"

// newHandler returns a handler over a callee redis with three instances, whose ports answer no probe, and over other records.
func newHandler(t testing.TB, records ...model.Record) (*Handler, *agent.Agent) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	views := catalog.New(quiet)
	for n := 2; n <= 4; n++ {
		instance := model.DefaultInstance()
		instance.Address = netip.MustParseAddrPort(fmt.Sprintf("127.0.0.%d:6379", n))
		records = append(records, model.Record{Kind: model.KindInstances, Name: "redis", Address: instance.Address.String(), Instance: &instance})
	}
	views.Replace(1, records)
	refuse := func(context.Context, netip.AddrPort, time.Duration) error { return errors.New("refused") }
	a := agent.New(views, agent.Options{Probe: refuse})
	t.Cleanup(a.Close)
	query := func(path string) (map[string]any, error) {
		answer, err := a.Query(strings.Split(path, "^"))
		return map[string]any{strings.Split(path, "^")[0]: answer}, err
	}
	return New(a, query, Options{Token: token}), a
}

func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	if r.RemoteAddr == "192.0.2.1:1234" { // httptest's own
		r.RemoteAddr = "127.0.0.1:1234"
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(t testing.TB, h http.Handler, parameters string) []Backend {
	t.Helper()
	w := do(h, httptest.NewRequest(http.MethodGet, "/bypass?command=get&"+parameters, nil))
	var answer struct{ Backends []Backend }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		t.Fatalf("get %s: %d %s (%v)", parameters, w.Code, w.Body, err)
	}
	return answer.Backends
}

func post(h http.Handler, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/bypass?command=callback", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return do(h, r)
}

func TestGet(t *testing.T) {
	h, _ := newHandler(t)
	seen := map[string]int{}
	for range 30 {
		backends := get(t, h, "service=redis")
		if len(backends) != 1 || backends[0].Weight != 100 || len(backends[0].ID) < 20 || backends[0].Timeouts.Connect != 300 {
			t.Fatalf("got %+v", backends)
		}
		seen[backends[0].Backend]++
	}
	if len(seen) != 3 || seen["127.0.0.2:6379"] != 10 {
		t.Errorf("not in turn: %v", seen)
	}
	several := get(t, h, "service=redis&n=10&from=web&key=k")
	if len(several) != 3 || several[0].Backend == several[1].Backend || several[0].ID == several[1].ID {
		t.Errorf("n=10 of 3 gives %+v", several)
	}
}

// TestWeightsInForce: who chooses among several by their weights spares the ones that slow start, or a bad code, spares.
func TestWeightsInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis := model.DefaultService("redis")
		redis.Ban.BadCodes = map[string]float64{"503": 0.5, "500": 0}
		h, a := newHandler(t, model.Record{Kind: model.KindService, Name: "redis", Service: redis})
		defer a.Close()
		post(h, "", "service=redis&backend=127.0.0.2:6379&result=ok&code=503")
		post(h, "", "service=redis&backend=127.0.0.3:6379&result=ok&code=500")
		f := func(want map[string]int) {
			t.Helper()
			for _, backend := range get(t, h, "service=redis&n=3") {
				if backend.Weight != want[backend.Backend] {
					t.Errorf("%s has %d", backend.Backend, backend.Weight)
				}
			}
		}
		f(map[string]int{"127.0.0.2:6379": 50, "127.0.0.3:6379": 3, "127.0.0.4:6379": 100})
		time.Sleep(10 * time.Minute)
		f(map[string]int{"127.0.0.2:6379": 100, "127.0.0.3:6379": 100, "127.0.0.4:6379": 100})
	})
}

func TestRefused(t *testing.T) {
	f := func(method, target string, status int, reason, detail string) {
		t.Helper()
		h, _ := newHandler(t)
		w := do(h, httptest.NewRequest(method, target, nil))
		var problem struct {
			Status         int
			Reason, Detail string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
			t.Fatalf("%s: %s: %v", target, w.Body, err)
		}
		if w.Code != status || problem.Status != status || problem.Reason != reason || w.Header().Get("X-Ufc-Error") != reason ||
			w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(problem.Detail, detail) {
			t.Errorf("%s %s: %d %v %s", method, target, w.Code, w.Header(), w.Body)
		}
	}
	f("GET", "/bypass", 400, "bad_request", `command: "" is not one of`)
	f("GET", "/bypass?command=drop", 400, "bad_request", `command: "drop" is not one of`)
	f("GET", "/bypass?command=%zz", 400, "bad_request", "query string")
	f("POST", "/bypass?command=get&service=redis", 405, "method", "takes GET, not POST")
	f("GET", "/bypass?command=callback", 405, "method", "takes POST")
	f("GET", "/bypass?command=get", 400, "no_callee", "service")
	f("GET", "/bypass?command=get&service=nobody", 404, "unknown_service", "")
	f("GET", "/bypass?command=get&service=redis&n=0", 400, "bad_request", `n: "0" is not`)
	f("GET", "/bypass?command=get&service=redis&n=101", 400, "bad_request", `n: "101" is not`)
	f("GET", "/bypass?command=get&service=redis&n=x", 400, "bad_request", `n: "x" is not`)
	f("GET", "/bypass?command=get&service=redis&family=ipv4", 400, "bad_request", `family: "ipv4" is not`)
	f("GET", "/bypass?command=get&service=redis&family=6", 503, "no_instance", "")
	f("GET", "/bypass?command=query&ar=ban_info", 403, "forbidden", "token")
}

func TestGetOfAFamily(t *testing.T) {
	six := model.DefaultInstance()
	six.Address = netip.MustParseAddrPort("[2001:db8::1]:6379")
	h, _ := newHandler(t, model.Record{Kind: model.KindInstances, Name: "redis", Address: six.Address.String(), Instance: &six})
	f := func(family string, want int) {
		t.Helper()
		backends := get(t, h, "service=redis&n=10&family="+family)
		if len(backends) != want {
			t.Errorf("%d: %+v", len(backends), backends)
		}
		for _, backend := range backends {
			if is6 := strings.HasPrefix(backend.Backend, "["); family != "" && is6 != (family == "6") {
				t.Errorf("family %s: %s", family, backend.Backend)
			}
		}
	}
	f("", 4)
	f("4", 3)
	f("6", 1)
}

func TestCallback(t *testing.T) {
	const form, object = "application/x-www-form-urlencoded", "application/json"
	f := func(contentType, body string, status int, detail string) {
		t.Helper()
		h, _ := newHandler(t)
		w := post(h, contentType, body)
		if w.Code != status || !strings.Contains(w.Body.String(), detail) {
			t.Errorf("%s: %d %s, want %d with %q", body, w.Code, w.Body, status, detail)
		}
	}
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&latency_ms=1.5&code=200&from=web", 204, "")
	f("", "service=redis&backend=127.0.0.2:6379&result=ok", 204, "")
	f(object, `{"service":"redis","backend":"127.0.0.2:6379","result":"read_timeout","latency_ms":3}`, 204, "")
	f("", ` {"service":"redis","backend":"127.0.0.2:6379","result":"ok"}`, 204, "")
	f(form, ` [{"service":"redis","backend":"127.0.0.2:6379","result":"ok"}]`, 204, "") // curl -d says it is a form
	f(object, `[]`, 204, "")
	f(object, `[{"service":"redis","backend":"127.0.0.2:6379","result":"ok"},{"id":"long-gone","result":"ok"}]`, 204, "")
	f(form, "service=redis&backend=10.9.9.9:1&result=ok", 204, "") // has left the list
	f(form, "service=gone&backend=127.0.0.2:6379&result=ok", 204, "")

	f(form, "", 400, "result:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=fine", 400, `result: \"fine\"`)
	f(form, "service=redis&backend=127.0.0.2:6379&result=canceled", 400, "result:")
	f(form, "service=redis&backend=127.0.0.2&result=ok", 400, `backend: \"127.0.0.2\"`)
	f(form, "service=redis&backend=127.0.0.2:0&result=ok", 400, `backend: \"127.0.0.2:0\"`)
	f(object, `[1]`, 400, "an element of its list: a JSON number")
	f(form, "service=redis&result=ok", 400, "backend: missing")
	f(form, "backend=127.0.0.2:6379&result=ok", 400, "service: missing")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&latency_ms=-1", 400, "latency_ms:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&latency_ms=NaN", 400, "latency_ms:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&latency_ms=soon", 400, "latency_ms:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&code=99", 400, "code:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&code=x", 400, "code:")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&result=ok", 400, "result: given 2 times")
	f(form, "service=redis&backend=127.0.0.2:6379&result=ok&weight=1", 400, "weight: unknown field")
	f(form, "%zz", 400, "form")
	f(object, `{"service":"redis"`, 400, "JSON")
	f(object, `{"service":7}`, 400, "service: a JSON number")
	f(object, `{"who":"redis"}`, 400, "who")
	f(object, `{"id":"a","backend":"127.0.0.2:6379","result":"ok"}`, 400, "backend:")
	f(object, `{"id":"a","result":"ok"} {}`, 400, "goes on")
	f(object, `[{"id":"a","result":"ok"},{"id":"b","result":"no"}]`, 400, "[1].result:")
	f(object, `null`, 400, "result:")
	const lines = "application/x-ndjson"
	f(lines, "", 204, "")
	f(lines, `{"service":"redis","backend":"127.0.0.2:6379","result":"ok"}`, 204, "")
	f(lines, "{\"id\":\"a\",\"result\":\"ok\"}\r\n\n{\"id\":\"b\",\"result\":\"reset\"}\n", 204, "")
	f(lines+"; charset=utf-8", "{\"id\":\"a\",\"result\":\"ok\"}\n{\"id\":\"b\",\"result\":", 400, "line 2: the JSON body can't be read")
	f(lines, "{\"id\":\"a\",\"result\":\"ok\"} {}", 400, "line 1: the JSON body goes on")
	f(lines, `[{"id":"a","result":"ok"}]`, 400, "line 1: a list")
	f(lines, `[]`, 400, "line 1: a list")
	f(lines, "{\"id\":\"a\",\"result\":\"ok\"}\n\n{\"id\":\"b\",\"result\":\"no\"}", 400, "line 3: result:")
	f(lines, "\n{\"id\":\"b\",\"result\":\"no\"}", 400, "line 2: result:")
	f(lines, strings.Repeat("{}\n", maxReports+1), 400, fmt.Sprintf("line %d: more than", maxReports+1))
	f("text/plain", "result=ok", 400, "content-type:")
	f(form, "service="+strings.Repeat("x", maxBody), 400, "reading the body")
}

func TestCallbackFromElsewhereNeedsAnID(t *testing.T) {
	h, a := newHandler(t)
	id := get(t, h, "service=redis")[0].ID
	f := func(body string, status int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/bypass?command=callback", strings.NewReader(body))
		r.RemoteAddr = "10.0.0.7:4711"
		if w := do(h, r); w.Code != status {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	f("service=redis&backend=127.0.0.2:6379&result=ok", 403)
	f("id="+id+"&result=ok", 204)
	f("id="+id+"&result=ok", 204) // again: counted as repeated
	want := `
# HELP ufc_callbacks_total Results reported by programs.
# TYPE ufc_callbacks_total counter
ufc_callbacks_total{callee="redis",result="forbidden"} 1
ufc_callbacks_total{callee="redis",result="ok"} 1
ufc_callbacks_total{callee="unknown",result="repeated"} 1
`
	if err := testutil.CollectAndCompare(a, strings.NewReader(want), "ufc_callbacks_total"); err != nil {
		t.Error(err)
	}
}

// TestWhatCallbacksMiss: what matches nothing is counted, and changes nothing.
func TestWhatCallbacksMiss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newHandler(t)
		defer a.Close()
		id := get(t, h, "service=redis")[0].ID
		late := get(t, h, "service=redis")[0].ID
		post(h, "", "id="+id+"&service=redis&result=ok")
		post(h, "", "id="+id+"&service=redis&result=error")
		post(h, "", "id=forged&service=redis&result=error")
		post(h, "", "backend=10.9.9.9:1&service=redis&result=error")
		post(h, "", `[{"service":"redis","backend":"127.0.0.2:6379","result":"ok"},{"service":"gone","backend":"127.0.0.2:6379","result":"error"}]`)
		post(h, "", "service=redis&result=error")
		time.Sleep(5 * time.Minute)
		post(h, "", "id="+late+"&service=redis&result=error")
		want := `
# HELP ufc_callbacks_total Results reported by programs.
# TYPE ufc_callbacks_total counter
ufc_callbacks_total{callee="redis",result="late"} 1
ufc_callbacks_total{callee="redis",result="ok"} 2
ufc_callbacks_total{callee="redis",result="repeated"} 1
ufc_callbacks_total{callee="redis",result="unmatched"} 2
ufc_callbacks_total{callee="unknown",result="malformed"} 1
ufc_callbacks_total{callee="unknown",result="unmatched"} 1
`
		if err := testutil.CollectAndCompare(a, strings.NewReader(want), "ufc_callbacks_total"); err != nil {
			t.Error(err)
		}
		info, err := a.Query([]string{"request_info", "redis"})
		if err != nil || info.(agent.RequestInfo).Requests != 2 {
			t.Errorf("%+v, %v", info, err)
		}
		if n := testutil.CollectAndCount(a, "ufc_refused_total"); n != 0 {
			t.Error("a report is counted as a refused call")
		}
		for _, backend := range a.Backends("redis") {
			if backend.Failures != 0 || backend.Banned != nil {
				t.Errorf("%+v", backend)
			}
		}
	})
}

// Reports by backend can be switched off, for all.
func TestCallbacksByIDOnly(t *testing.T) {
	h, _ := newHandler(t)
	h = New(h.agent, h.query, Options{CallbackBy: ByID})
	f := func(body string, status int) {
		t.Helper()
		if w := post(h, "", body); w.Code != status {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	f("service=redis&backend=127.0.0.2:6379&result=ok", 403)
	f(`[{"id":"a","result":"ok"},{"service":"redis","backend":"127.0.0.2:6379","result":"ok"}]`, 403)
	f("service=redis&id="+get(t, h, "service=redis")[0].ID+"&result=ok", 204)
}

func TestPagesInABrowserMayNotReport(t *testing.T) {
	h, _ := newHandler(t)
	f := func(header, value string, status int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/bypass?command=callback", strings.NewReader("service=redis&backend=127.0.0.2:6379&result=ok"))
		r.Header.Set(header, value)
		if w := do(h, r); w.Code != status {
			t.Errorf("%s: %s: %d %s", header, value, w.Code, w.Body)
		}
	}
	f("Sec-Fetch-Site", "cross-site", 403)
	f("Origin", "https://evil.example.test", 403)
	f("Origin", "http://example.com", 403) // the request's own host: a page whose name leads here
	f("X-Forwarded-For", "192.0.2.7", 403)
	f("User-Agent", "curl", 204)
	r := httptest.NewRequest(http.MethodGet, "/bypass?command=get&service=redis", nil)
	r.Header.Set("Origin", "https://evil.example.test")
	for header := range do(h, r).Header() {
		if strings.HasPrefix(header, "Access-Control-") {
			t.Errorf("a page may read ids: %s", header)
		}
	}
}

// TestPagesGetNothing: a page whose own name leads here (DNS rebinding) is of the same origin as we are, and could report by id what it has
// been handed out.
func TestPagesGetNothing(t *testing.T) {
	h, _ := newHandler(t)
	f := func(method, header, value string, status int) {
		t.Helper()
		body := "id=" + get(t, h, "service=redis")[0].ID + "&result=connect_error"
		command := map[string]string{http.MethodGet: "get&service=redis", http.MethodPost: "callback"}[method]
		r := httptest.NewRequest(method, "/bypass?command="+command, strings.NewReader(body))
		r.Header.Set(header, value)
		if w := do(h, r); w.Code != status {
			t.Errorf("%s %s: %s: %d %s", method, header, value, w.Code, w.Body)
		}
	}
	f(http.MethodPost, "Origin", "http://example.com", 403) // the request's own host
	f(http.MethodPost, "Sec-Fetch-Site", "same-origin", 403)
	f(http.MethodGet, "Origin", "http://example.com", 403)
	f(http.MethodGet, "Sec-Fetch-Site", "same-origin", 403)
	f(http.MethodGet, "Sec-Fetch-Site", "cross-site", 403)
	f(http.MethodGet, "Sec-Fetch-Site", "none", 200) // typed
	f(http.MethodGet, "Sec-Fetch-Mode", "cors", 200) // Node's fetch
	f(http.MethodPost, "Sec-Fetch-Mode", "cors", 204)
}

// TestLongRequests: what is too long is refused, and a list is read no further than to its first fault.
func TestLongRequests(t *testing.T) {
	h, _ := newHandler(t)
	if w := do(h, httptest.NewRequest(http.MethodGet, "/bypass?command=get&service=redis&key="+strings.Repeat("k", maxQuery), nil)); w.Code != 400 {
		t.Errorf("a long key: %d %s", w.Code, w.Body)
	}
	const one = `{"service":"redis","backend":"127.0.0.2:6379","result":"ok"},`
	f := func(body, want string) {
		t.Helper()
		if w := post(h, "application/json", body); w.Code != 400 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%d bytes: %d %.200s", len(body), w.Code, w.Body)
		}
	}
	f("["+strings.Repeat(one, maxReports)+one[:len(one)-1]+"]", "more than 10000 reports")
	f("["+strings.Repeat("0,", 200_000)+"0]", "a JSON number")
	if memory := testing.AllocsPerRun(1, func() { post(h, "application/json", "["+strings.Repeat("0,", 400_000)+"0]") }); memory > 1000 {
		t.Errorf("%v allocations for a list of faults", memory)
	}
	f("["+one+"]", "can't be read")
}

func TestReportedFailuresBan(t *testing.T) {
	f := func(report func(h http.Handler, backend Backend)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			h, a := newHandler(t)
			var bad string
			for range 30 {
				for _, backend := range get(t, h, "service=redis&n=3") {
					if bad == "" {
						bad = backend.Backend
					}
					if backend.Backend == bad {
						report(h, backend)
					}
				}
			}
			synctest.Wait()
			for range 30 {
				if got := get(t, h, "service=redis")[0].Backend; got == bad {
					t.Fatalf("%s is handed out after its failures", got)
				}
			}
			a.Close()
		})
	}
	f(func(h http.Handler, backend Backend) { post(h, "", "id="+backend.ID+"&result=connect_error") })
	f(func(h http.Handler, backend Backend) {
		post(h, "", "id="+backend.ID+"&service=redis&result=read_timeout")
	})
	f(func(h http.Handler, backend Backend) {
		post(h, "", "service=redis&result=reset&backend="+backend.Backend)
	})
	f(func(h http.Handler, backend Backend) {
		post(h, "", fmt.Sprintf(`[{"service":"redis","result":"write_error","backend":%q}]`, backend.Backend))
	})
}

func TestBadListCountsNothing(t *testing.T) {
	h, a := newHandler(t)
	good := `{"service":"redis","backend":"127.0.0.2:6379","result":"error"}`
	post(h, "", "["+strings.Repeat(good+",", 9)+`{"service":"redis"}]`)
	if answer, err := a.Query([]string{"request_info", "redis"}); err != nil || answer.(agent.RequestInfo).Requests != 0 {
		t.Errorf("a refused list counts: %+v, %v", answer, err)
	}
}

func TestQuery(t *testing.T) {
	h, _ := newHandler(t)
	f := func(given, path string, status int, contains string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/bypass?command=query&ar="+path, nil)
		r.Header.Set("token", given)
		if w := do(h, r); w.Code != status || !strings.Contains(w.Body.String(), contains) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	f(token, "backend_info%5Eredis", 200, `{"backend_info":[{"backend":"127.0.0.2:6379"`)
	f(token, "request_info^redis", 200, `"5xx_cnt":0`)
	f(token, "nothing", 400, "ar: nothing is selected")
	f("wrong", "ban_info", 403, "token")
	f("", "ban_info", 403, "token")
	off := New(h.agent, h.query, Options{})
	if w := do(off, httptest.NewRequest(http.MethodGet, "/bypass?command=query&ar=ban_info", nil)); w.Code != http.StatusForbidden {
		t.Errorf("without a token configured: %d", w.Code)
	}
}

// TestQueryLimits: neither does a loop of queries load the agent, nor can tokens be guessed, nor does who guesses keep others out.
func TestQueryLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newHandler(t)
		defer a.Close()
		f := func(from, given string, n, status int) {
			t.Helper()
			for range n {
				r := httptest.NewRequest(http.MethodGet, "/bypass?command=query&ar=request_info^redis", nil)
				r.Header.Set("token", given)
				r.RemoteAddr = from
				w := do(h, r)
				if w.Code != status || (w.Header().Get("Retry-After") != "") != (status == http.StatusTooManyRequests) {
					t.Fatalf("%s %s: %d %s, want %d", from, given, w.Code, w.Body, status)
				}
			}
		}
		const here, elsewhere = "127.0.0.1:4711", "10.0.0.7:4711"
		f(here, token, queriesAtOnce, 200)
		f(here, token, 1, 429)
		f(elsewhere, token, 1, 429)
		time.Sleep(time.Second)
		f(elsewhere, token, queriesPerSecond, 200)
		f(here, token, 1, 429)
		time.Sleep(time.Minute)

		f(elsewhere, "guess", guessesAtOnce, 403)
		f(elsewhere, "guess", 1, 429)
		f(elsewhere, token, 1, 429)
		f(here, token, 5, 200)
		f(here, "", guessesAtOnce, 403)
		f(here, token, 1, 429)
		time.Sleep(2 * time.Second)
		f(here, token, 5, 200)
		f(elsewhere, token, 5, 200)
	})
}

// TestQueriesTellNoSecrets: a webhook's URL is one.
func TestQueriesTellNoSecrets(t *testing.T) {
	redis := model.DefaultService("redis")
	redis.Ban.Webhook = &model.Webhook{URL: "https://user:hidden@paas.example.test/hook/hidden?key=hidden"}
	h, _ := newHandler(t, model.Record{Kind: model.KindService, Name: "redis", Service: redis})
	for _, path := range []string{"request_info^redis", "backend_info^redis", "ban_info", "fuse_info^redis", "config_info", "config_info^redis", "explain^redis"} {
		r := httptest.NewRequest(http.MethodGet, "/bypass?command=query&ar="+path, nil)
		r.Header.Set("token", token)
		w := do(h, r)
		if w.Code != 200 || strings.Contains(w.Body.String(), "hidden") || strings.Contains(w.Body.String(), token) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if path == "config_info^redis" && !strings.Contains(w.Body.String(), `"https://paas.example.test/..."`) {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
	if redis.Ban.Webhook.URL != "https://user:hidden@paas.example.test/hook/hidden?key=hidden" {
		t.Error("the document in force was changed")
	}
}

// BenchmarkBatch is what a report costs in a list of a hundred.
func BenchmarkBatch(b *testing.B) {
	h, _ := newHandler(b)
	const size = 100
	body := strings.Repeat(`{"service":"redis","backend":"127.0.0.2:6379","from":"web","result":"ok","latency_ms":1.25,"code":200}`+"\n", size)
	b.ReportAllocs()
	for b.Loop() {
		if w := post(h, "application/x-ndjson", body); w.Code != http.StatusNoContent {
			b.Fatal(w.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/report")
}

func FuzzCallback(f *testing.F) {
	f.Add("", "service=redis&backend=127.0.0.2:6379&result=ok&latency_ms=1&code=200")
	f.Add("application/json", `[{"service":"redis","backend":"[::1]:1","result":"ok","latency_ms":1e3}]`)
	f.Add("application/json; charset=utf-8", `{"id":"a","result":"reset","code":503}`)
	f.Add("application/x-ndjson", "{\"id\":\"a\",\"result\":\"reset\"}\n\n{\"id\":\"b\",\"result\":\"ok\"}")
	h, _ := newHandler(f)
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequest(http.MethodPost, "/bypass?command=callback", bytes.NewReader([]byte(body)))
		r.Header.Set("Content-Type", contentType)
		if w := do(h, r); w.Code != http.StatusNoContent && (w.Code != http.StatusBadRequest || w.Header().Get("X-Ufc-Error") != "bad_request") {
			t.Errorf("%q %q: %d %s", contentType, body, w.Code, w.Body)
		}
	})
}

func BenchmarkGetAndCallback(b *testing.B) {
	h, _ := newHandler(b)
	b.ReportAllocs()
	for b.Loop() {
		id := get(b, h, "service=redis")[0].ID
		post(h, "", "id="+id+"&result=ok&latency_ms=1")
	}
}

// FuzzCommand checks that every query string and token is answered by what it selects, or refused for a reason that is named.
func FuzzCommand(f *testing.F) {
	for _, query := range []string{
		"", "command=get&service=redis&n=3&key=k&from=c", "command=get&service=redis&n=-1", "command=query&ar=x^y", "command=callback", "command=%zz",
		"command=get&command=query", "command=get&service=%ff", ";", "command=get;service=redis", "command=get&n=99999999999999999999",
	} {
		f.Add(query, "t", "GET")
		f.Add(query, "", "POST")
	}
	h, _ := newHandler(f)
	f.Fuzz(func(t *testing.T, query, token, method string) {
		r := httptest.NewRequest(http.MethodGet, "/bypass", nil)
		r.Method, r.URL.RawQuery = method, query
		r.Header["Token"] = []string{token}
		w := do(h, r)
		if w.Code != http.StatusOK && (w.Code < 400 || w.Code > 503 || w.Header().Get("X-Ufc-Error") == "") {
			t.Errorf("%s %q: %d %s", method, query, w.Code, w.Body)
		}
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q: %s", method, query, w.Body)
		}
	})
}
