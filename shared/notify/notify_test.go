package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

var (
	one   = netip.MustParseAddrPort("10.0.0.1:80")
	two   = netip.MustParseAddrPort("10.0.0.2:80")
	quiet = slog.New(slog.DiscardHandler)
)

// receiver is a platform.
type receiver struct {
	mu       sync.Mutex
	answer   func(attempt int) (int, error)
	attempts int
	ids      []string
	taken    []Message
}

// RoundTrip implements http.RoundTripper.
func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	var m Message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	if key := request.Header.Get("Idempotency-Key"); key != m.ID {
		return nil, errors.New("the header's key isn't the body's id")
	}
	r.ids = append(r.ids, m.ID)
	r.attempts++
	status, err := r.answer(r.attempts)
	if err != nil {
		return nil, err
	}
	if status/100 == 2 {
		r.taken = append(r.taken, m)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: request}, nil
}

func rig(after time.Duration, answer func(int) (int, error)) (*Webhooks, *receiver) {
	w := NewWebhooks(func(string) *model.Webhook {
		return &model.Webhook{URL: "https://paas.example.test/migrate?key=secret", After: model.Duration(after)}
	}, func() Identity { return Identity{Agent: "a", Host: "h"} }, quiet)
	r := &receiver{answer: answer}
	w.client.Transport = r
	return w, r
}

func fine(int) (int, error) { return 204, nil }

func decision(kind health.Kind, of netip.AddrPort) *health.Decision {
	return &health.Decision{Kind: kind, Service: "shop", Instance: of, Reason: health.ByProof, Time: time.Now()}
}

func TestLongBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := rig(10*time.Minute, fine)
		defer w.Close()
		w.Take(decision(health.Banned, one))
		w.Take(decision(health.Banned, two))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		w.Take(decision(health.Extended, one))
		w.Take(decision(health.Reopened, two))
		time.Sleep(5*time.Minute - time.Second)
		synctest.Wait()
		if r.attempts != 0 {
			t.Fatal("told too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(r.taken) != 1 || len(r.taken[0].Events) != 1 {
			t.Fatalf("%+v", r.taken)
		}
		if e := r.taken[0].Events[0]; e.Event != longBanEvent || e.Instance != one.String() || e.Banned != 600 || r.taken[0].Agent != "a" {
			t.Errorf("%+v", r.taken[0])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.attempts != 1 {
			t.Errorf("told %d times of one ban", r.attempts)
		}
		again := decision(health.Banned, two)
		again.BannedFor = 9 * time.Minute // altogether
		w.Take(again)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if len(r.taken) != 2 {
			t.Error("what was banned before doesn't count")
		}
	})
}

func TestOneMessageAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := rig(time.Second, fine)
		defer w.Close()
		for n := range 100 {
			w.Take(decision(health.Capped, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 80)))
			time.Sleep(time.Second)
			synctest.Wait()
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		told := map[string]bool{}
		for n, m := range r.taken {
			if n > 0 && m.Time.Sub(r.taken[n-1].Time) < time.Minute {
				t.Errorf("messages at %v and %v", r.taken[n-1].Time, m.Time)
			}
			for _, e := range m.Events {
				told[e.Instance] = true
			}
		}
		if len(told) != 100 || len(r.taken) > 4 {
			t.Errorf("%d of 100 instances were told in %d messages", len(told), len(r.taken))
		}
	})
}

// The receiver is down for an hour, and then loses an answer. Everything comes, and each message with one id.
func TestReceiverIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		lost := false
		w, r := rig(time.Second, nil)
		defer w.Close()
		r.answer = func(int) (int, error) {
			switch {
			case time.Since(begun) < time.Hour:
				return 0, errors.New("connection refused")
			case !lost:
				lost = true
				return 0, io.ErrUnexpectedEOF
			}
			return 200, nil
		}
		w.Take(decision(health.Banned, one))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.Take(decision(health.Banned, two))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(r.taken) != 2 || r.taken[0].Events[0].Instance != one.String() || r.taken[1].Events[0].Instance != two.String() {
			t.Fatalf("%+v", r.taken)
		}
		for _, id := range r.ids[:len(r.ids)-1] {
			if id != r.taken[0].ID {
				t.Fatalf("ids %v: a message must keep its id", r.ids)
			}
		}
		if r.attempts < 10 || r.attempts > 40 {
			t.Errorf("%d attempts in an hour", r.attempts)
		}
	})
}

func TestRefusedIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := rig(time.Second, func(n int) (int, error) { return []int{503, 429, 404}[min(n, 3)-1], nil })
		defer w.Close()
		w.Take(decision(health.Capped, one))
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.attempts != 3 || w.sent.refused.Load() != 1 {
			t.Errorf("%d attempts, %d refused", r.attempts, w.sent.refused.Load())
		}
	})
}

func TestCloseEndsTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := rig(time.Second, func(int) (int, error) { return 503, nil })
		w.Take(decision(health.Capped, one))
		w.Take(decision(health.Banned, two))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.Close()
		attempts := r.attempts
		w.Take(decision(health.Capped, two))
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.attempts != attempts || attempts == 0 {
			t.Errorf("%d attempts, then %d", attempts, r.attempts)
		}
	})
}

func TestRealReceiver(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	defer server.Close()
	w := NewWebhooks(func(string) *model.Webhook { return &model.Webhook{URL: server.URL} }, func() Identity { return Identity{} }, quiet)
	defer w.Close()
	w.Take(decision(health.Capped, one))
	select {
	case text := <-got:
		if !strings.HasPrefix(text, `POST application/json {"id":"`) || !strings.Contains(text, `"event":"cap_reached","instance":"10.0.0.1:80"`) {
			t.Error(text)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing came")
	}
}

func TestNoSecretIsShown(t *testing.T) {
	if text := shown("https://user:pass@a.example.test/x?token=1#y"); text != "https://a.example.test/x" {
		t.Error(text)
	}
}

func TestLoggerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLogger(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			l.Take(decision(health.Banned, one))
		}
		if n := strings.Count(out.String(), "\n"); n != linesPerMinute {
			t.Errorf("%d lines for a storm", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		l.Take(decision(health.Reopened, one))
		if text := out.String(); !strings.Contains(text, "lines=980") || !strings.Contains(text, `msg="instance back" service=shop instance=10.0.0.1:80`) {
			t.Error(text[max(0, len(text)-400):])
		}
	})
}
