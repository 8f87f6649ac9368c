package notify

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// received is a request that a real receiver got.
type received struct {
	key, body, path string
}

// realRig returns webhooks that post to a URL by the transport of their own, and a function that bans an instance for long.
func realRig(t *testing.T, url string, log *buffer) (ban func(name string), hooks *Webhooks) {
	t.Helper()
	hooks = NewWebhooks(Options{
		Policy: func(string) *model.Webhook { return &model.Webhook{URL: url, After: model.Duration(time.Second)} },
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	t.Cleanup(hooks.Close)
	return func(name string) {
		hooks.Take(&health.Decision{
			Time: time.Now(), Kind: health.Extended, Service: "shop", Instance: address(name), BannedFor: time.Minute,
		})
	}, hooks
}

// receiver starts a server whose handler gets the number of requests before.
func receiver(t *testing.T, handle func(n int, w http.ResponseWriter, req *http.Request)) (url string, got <-chan received) {
	t.Helper()
	requests, n := make(chan received, 10), 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		requests <- received{req.Header.Get("Idempotency-Key"), string(body), req.URL.String()}
		n++ // one service's requests come one after another
		handle(n-1, w, req)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL, requests
}

func wait(t *testing.T, got <-chan received) received {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("nothing comes")
		return received{}
	}
}

func TestRealReceiver(t *testing.T) {
	var log buffer
	url, got := receiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n > 0 {
			return
		}
		// The receiver has it, and its answer gets lost.
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	})
	ban, hooks := realRig(t, url+"/T0/path-secret?token=query-secret", &log)
	ban("1")
	first, second := wait(t, got), wait(t, got)
	if first != second || first.key == "" || first.path != "/T0/path-secret?token=query-secret" {
		t.Errorf("%+v\n%+v", first, second)
	}
	for until := time.Now().Add(10 * time.Second); testutil.ToFloat64(only(hooks, "delivered")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("counted: %v", hooks.counts.all())
		}
	}
	hooks.Close()
	if text := log.String(); strings.Contains(text, "secret") || !strings.Contains(text, `msg="webhook failed, to be tried again"`) ||
		!strings.Contains(text, "url="+url+" ") || !strings.Contains(text, `msg="webhook delivered"`) {
		t.Errorf("the log:\n%s", text)
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	var log buffer
	url, got := receiver(t, func(_ int, w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "/elsewhere", http.StatusTemporaryRedirect)
	})
	ban, _ := realRig(t, url+"/here", &log)
	ban("1")
	if first, second := wait(t, got), wait(t, got); first.path != "/here" || second.path != "/here" {
		t.Errorf("%s, then %s", first.path, second.path)
	}
}

func TestEndlessAnswerIsNoFailure(t *testing.T) {
	var log buffer
	url, got := receiver(t, func(_ int, w http.ResponseWriter, req *http.Request) {
		for req.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	ban, hooks := realRig(t, url, &log)
	ban("1")
	wait(t, got)
	for until := time.Now().Add(5 * time.Second); testutil.ToFloat64(only(hooks, "delivered")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("not delivered")
		}
	}
}

func TestCloseDoesNotWaitForASlowReceiver(t *testing.T) {
	var log buffer
	url, got := receiver(t, func(_ int, _ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	ban, hooks := realRig(t, url, &log)
	ban("1")
	wait(t, got)
	begun := time.Now()
	hooks.Close()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("Close took %s", took)
	}
	if !strings.Contains(log.String(), "instances=1") {
		t.Errorf("the log: %s", log.String())
	}
}

func TestShown(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := shown(text); got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
	f("https://u:p@a.example.test:8443/secret?token=1#f", "https://a.example.test:8443")
	f("http://[::1]:80/x", "http://[::1]:80")
	f("https://a.test/%zz", "")
}

func TestUnreadableURLIsGivenUp(t *testing.T) {
	var log buffer
	ban, hooks := realRig(t, "https://a.test/secret%zz", &log)
	ban("1")
	for until := time.Now().Add(5 * time.Second); testutil.ToFloat64(only(hooks, "refused")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("not given up")
		}
	}
	hooks.Close()
	if strings.Contains(log.String(), "secret") {
		t.Error(log.String())
	}
}

func TestMetrics(t *testing.T) {
	w := NewWebhooks(Options{Policy: func(string) *model.Webhook { return nil }})
	defer w.Close()
	w.counts.add("shop", delivered)
	w.counts.add("shop", failed)
	w.counts.add("shop", failed)
	want := `
# HELP ufc_webhooks_total Tries to deliver a message to a service's webhook: delivered, failed (it is tried again) or refused (it is given up).
# TYPE ufc_webhooks_total counter
ufc_webhooks_total{callee="shop",outcome="delivered"} 1
ufc_webhooks_total{callee="shop",outcome="failed"} 2
`
	if err := testutil.CollectAndCompare(w, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
