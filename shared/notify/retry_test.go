package notify

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
)

func TestReceiverDownForAnHour(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.answer = func(int) (*http.Response, error) {
			if time.Since(r.begun) < 70*time.Minute {
				return nil, errors.New("connect: connection refused")
			}
			return status(200), nil
		}
		r.decide(health.Banned, "1", 0)
		time.Sleep(15 * time.Minute) // the first message is on its way, in vain
		r.decide(health.Banned, "2", 0)
		r.decide(health.Banned, "3", 0)
		time.Sleep(5 * time.Minute)
		r.decide(health.Reopened, "3", 5*time.Minute) // before it was long
		time.Sleep(10 * time.Minute)
		r.decide(health.Reopened, "2", 15*time.Minute) // after
		r.decide(health.Banned, "4", 0)
		time.Sleep(time.Hour)
		got := map[string]string{} // key → instances
		for _, p := range r.got() {
			if names, known := got[p.key]; known && names != p.names() {
				t.Errorf("message %s has changed from %s to %s", p.key, names, p.names())
			}
			got[p.key] = p.names()
		}
		if values := slices.Sorted(maps.Values(got)); !slices.Equal(values, []string{"1", "24"}) {
			t.Errorf("told of %q", values)
		}
		posts := r.got()
		last := posts[len(posts)-1].Instances
		if !last[0].Returned.Equal(r.begun.Add(30*time.Minute)) || last[0].BannedFor != 900 || !last[1].Returned.IsZero() {
			t.Errorf("who came back while it waited: %+v", last)
		}
		if tries := testutil.ToFloat64(only(r.Webhooks, "failed")); len(posts) > 30 || int(tries) != len(posts)-2 {
			t.Errorf("%d posts in an hour, %v counted as failed", len(posts), tries)
		}
	})
}

// only is the collector of one outcome.
func only(w *Webhooks, outcome string) prometheus.Collector {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "of_one"})
	for key, count := range w.counts.all() {
		if string(key.outcome) == outcome {
			gauge.Add(float64(count))
		}
	}
	return gauge
}

func TestLostAnswer(t *testing.T) {
	inBubble(t, time.Second, func(t *testing.T, r *rig) {
		r.answer = func(n int) (*http.Response, error) {
			if n == 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return status(202), nil
		}
		r.decide(health.Banned, "1", 0)
		time.Sleep(time.Minute)
		if p := r.got(); len(p) != 2 || p[0].key != p[1].key || p[0].body != p[1].body {
			t.Errorf("%d posts", len(p))
		}
	})
}

func TestBackoff(t *testing.T) {
	inBubble(t, time.Second, func(t *testing.T, r *rig) {
		r.answer = func(int) (*http.Response, error) { return status(503), nil }
		r.decide(health.Banned, "1", 0)
		time.Sleep(2 * time.Hour)
		most, posts := time.Second, r.got()
		for n := 1; n < len(posts); n++ {
			if pause := posts[n].at - posts[n-1].at; pause < most/2 || pause > most {
				t.Errorf("pause %d is %s, not within half of %s", n, pause, most)
			}
			most = min(2*most, 5*time.Minute)
		}
		if len(posts) < 30 {
			t.Errorf("%d tries in two hours", len(posts))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	f := func(header func() string, least, most time.Duration) {
		t.Helper()
		inBubble(t, time.Second, func(t *testing.T, r *rig) {
			r.answer = func(n int) (*http.Response, error) {
				if n == 0 {
					return status(429, "Retry-After", header()), nil
				}
				return status(200), nil
			}
			r.decide(health.Banned, "1", 0)
			time.Sleep(time.Hour)
			if p := r.got(); len(p) != 2 || p[1].at-p[0].at < least || p[1].at-p[0].at > most {
				t.Errorf("%q: %d posts, the last at %s", header(), len(p), p[len(p)-1].at)
			}
		})
	}
	always := func(text string) func() string { return func() string { return text } }
	f(always("90"), 90*time.Second, 90*time.Second)
	f(always("3600"), 10*time.Minute, 10*time.Minute)
	f(always("99999999999999999999999"), 10*time.Minute, 10*time.Minute)
	f(always("0"), 0, time.Second)
	f(always("-5"), 0, time.Second)
	f(always("soon"), 0, time.Second)
	in := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	f(in(2*time.Minute), 119*time.Second, 2*time.Minute)
	f(in(-time.Hour), 0, time.Second)
	f(in(24*time.Hour), 10*time.Minute, 10*time.Minute)
}

func TestWhatIsGivenUp(t *testing.T) {
	f := func(code, posts int, outcome string) {
		t.Helper()
		inBubble(t, time.Second, func(t *testing.T, r *rig) {
			r.answer = func(n int) (*http.Response, error) {
				if n == 0 {
					return status(code, "Location", "https://elsewhere.example.test/"), nil
				}
				return status(200), nil
			}
			r.decide(health.Banned, "1", 0)
			time.Sleep(time.Minute)
			if got := len(r.got()); got != posts || testutil.ToFloat64(only(r.Webhooks, outcome)) != 1 {
				t.Errorf("%d: %d posts, not %d; %v", code, got, posts, r.counts.all())
			}
			if given := strings.Contains(r.log.String(), "level=ERROR"); given != (outcome == "refused") {
				t.Errorf("%d: %s", code, r.log.String())
			}
			r.decide(health.Banned, "2", 0) // it goes on in any case
			time.Sleep(2 * time.Minute)
			if got := r.got(); got[len(got)-1].names() != "2" {
				t.Errorf("%d: nothing comes after it", code)
			}
		})
	}
	for _, code := range []int{200, 201, 204, 299} {
		f(code, 1, "delivered")
	}
	for _, code := range []int{400, 401, 403, 404, 405, 410, 422} {
		f(code, 1, "refused")
	}
	for _, code := range []int{301, 302, 307, 408, 425, 429, 500, 502, 503} {
		f(code, 2, "failed")
	}
}

// Who came back while a message was on its way is told of in the next one, and not again at his next ban: his judge's clock
// says of the ban a little less than has gone by until it was heard.
func TestReturnWhileAMessageIsOnItsWay(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.answer = func(int) (*http.Response, error) {
			if time.Since(r.begun) < 11*time.Minute {
				return nil, errors.New("down")
			}
			return status(204), nil
		}
		r.decide(health.Capped, "9", 0) // its message waits for the receiver
		r.decide(health.Banned, "1", 0)
		time.Sleep(11 * time.Minute)
		banned := 11*time.Minute - time.Millisecond
		r.decide(health.Reopened, "1", banned)
		r.decide(health.Banned, "1", banned)
		before := len(r.got())
		time.Sleep(7 * time.Minute)
		posts := r.got()[before:]
		if len(posts) != 2 || posts[1].names() != "1" || posts[1].Instances[0].Returned.IsZero() {
			t.Errorf("%d posts: %+v", len(posts), posts)
		}
		time.Sleep(5 * time.Minute)
		if posts = r.got()[before:]; len(posts) != 3 || posts[2].names() != "1" || !posts[2].Instances[0].Returned.IsZero() {
			t.Errorf("%d posts: %+v", len(posts), posts)
		}
	})
}
