package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// forwarding stands for an agent of through mode: it keeps what it is asked. It answers with the request's body, or breaks the
// connection off, or waits.
type forwarding struct {
	mu      sync.Mutex
	got     []*http.Request
	breaks  bool
	early   bool   // breaks before it reads the body
	hangs   bool   // until its connections are closed
	refuses string // x-ufc-error
}

func (f *forwarding) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == bypassPath {
		if f.hangs {
			<-r.Context().Done()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		w.Header().Set(headerError, cmp.Or(f.refuses, "unknown_service"))
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var body []byte
	if !f.early {
		body, _ = io.ReadAll(r.Body)
	}
	f.mu.Lock()
	f.got = append(f.got, r)
	refuses := f.refuses
	f.mu.Unlock()
	switch {
	case f.breaks, f.early:
		panic(http.ErrAbortHandler)
	case f.hangs:
		<-r.Context().Done()
	case refuses != "":
		w.Header().Set(headerError, refuses)
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		_, _ = w.Write(body)
	}
}

func (f *forwarding) set(refuses string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuses = refuses
}

func (f *forwarding) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got)
}

// proxied is a client of through mode with two agents.
type proxied struct {
	base
	local, backup *forwarding
}

func through(t *testing.T, test func(t *testing.T, p *proxied)) {
	t.Helper()
	local, backup := &forwarding{}, &forwarding{}
	inBubble(t, local, backup, func(t *testing.T, b base) { test(t, &proxied{b, local, backup}) })
}

// closing is a body that tells whether it was closed, and can't be read again.
type closing struct {
	io.Reader
	mu     sync.Mutex
	closed bool
}

func (c *closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *closing) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// send sends a request and returns the response's body.
func (p *proxied) send(t *testing.T, req *http.Request) (string, error) {
	t.Helper()
	resp, err := p.client.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.Request != req {
		t.Error("the response is to another request")
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestRequestIsPassed(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		req := request(t, http.MethodPost, "http://pcs-upload:8080/a%2Fb?c=d", strings.NewReader("a body")).WithContext(ctx)
		req.Header.Set("X-Ufc-Class", "7")
		req.Header.Set("Cookie", "a=b")
		time.Sleep(250 * time.Millisecond)
		body, err := p.send(t, req)
		if err != nil || body != "a body" {
			t.Fatalf("%q, %v", body, err)
		}
		got := p.local.got[0]
		for name, want := range map[string]string{
			headerService: "pcs-upload", headerSelf: "shop-web", headerTimeout: "1250",
			"X-Ufc-Class": "7", "Cookie": "a=b", "Accept-Encoding": "", headerAttempt: "",
		} {
			if got.Header.Get(name) != want {
				t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
			}
		}
		if got.Host != "pcs-upload:8080" || got.RequestURI != "/a%2Fb?c=d" || got.ContentLength != 6 {
			t.Errorf("host %q, URI %q, %d bytes", got.Host, got.RequestURI, got.ContentLength)
		}
		if req.URL.Host != "pcs-upload:8080" || len(req.Header) != 2 {
			t.Errorf("the program's request was changed: %v", req)
		}

		// What the program says itself stands.
		req = request(t, http.MethodGet, "http://anything/", nil)
		req.Host = "upload.example.test"
		req.Header.Set(headerService, "pcs-upload")
		req.Header.Set(headerSelf, "another")
		req.Header.Set(headerTimeout, "77")
		if _, err := p.send(t, req); err != nil {
			t.Fatal(err)
		}
		got = p.local.got[1]
		if got.Host != "upload.example.test" || got.Header.Get(headerService) != "pcs-upload" || got.Header.Get(headerSelf) != "another" ||
			got.Header.Get(headerTimeout) != "77" {
			t.Errorf("host %q, header %v", got.Host, got.Header)
		}

		// http.Client's own limit is the context's.
		web := http.Client{Transport: p.client, Timeout: 2 * time.Second}
		resp, err := web.Get("http://pcs-upload/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := p.local.got[2].Header.Get(headerTimeout); got != "2000" {
			t.Errorf("the client's timeout was sent as %q", got)
		}
	})
}

func TestDeadlineIsOver(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		body := &closing{Reader: strings.NewReader("a body")}
		req := request(t, http.MethodPost, "http://pcs-upload/", body).WithContext(ctx)
		time.Sleep(time.Second)
		if _, err := p.send(t, req); !errors.Is(err, context.DeadlineExceeded) || p.local.count() != 0 {
			t.Errorf("error %v, %d requests", err, p.local.count())
		}
		if !body.isClosed() {
			t.Error("the body is open")
		}
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		for _, url := range []string{"https://pcs-upload/", "http:///path", "redis://pcs-upload"} {
			body := &closing{Reader: strings.NewReader("a body")}
			if _, err := p.send(t, request(t, http.MethodPost, url, body)); err == nil || !body.isClosed() {
				t.Errorf("%s: error %v, closed %t", url, err, body.isClosed())
			}
		}
	})
}

// TestAgentUnreachable: whatever the method, and though the body can't be read twice.
func TestAgentUnreachable(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		f := func(limit time.Duration) {
			t.Helper()
			body := &closing{Reader: strings.NewReader("once")}
			start := time.Now()
			got, err := p.send(t, request(t, http.MethodPost, "http://pcs-upload/", body))
			if err != nil || got != "once" || !body.isClosed() {
				t.Errorf("%q, %v, closed %t", got, err, body.isClosed())
			}
			if took := time.Since(start); took > limit {
				t.Errorf("it took %s", took)
			}
		}
		p.stopLocal()
		f(0)
		p.serve(local, p.local)
		time.Sleep(2 * probeInterval)
		f(0)
		if p.local.count() != 1 || p.backup.count() != 1 {
			t.Errorf("the local agent got %d, its backup %d", p.local.count(), p.backup.count())
		}
		p.client.CloseIdleConnections()
		p.set(local, &host{hangs: true})
		f(DefaultConnectTimeout)
		f(0) // known by now
		if got := p.backup.got[1].Header.Get(headerAttempt); got != "" {
			t.Errorf("sent once, and x-ufc-attempt is %q", got)
		}
	})
}

func TestNoAgentAtAll(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		p.stopLocal()
		p.set(backup, nil)
		body := &closing{Reader: strings.NewReader("a body")}
		_, err := p.send(t, request(t, http.MethodPost, "http://pcs-upload/", body))
		var timeout net.Error
		if !errors.Is(err, syscall.ECONNREFUSED) || !errors.As(err, &timeout) || timeout.Timeout() || !body.isClosed() {
			t.Errorf("error %v, closed %t", err, body.isClosed())
		}
	})
}

// TestConnectionBreaks: what was sent is repeated only if that is safe, and can be.
func TestConnectionBreaks(t *testing.T) {
	f := func(method, key string, body func() io.Reader, repeated bool, want string) {
		t.Helper()
		through(t, func(t *testing.T, p *proxied) {
			p.local.breaks = true
			req := request(t, method, "http://pcs-upload/", body())
			if key != "" {
				req.Header.Set("Idempotency-Key", key)
			}
			got, err := p.send(t, req)
			if p.local.count() != 1 || p.backup.count() == 1 != repeated || (err == nil) != repeated || got != want {
				t.Errorf("%s: %q, %v; the local agent got %d, its backup %d", method, got, err, p.local.count(), p.backup.count())
			}
			if repeated && p.backup.got[0].Header.Get(headerAttempt) != "1" {
				t.Errorf("x-ufc-attempt is %q", p.backup.got[0].Header.Get(headerAttempt))
			}
			// It answers probes, and so is still the one to ask.
			time.Sleep(time.Second)
			p.local.breaks = false
			if _, err := p.send(t, request(t, http.MethodPost, "http://pcs-upload/", nil)); err != nil || p.local.count() != 2 {
				t.Errorf("error %v; the local agent got %d", err, p.local.count())
			}
		})
	}
	none := func() io.Reader { return nil }
	again := func() io.Reader { return strings.NewReader("again") } // http.NewRequest gives it GetBody
	once := func() io.Reader { return &closing{Reader: strings.NewReader("once")} }
	f(http.MethodGet, "", none, true, "")
	f(http.MethodDelete, "", none, true, "")
	f(http.MethodPut, "", again, true, "again")
	f(http.MethodPut, "", once, false, "")
	f(http.MethodPost, "", again, false, "")
	f(http.MethodPost, "", none, false, "")
	f(http.MethodPatch, "", again, false, "")
	f(http.MethodPost, "k", again, true, "again")
	f(http.MethodPost, "k", once, false, "")
}

// TestRequestsThatCantBeSent: what is wrong with a request is held against no agent, and isn't tried on the next one.
func TestRequestsThatCantBeSent(t *testing.T) {
	f := func(name string, most int, broken func(req *http.Request)) {
		t.Run(name, func(t *testing.T) {
			through(t, func(t *testing.T, p *proxied) {
				body := &closing{Reader: strings.NewReader("a body")}
				req := request(t, http.MethodPut, "http://pcs-upload/", body)
				req.GetBody = func() (io.ReadCloser, error) { return &closing{Reader: strings.NewReader("a body")}, nil }
				broken(req)
				resp, err := p.client.RoundTrip(req)
				if err == nil {
					t.Error(resp.Status)
				}
				for _, a := range p.client.through.list {
					if a.down.Load() {
						t.Errorf("%s is down after: %v", a.address, err)
					}
				}
				if len(p.dials()) > most {
					t.Errorf("dialed %v", p.dials())
				}
				if time.Sleep(time.Second); !body.isClosed() {
					t.Error("the body is open")
				}
			})
		})
	}
	f("its body can't be read", 1, func(req *http.Request) {
		req.Body.(*closing).Reader = io.MultiReader(strings.NewReader("a b"), iotest.ErrReader(errors.New("the disk is gone")))
	})
	f("a header of two lines", 0, func(req *http.Request) { req.Header.Set("X-Trace", "a\nb") })
	f("no method", 0, func(req *http.Request) { req.Method = "P U T" })
	f("a body shorter than it says", 4, func(req *http.Request) { req.ContentLength = 1000 })
}

// TestBodyIsClosedWhenTheConnectionBreaks while the transport may still be reading it.
func TestBodyIsClosedWhenTheConnectionBreaks(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		p.local.early = true
		body := &closing{Reader: strings.NewReader(strings.Repeat("much ", 100_000))}
		if _, err := p.send(t, request(t, http.MethodPut, "http://pcs-upload/", body)); err == nil {
			t.Error("no error")
		}
		time.Sleep(time.Second)
		if !body.isClosed() {
			t.Error("the body is open")
		}
	})
}

// TestHungAgent: a request that is out is lost, since it isn't known what became of it; the next ones go to the backup.
func TestHungAgent(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		p.local.hangs = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.send(t, request(t, http.MethodGet, "http://pcs-upload/", nil).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(DefaultConnectTimeout + time.Millisecond)
		if _, err := p.send(t, request(t, http.MethodGet, "http://pcs-upload/", nil)); err != nil || p.backup.count() != 1 {
			t.Errorf("error %v; the backup got %d", err, p.backup.count())
		}
		p.stopLocal()
		p.local = &forwarding{}
		p.serve(local, p.local)
		time.Sleep(2 * (probeInterval + DefaultConnectTimeout))
		if _, err := p.send(t, request(t, http.MethodGet, "http://pcs-upload/", nil)); err != nil || p.local.count() != 1 {
			t.Errorf("error %v; the local agent got %d", err, p.local.count())
		}
	})
}

// TestProgramGoesAway: that says nothing about the agent.
func TestProgramGoesAway(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		p.set(local, &host{hangs: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		if _, err := p.send(t, request(t, http.MethodGet, "http://pcs-upload/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if p.client.through.list[0].down.Load() || slices.Contains(p.dials(), backup) {
			t.Error("the agent is held to be down")
		}
		time.Sleep(time.Second)
	})
}

func TestAgentWithoutConfiguration(t *testing.T) {
	through(t, func(t *testing.T, p *proxied) {
		p.local.set(reasonNotSynced)
		if got, err := p.send(t, request(t, http.MethodPut, "http://pcs-upload/", strings.NewReader("again"))); err != nil || got != "again" {
			t.Errorf("%q, %v", got, err)
		}
		if p.backup.count() != 1 {
			t.Error("the backup wasn't asked")
		}
		// Until it has one, it isn't asked again.
		if _, err := p.send(t, request(t, http.MethodPost, "http://pcs-upload/", nil)); err != nil || p.local.count() != 1 || p.backup.count() != 2 {
			t.Errorf("error %v; the local agent got %d, its backup %d", err, p.local.count(), p.backup.count())
		}
		p.local.set("")
		time.Sleep(2 * probeInterval)
		// A POST isn't repeated; and other refusals are answers.
		for _, f := range []struct{ method, reason string }{{http.MethodGet, "fused"}, {http.MethodPost, reasonNotSynced}} {
			p.local.set(f.reason)
			resp, err := p.client.RoundTrip(request(t, f.method, "http://pcs-upload/", strings.NewReader("again")))
			if err != nil || resp.Header.Get(headerError) != f.reason || p.backup.count() != 2 {
				t.Errorf("%s %s: %v, %v", f.method, f.reason, resp, err)
			}
			resp.Body.Close()
		}
	})
}

// TestFailureDuringProbe: the probe that began before it says nothing of it, and the agent is watched on.
func TestFailureDuringProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probes := 0
		var l *agents
		l = newAgents([]string{local, backup}, func(context.Context, string) error {
			if probes++; probes == 1 {
				l.failed(l.list[0])
			}
			return nil
		})
		l.suspect(l.list[0])
		synctest.Wait()
		if l.next(nil).address != backup {
			t.Error("the failure is forgotten")
		}
		time.Sleep(2 * probeInterval)
		if l.next(nil).address != local || probes != 2 {
			t.Errorf("it is down for ever, after %d probes", probes)
		}
		l.failed(l.list[0])
		l.close()
		l.failed(l.list[0])
		if l.next(nil).address != local {
			t.Error("it is down, and nobody watches")
		}
	})
}
