package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// dropping is an instance that reads a request's head and body and then closes the connection without an answer.
func dropping(t *testing.T, seen *atomic.Int32) string {
	return rawBackend(t, func(_ *net.TCPConn, reader *bufio.Reader) {
		if req, err := http.ReadRequest(reader); err == nil {
			io.Copy(io.Discard, req.Body)
			seen.Add(1)
		}
	})
}

// TestRetriesAfterBytesWereSent lets instances fail after they have read the request.
func TestRetriesAfterBytesWereSent(t *testing.T) {
	f := func(name, method, body string, change func(*model.Service), header http.Header, retried bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			var dropped atomic.Int32
			live := backend(t, func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s", r.Header.Get("x-ufc-attempt"), got)
			})
			r := newRig(t, change, dropping(t, &dropped), live)
			ok, refused := 0, 0
			for range 8 {
				req := r.request(t, method, "/", strings.NewReader(body))
				req.Header["X-Idempotency-Key"] = header["X-Idempotency-Key"]
				resp, got := r.do(t, req)
				switch {
				case resp.StatusCode == 200:
					ok++
					if _, echoed, _ := strings.Cut(got, " "); method != "HEAD" && echoed != body {
						t.Errorf("the instance got %d bytes of %d", len(echoed), len(body))
					}
				case resp.StatusCode == 502 && resp.Header.Get("x-ufc-error") == "read":
					refused++
				default:
					t.Errorf("got %d %q %s", resp.StatusCode, resp.Header.Get("x-ufc-error"), got)
				}
			}
			if dropped.Load() == 0 || ok+refused != 8 || (refused == 0) != retried {
				t.Errorf("%d of 8 were answered, %d refused; the bad instance had %d", ok, refused, dropped.Load())
			}
		})
	}
	small, large := strings.Repeat("x", maxReplay), strings.Repeat("x", 4*maxReplay)
	f("GET", "GET", "", nil, nil, true)
	f("HEAD", "HEAD", "", nil, nil, true)
	f("DELETE", "DELETE", "", nil, nil, true)
	f("PUT with a body", "PUT", small, nil, nil, true)
	f("PUT with a body that isn't kept", "PUT", large, nil, nil, false)
	f("POST", "POST", "", nil, nil, false)
	f("PATCH", "PATCH", "x", nil, nil, false)
	f("POST where it is allowed", "POST", small, func(s *model.Service) { s.Retries.Unsafe = true }, nil, true)
	f("POST with a key", "POST", small, nil, http.Header{"X-Idempotency-Key": {"7"}}, true)
	f("read isn't to be retried", "GET", "", func(s *model.Service) {
		s.Retries.Normal.When = []model.RetryWhen{model.WhenConnect, model.WhenWrite}
	}, nil, false)
	f("no retries", "GET", "", func(s *model.Service) { s.Retries.Normal.Attempts = 0 }, nil, false)
}

// TestReplayOfABodyThatComesSlowly: the first instance fails while the client is still sending.
func TestReplayOfABodyThatComesSlowly(t *testing.T) {
	var calls atomic.Int32
	handle := func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			io.ReadFull(r.Body, make([]byte, 5))
			panic(http.ErrAbortHandler)
		}
		got, _ := io.ReadAll(r.Body)
		w.Write(got)
	}
	r := newRig(t, nil, backend(t, handle), backend(t, handle))
	reader, writer := io.Pipe()
	go func() {
		for n := range 10 {
			fmt.Fprintf(writer, "part%d", n)
			time.Sleep(10 * time.Millisecond) // a slow client is what this is about
		}
		writer.Close()
	}()
	resp, got := r.do(t, r.request(t, "PUT", "/", reader))
	if resp.StatusCode != 200 || got != "part0part1part2part3part4part5part6part7part8part9" || calls.Load() != 2 {
		t.Errorf("got %d %q after %d attempts", resp.StatusCode, got, calls.Load())
	}
}

func TestNoRetryAfterTheHead(t *testing.T) {
	var calls atomic.Int32
	broken := func() string {
		return rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
			calls.Add(1)
			answering("HTTP/1.1 200 OK\nContent-Length: 100\n\nonly this")(conn, reader)
		})
	}
	r := newRig(t, nil, broken(), broken())
	resp, err := r.client.Do(r.request(t, "GET", "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if string(got) != "only this" || !errors.Is(err, io.ErrUnexpectedEOF) || calls.Load() != 1 {
		t.Errorf("got %q %v after %d attempts: one response, and its end missing", got, err, calls.Load())
	}
}

func TestRetryBudgetEndsRetries(t *testing.T) {
	var dropped atomic.Int32
	r := newRig(t, func(s *model.Service) { s.Retries.Budget = 0 }, dropping(t, &dropped), dropping(t, &dropped))
	for range 15 {
		if resp, _ := r.do(t, r.request(t, "GET", "/", nil)); resp.StatusCode != 502 {
			t.Errorf("got %s", resp.Status)
		}
	}
	r.expect(t, 10, "ufc_retries_total") // what the bucket holds
	r.expect(t, 25, "ufc_attempts_total")
}

// unanswering is an instance that takes requests and never answers them.
func unanswering(t *testing.T) string {
	return rawBackend(t, func(_ *net.TCPConn, reader *bufio.Reader) { io.Copy(io.Discard, reader) })
}

// quickly changes a Service so that its limits pass within a test.
func quickly(change func(*model.Service)) func(*model.Service) {
	return func(s *model.Service) {
		s.Retries.Normal.Attempts = 0
		s.Timeouts.Normal.Read = ms(60)
		change(s)
	}
}

func ms(n int) model.Duration { return model.Duration(n) * model.Duration(time.Millisecond) }

func TestTimeLimits(t *testing.T) {
	slowBody := func(pause time.Duration) func(*testing.T) string {
		return func(t *testing.T) string {
			return backend(t, func(w http.ResponseWriter, r *http.Request) {
				for range 4 {
					io.WriteString(w, "part")
					w.(http.Flusher).Flush()
					time.Sleep(pause)
				}
			})
		}
	}
	slowHead := func(t *testing.T) string {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(300 * time.Millisecond):
			case <-r.Context().Done():
			}
		})
	}
	f := func(name string, instance func(*testing.T) string, change func(*model.Service), header map[string]string, status int, reason, result string) {
		t.Helper()
		for _, protocol := range []model.Protocol{model.HTTP} {
			t.Run(name+"/"+string(protocol), func(t *testing.T) {
				r := newRig(t, quickly(func(s *model.Service) {
					s.Protocol = protocol
					change(s)
				}), instance(t))
				req := r.request(t, "GET", "/", nil)
				for name, value := range header {
					req.Header.Set(name, value)
				}
				resp, err := r.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				_, err = io.ReadAll(resp.Body)
				if resp.StatusCode != status || resp.Header.Get("x-ufc-error") != reason {
					t.Errorf("got %d %q", resp.StatusCode, resp.Header.Get("x-ufc-error"))
				}
				if broken := status == 200 && result != "ok"; (err != nil) != broken {
					t.Errorf("the body ends with %v", err)
				}
				r.expect(t, 1, "ufc_attempts_total", "result", result)
			})
		}
	}
	same := func(*model.Service) {}
	long := func(s *model.Service) { s.Timeouts.Normal.Read = ms(5000) }
	f("head", unanswering, same, nil, 504, "read", "read_timeout")
	f("idle in the body", slowBody(200*time.Millisecond), same, nil, 200, "", "read_timeout")
	f("a slow body that moves", slowBody(200*time.Millisecond), func(s *model.Service) { s.Timeouts.Normal.Read = ms(600) }, nil, 200, "", "ok")
	f("total", unanswering, func(s *model.Service) { long(s); s.Timeouts.Normal.Total = ms(60) }, nil, 504, "deadline", "read_timeout")
	f("total is until the head", slowBody(100*time.Millisecond), func(s *model.Service) { long(s); s.Timeouts.Normal.Total = ms(300) }, nil, 200, "", "ok")
	f("client's deadline", unanswering, long, map[string]string{"x-ufc-timeout-ms": "60"}, 504, "deadline", "canceled")
	f("client's deadline in the body", slowBody(100*time.Millisecond), long, map[string]string{"x-ufc-timeout-ms": "150"}, 200, "", "canceled")
	f("client's read limit, shorter", slowHead, long, map[string]string{"x-ufc-read-timeout-ms": "60"}, 504, "read", "canceled")
	f("client's read limit, longer", slowHead, same, map[string]string{"x-ufc-read-timeout-ms": "5000"}, 200, "", "ok")
	f("no override", slowHead, func(s *model.Service) { s.Timeouts.ClientOverride = false }, map[string]string{"x-ufc-read-timeout-ms": "5000"}, 504, "read", "read_timeout")
}

func TestWriteLimit(t *testing.T) {
	address := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		_ = conn.SetReadBuffer(4 << 10)
		http.ReadRequest(reader)
		time.Sleep(time.Second) // takes no more
	})
	r := newRig(t, quickly(func(s *model.Service) { s.Timeouts.Normal.Write = ms(100) }), address)
	resp, _ := r.do(t, r.request(t, "PUT", "/", io.LimitReader(&counting{}, 64<<20)))
	if resp.StatusCode != 504 || resp.Header.Get("x-ufc-error") != "write" {
		t.Errorf("got %d %q", resp.StatusCode, resp.Header.Get("x-ufc-error"))
	}
	r.expect(t, 1, "ufc_attempts_total", "result", "write_timeout")
}

// TestSlowClientIsNobodysFault: an upload may take longer than all limits but the client's own.
func TestSlowClientIsNobodysFault(t *testing.T) {
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	r := newRig(t, quickly(func(s *model.Service) {
		s.Timeouts.Normal = model.TimeoutSet{Connect: ms(300), Write: ms(250), Read: ms(250), Total: ms(250)}
	}), live)
	reader, writer := io.Pipe()
	go func() {
		for range 3 {
			io.WriteString(writer, "part")
			time.Sleep(300 * time.Millisecond) // a slow client is what this is about
		}
		writer.Close()
	}()
	if resp, got := r.do(t, r.request(t, "PUT", "/", reader)); resp.StatusCode != 200 || got != "12" {
		t.Errorf("got %d %s", resp.StatusCode, got)
	}
}

func TestTimeHeaders(t *testing.T) {
	got := make(chan http.Header, 10)
	live := backend(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })
	r := newRig(t, nil, append(refusing(t, 1), live)...)
	for range 4 {
		req := r.request(t, "GET", "/", nil)
		req.Header.Set("x-ufc-timeout-ms", "5000")
		r.do(t, req)
		left, err := strconv.Atoi((<-got).Get("x-ufc-timeout-ms"))
		if err != nil || left > 5000 || left < 4000 {
			t.Errorf("of 5000 ms, %d are left at the instance (%v)", left, err)
		}
	}
	r.do(t, r.request(t, "GET", "/", nil))
	if header := <-got; header.Get("x-ufc-timeout-ms") != "" {
		t.Error("a limit was made up")
	}
	f := func(name, value string, status int, reason string) {
		t.Helper()
		req := r.request(t, "GET", "/", nil)
		req.Header[http.CanonicalHeaderKey(name)] = strings.Split(value, "|")
		resp, body := r.do(t, req)
		if resp.StatusCode != status || resp.Header.Get("x-ufc-error") != reason {
			t.Errorf("%s %q: %d %q %s", name, value, resp.StatusCode, resp.Header.Get("x-ufc-error"), body)
		}
		if status != 200 && len(got) > 0 {
			t.Errorf("%s %q was sent to the instance", name, value)
		}
		for len(got) > 0 {
			<-got
		}
	}
	f("x-ufc-timeout-ms", "0", 504, "deadline")
	f("x-ufc-timeout-ms", "-1", 400, "bad_request")
	f("x-ufc-timeout-ms", "soon", 400, "bad_request")
	f("x-ufc-timeout-ms", "86400001", 400, "bad_request")
	f("x-ufc-timeout-ms", "99999999999999999999", 400, "bad_request")
	f("x-ufc-timeout-ms", "5|6", 400, "bad_request")
	f("x-ufc-timeout-ms", "5000|5000", 200, "")
	f("x-ufc-read-timeout-ms", "0", 400, "bad_request")
	f("x-ufc-connect-timeout-ms", "1.5", 400, "bad_request")
	f("x-ufc-write-timeout-ms", "1000", 200, "")
	r.Service = "shop"
	f("x-ufc-timeout-ms", "0", 200, "") // a gateway's clients have no say
}

// TestDeadlineEndsRetries: no attempt begins when the call's time is over, and the caller hears why.
func TestDeadlineEndsRetries(t *testing.T) {
	r := newRig(t, func(s *model.Service) { s.Timeouts.Normal.Read = ms(50) }, unanswering(t), unanswering(t), unanswering(t))
	req := r.request(t, "GET", "/", nil)
	req.Header.Set("x-ufc-timeout-ms", "75")
	resp, _ := r.do(t, req)
	if resp.StatusCode != 504 {
		t.Errorf("got %s", resp.Status)
	}
	if n := r.count(t, "ufc_attempts_total"); n > 2 {
		t.Errorf("%v attempts", n)
	}
}

// hedgingRig has two instances and a callee that hedges at 50 ms, of whose latency enough is known.
func hedgingRig(t *testing.T, handle func(slow bool, w http.ResponseWriter, r *http.Request)) (r *rig, slow *atomic.Int32) {
	slow = new(atomic.Int32)
	slow.Store(-1)
	instance := func(n int32) string {
		return backend(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/warm" {
				time.Sleep(20 * time.Millisecond) // so that a hedge isn't made at once
				return
			}
			handle(slow.Load() == n, w, r)
		})
	}
	r = newRig(t, func(s *model.Service) { s.Hedge = &model.Hedge{Percentile: 0.9, Budget: 0.5} }, instance(0), instance(1))
	var warm sync.WaitGroup
	for range 40 {
		warm.Go(func() { r.do(t, r.request(t, "GET", "/warm", nil)) })
	}
	warm.Wait()
	time.Sleep(300 * time.Millisecond) // until the percentile is computed anew
	return r, slow
}

func TestHedge(t *testing.T) {
	gone := make(chan struct{}, 10)
	r, slow := hedgingRig(t, func(slow bool, w http.ResponseWriter, r *http.Request) {
		if slow {
			io.Copy(io.Discard, r.Body) // a server looks after the connection only then
			<-r.Context().Done()
			gone <- struct{}{}
			return
		}
		io.WriteString(w, r.Header.Get("x-ufc-attempt"))
	})
	slow.Store(0)
	hedged := 0
	for range 6 {
		resp, body := r.do(t, r.request(t, "GET", "/", nil))
		if resp.StatusCode != 200 {
			t.Fatalf("got %s %s", resp.Status, body)
		}
		if body == "1" {
			hedged++
			within(t, "the loser's cancellation", once(gone))
		}
	}
	if hedged == 0 {
		t.Fatal("no call was hedged")
	}
	r.expect(t, float64(hedged), "ufc_hedges_total", "outcome", "won")
	r.expect(t, float64(hedged), "ufc_attempts_total", "result", "canceled")
	r.expect(t, 0, "ufc_retries_total")

	// What may not reach two instances, and what has a body, isn't hedged.
	before := r.count(t, "ufc_hedges_total")
	for _, req := range []*http.Request{r.request(t, "POST", "/", nil), r.request(t, "PUT", "/", strings.NewReader("x"))} {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		resp, err := r.client.Do(req.WithContext(ctx))
		if err == nil {
			resp.Body.Close()
		}
		cancel()
	}
	if after := r.count(t, "ufc_hedges_total"); after != before {
		t.Errorf("%v hedges more", after-before)
	}
}

// once turns one value into a closed channel.
func once(from <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		<-from
		close(done)
	}()
	return done
}

func TestClientLeavesWhileHedged(t *testing.T) {
	var running atomic.Int32
	r, _ := hedgingRig(t, func(_ bool, _ http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if resp, err := r.client.Do(r.request(t, "GET", "/", nil).WithContext(ctx)); err == nil {
		resp.Body.Close()
		t.Error("somebody answered")
	}
	r.expect(t, 2, "ufc_attempts_total", "result", "canceled")
	eventually(t, func() bool { return running.Load() == 0 }, func() string { return "the instances don't learn that the client has gone" })
}

func TestReplay(t *testing.T) {
	source := &spy{Reader: strings.NewReader("0123456789")}
	u := newReplay(&http.Request{Body: source}, true)
	first, second := u.reader(func() {}), u.reader(func() {})
	buffer := make([]byte, 4)
	if n, err := first.Read(buffer); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	first.Close()
	if _, err := first.Read(buffer); !errors.Is(err, errReplaced) {
		t.Errorf("a closed reader reads: %v", err)
	}
	if source.closes.Load() != 0 || !u.replayable() || u.whole() {
		t.Errorf("closed %d, replayable %v, whole %v", source.closes.Load(), u.replayable(), u.whole())
	}
	u.settle(second)
	if got, err := io.ReadAll(second); string(got) != "0123456789" || err != nil || !u.whole() {
		t.Errorf("the second attempt reads %q %v", got, err)
	}
	second.Close()
	second.Close()
	if source.closes.Load() != 1 {
		t.Errorf("closed %d times", source.closes.Load())
	}
	// The client's fault is everybody's.
	broken := newReplay(&http.Request{Body: io.NopCloser(io.MultiReader(strings.NewReader("x"), failing{}))}, true)
	for range 2 {
		if got, err := io.ReadAll(broken.reader(func() {})); string(got) != "x" || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read %q %v", got, err)
		}
	}
	var body *RequestBodyError
	if !errors.As(broken.failure(), &body) || broken.whole() {
		t.Errorf("%v", broken.failure())
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the client has gone") }

func TestRepeatable(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"} {
		if !repeatable(&http.Request{Method: method}, model.DefaultService("shop")) {
			t.Errorf("%s is idempotent", method)
		}
	}
	for _, method := range []string{"POST", "PATCH", "LOCK", "get"} {
		if repeatable(&http.Request{Method: method}, model.DefaultService("shop")) {
			t.Errorf("%s isn't", method)
		}
	}
	if slices.Contains([]bool{errSlow.(net.Error).Timeout(), errOver.(net.Error).Timeout()}, false) {
		t.Error("time limits are timeouts")
	}
}

// TestStalledUploadEndsWithItsAttempt: a client that stops in the middle of its body hears of the attempt's failure.
func TestStalledUploadEndsWithItsAttempt(t *testing.T) {
	f := func(name, method, header string, instance string, status int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, instance)
			_, reader := r.dial(t, method+" / HTTP/1.1\nHost: h\nx-ufc-service-name: shop\n"+header+"Content-Length: 10\n\nabc")
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("got %s %q", resp.Status, resp.Header.Get("x-ufc-error"))
			}
		})
	}
	reset := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		conn.SetLinger(0)
	})
	f("the call's time is over", "POST", "x-ufc-timeout-ms: 100\n", unanswering(t), 504)
	f("POST to an instance that resets", "POST", "", reset, 502)
	f("PUT to an instance that resets", "PUT", "", reset, 502)
}

func TestManyHeadersDontStay(t *testing.T) {
	r := newRig(t, nil, backend(t, func(http.ResponseWriter, *http.Request) {}))
	req := r.request(t, "GET", "/", nil)
	for n := range 2 * mostHeaders {
		req.Header.Set(fmt.Sprintf("x-%d", n), "1")
	}
	r.do(t, req)
	for range 100 {
		x := relays.Get().(*relay)
		if x.headers != 0 || len(x.header) != 0 {
			t.Fatalf("a relay that is used again has %d headers", len(x.header))
		}
	}
}
