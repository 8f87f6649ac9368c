package bypass

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// refusedFor tells why a get was refused; empty: it wasn't.
func refusedFor(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var problem struct{ Reason string }
	if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	reason := w.Header().Get("X-Ufc-Error")
	if reason != problem.Reason || (reason == "") != (w.Code == 200) || (reason != "") != (w.Code == http.StatusServiceUnavailable) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	return reason
}

// TestGetInAnAvalanche: what programs report is what the fuse of a callee goes by that they call themselves. In an avalanche
// some hand-outs are refused and others marked, and have an avalanche's time limits.
func TestGetInAnAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, a := newHandler(t)
		report := func(result string) {
			for n := 2; n <= 4; n++ {
				body := fmt.Sprintf("service=redis&backend=127.0.0.%d:6379&result=%s&latency_ms=1", n, result)
				if w := post(h, "", body); w.Code != http.StatusNoContent {
					t.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		if limit := get(t, h, "service=redis")[0].Timeouts.Read; limit != 5000 {
			t.Errorf("in normal times, %d ms", limit)
		}
		for range 100 {
			report("ok")
		}
		for range 100 {
			report("read_timeout")
		}
		refused, marked := 0, 0
		for range 1000 {
			w := do(h, httptest.NewRequest(http.MethodGet, "/bypass?command=get&service=redis", nil))
			if reason := refusedFor(t, w); reason != "" {
				refused++
				after, err := strconv.Atoi(w.Header().Get("Retry-After"))
				if reason != agent.ReasonFused || err != nil || after < 1 || w.Header().Get("X-Ufc-Degrade") != "" {
					t.Fatalf("refused: %v", w.Header())
				}
				continue
			}
			if mark := w.Header().Get("X-Ufc-Degrade"); mark != "" {
				marked++
				if mark < "1" || mark > "3" {
					t.Fatalf("marked %s", mark)
				}
			}
			if !strings.Contains(w.Body.String(), `"read_ms":1000,`) {
				t.Fatalf("in an avalanche: %s", w.Body)
			}
		}
		if refused == 0 || marked == 0 {
			t.Errorf("%d refused, %d marked", refused, marked)
		}

		// Reports are of what was done already: all of them count.
		if n := testutil.CollectAndCount(a, "ufc_callbacks_total"); n != 2 { // ok and read_timeout, and none unmatched
			t.Errorf("%d results of callbacks", n)
		}
	})
}

func TestGetOfADroppedCaller(t *testing.T) {
	redis := model.DefaultService("redis")
	redis.Drop = []model.Drop{{Callers: []string{"offline-*"}, Percent: 100}}
	h, _ := newHandler(t, model.Record{Kind: model.KindService, Name: "redis", Service: redis})
	f := func(caller, want string) {
		t.Helper()
		w := do(h, httptest.NewRequest(http.MethodGet, "/bypass?command=get&service=redis&from="+caller, nil))
		if reason := refusedFor(t, w); reason != want {
			t.Errorf("%s: %q", caller, reason)
		}
	}
	f("offline-report", agent.ReasonDropped)
	f("shop-web", "")
}
