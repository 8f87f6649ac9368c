package notify

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hookURL = "https://user:secret@paas.example.test/T0/path-secret?token=query-secret"

// post is one that the receiver got.
type post struct {
	at   time.Duration // since the beginning
	key  string
	body string
	message
}

// names are the instances of a post, by their hosts' last digit.
func (p *post) names() string {
	var names string
	for _, entry := range p.Instances {
		names += entry.Instance.Addr().String()[len("10.0.0."):]
	}
	return names
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// rig is a receiver in virtual time, whose answers a test chooses.
type rig struct {
	t *testing.T
	*Webhooks
	begun  time.Time
	log    buffer
	mu     sync.Mutex
	hook   *model.Webhook
	gone   map[netip.AddrPort]bool
	answer func(n int) (*http.Response, error) // by number of posts before
	posts  []*post
}

func newRig(t *testing.T, after time.Duration) *rig {
	r := &rig{t: t, begun: time.Now(), hook: &model.Webhook{URL: hookURL, After: model.Duration(after)}, gone: map[netip.AddrPort]bool{}}
	r.answer = func(int) (*http.Response, error) { return status(http.StatusNoContent), nil }
	r.Webhooks = NewWebhooks(Options{
		Policy: func(service string) *model.Webhook {
			r.mu.Lock()
			defer r.mu.Unlock()
			if service == "none" {
				return nil
			}
			return r.hook
		},
		Listed: func(_ string, instance netip.AddrPort) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return !r.gone[instance]
		},
		Identity:  func() Identity { return Identity{Agent: "a1", Host: "h1", IDC: "bj-a"} },
		Transport: r, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	})
	t.Cleanup(func() {
		r.Close()
		if log := r.log.String(); strings.Contains(log, "secret") {
			t.Errorf("the log has secrets:\n%s", log)
		}
	})
	return r
}

func status(code int, headers ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("whatever"))}
	for n := 0; n < len(headers); n += 2 {
		resp.Header.Set(headers[n], headers[n+1])
	}
	return resp
}

// RoundTrip is the receiver.
func (r *rig) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	p := &post{at: time.Since(r.begun), key: req.Header.Get("Idempotency-Key"), body: string(body)}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p.message); err != nil || req.Method != "POST" || req.Header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s %v %v: %s", req.Method, req.Header, err, body)
	}
	if p.key == "" || p.key != p.ID {
		r.t.Errorf("the header has key %q, the body %q", p.key, p.ID)
	}
	if user, password, _ := req.BasicAuth(); user != "user" || password != "secret" {
		r.t.Errorf("user %q, password %q", user, password)
	}
	r.mu.Lock()
	r.posts = append(r.posts, p)
	n, answer := len(r.posts)-1, r.answer
	r.mu.Unlock()
	return answer(n)
}

func (r *rig) got() []*post {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

// expect compares all posts so far with "event names @ time".
func (r *rig) expect(want ...string) {
	r.t.Helper()
	var got []string
	for _, p := range r.got() {
		got = append(got, string(p.Event)+" "+p.names()+" @ "+p.at.String())
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("at %s: %q, not %q", time.Since(r.begun), got, want)
	}
}

func address(n string) netip.AddrPort { return netip.MustParseAddrPort("10.0.0." + n + ":80") }

// decide makes a decision on an instance.
func (r *rig) decide(kind health.Kind, name string, bannedFor time.Duration) {
	r.Take(&health.Decision{
		Time: time.Now(), Kind: kind, Service: "shop", Instance: address(name), Reason: health.ByProof, Rule: "a > b",
		Inputs: map[string]float64{"a": 1}, Value: 1, Threshold: 0.5, Detail: "refused", BannedFor: bannedFor,
	})
}

func inBubble(t *testing.T, after time.Duration, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t, after)) })
}

// remembers counts the services of which anything is remembered.
func (r *rig) remembers() int {
	synctest.Wait()
	r.Webhooks.mu.Lock()
	defer r.Webhooks.mu.Unlock()
	return len(r.services)
}
