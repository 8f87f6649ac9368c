package forward

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestRefusedConnectionIsRetriedElsewhere(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen[r.Header.Get("x-ufc-attempt")]++
		mu.Unlock()
		fmt.Fprintf(w, "%s %s", r.Method, body)
	})
	r := newRig(t, nil, append(refusing(t, 2), live)...)
	const calls = 30
	for n := range calls {
		body := strings.Repeat("x", n*1000)
		resp, got := r.do(t, r.request(t, "POST", "/", strings.NewReader(body)))
		if resp.StatusCode != 200 || got != "POST "+body {
			t.Fatalf("call %d: %d, %d bytes, want all %d", n, resp.StatusCode, len(got), len(body))
		}
	}
	if seen["2"] == 0 || seen["0"]+seen["1"]+seen["2"] != calls {
		t.Errorf("x-ufc-attempt as the instance saw it: %v", seen)
	}
	r.expect(t, calls, "ufc_attempts_total", "result", "ok")
	refused := r.count(t, "ufc_attempts_total", "result", "connect_error")
	if retries := r.count(t, "ufc_retries_total"); retries == 0 || retries != refused {
		t.Errorf("%v retries for %v refused connections", retries, refused)
	}
}

func TestConnectFailuresEndWithRefusal(t *testing.T) {
	f := func(name string, change func(*model.Service), status int, reason, detail, result string, attempts float64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, change, refusing(t, 5)...)
			resp, body := r.do(t, r.request(t, "GET", "/", nil))
			if resp.StatusCode != status || resp.Header.Get("x-ufc-error") != reason || !strings.Contains(body, detail) {
				t.Errorf("got %d %q %s", resp.StatusCode, resp.Header.Get("x-ufc-error"), body)
			}
			if strings.Contains(body, "127.0.0.7") {
				t.Errorf("the client learns an address: %s", body)
			}
			r.expect(t, attempts, "ufc_attempts_total", "result", result)
			r.expect(t, 1, "ufc_requests_total", "code", fmt.Sprint(status))
		})
	}
	f("refused", nil, 502, "connect", "3 attempts failed, the last: connection refused", "connect_error", 3)
	f("none retried", func(s *model.Service) { s.Retries.Normal.Attempts = 0 },
		502, "connect", "the attempt failed: connection refused", "connect_error", 1)
	f("connect is not retried", func(s *model.Service) { s.Retries.Normal.When = []model.RetryWhen{model.WhenRead} },
		502, "connect", "the attempt failed", "connect_error", 1)
	f("as many as there are", func(s *model.Service) { s.Retries.Normal.Attempts = 10 },
		502, "connect", "5 attempts failed", "connect_error", 5)
	f("timeout", func(s *model.Service) { s.Timeouts.Normal.Connect = 1 },
		504, "connect", "3 attempts failed, the last: timed out", "connect_timeout", 3)
	f("https", func(s *model.Service) { s.Protocol = model.HTTPS }, 502, "connect", "3 attempts failed, the last: connection refused", "connect_error", 3)
	f("h2c", func(s *model.Service) { s.Protocol = model.H2C }, 502, "connect", "3 attempts failed, the last: connection refused", "connect_error", 3)
	f("bad TLS files", func(s *model.Service) { s.Protocol, s.TLS.CA = model.HTTPS, "/nonexistent/ca.pem" },
		502, "protocol", "its TLS files can't be used", "ok", 0)
	f("tcp", func(s *model.Service) { s.Protocol = model.TCP }, 502, "protocol", "bypass mode only", "ok", 0)
}

// begin returns a call to shop that has begun.
func (r *rig) begin(t testing.TB) *agent.Call {
	t.Helper()
	call := &agent.Call{Callee: "shop", Caller: "video-web", Class: agent.DefaultClass}
	if err := r.agent.Begin(call); err != nil {
		t.Fatal(err)
	}
	return call
}

// spy is a request body that knows what was done to it.
type spy struct {
	io.Reader
	reads, closes atomic.Int32
}

func (s *spy) Read(p []byte) (int, error) {
	s.reads.Add(1)
	return s.Reader.Read(p)
}

func (s *spy) Close() error {
	s.closes.Add(1)
	return nil
}

func TestRoundTripLeavesTheRequestAlone(t *testing.T) {
	var got http.Header
	var host string
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		got, host = r.Header, r.Host
		w.Header().Set("X-Ufc-Error", "forged")
		w.Header().Set("X-Ufc-Backend", "forged")
		w.Header().Set("X-Ufc-Panic", "1")
		w.Header().Set("X-Ufc-Degrade", "2") // what it heard of a callee of its own
	})
	r := newRig(t, func(s *model.Service) { s.Host = "inner.example.test" }, append(refusing(t, 1), live)...)
	for range 2 { // with and without a retry
		body := &spy{Reader: strings.NewReader("hello")}
		req := httptest.NewRequest("POST", "http://outer.example.test/x?y", body)
		req.Body = body
		req.Header = http.Header{"X-Ufc-Class": {"7"}, "X-Ufc-Service-Name": {"forged"}, "X-Other": {"kept"}}
		call := r.begin(t)
		resp, err := r.Forwarder.RoundTrip(req, call, func(*http.Response) {})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got.Get("X-Ufc-Class") != "" || got.Get("X-Ufc-Service-Name") != "shop" ||
			got.Get("X-Ufc-Self-Service-Name") != "video-web" || got.Get("X-Other") != "kept" {
			t.Errorf("the instance got %v", got)
		}
		if want := fmt.Sprint(call.Attempts() - 1); got.Get("X-Ufc-Attempt") != want {
			t.Errorf("the instance got attempt %q, want %q", got.Get("X-Ufc-Attempt"), want)
		}
		if host != "inner.example.test" {
			t.Errorf("the instance got the host %q", host)
		}
		if len(req.Header) != 3 || req.URL.Host != "outer.example.test" || req.Host != "outer.example.test" || req.Body != body {
			t.Errorf("the caller's request was changed: %v", req)
		}
		if resp.Header.Get("X-Ufc-Error")+resp.Header.Get("X-Ufc-Backend")+resp.Header.Get("X-Ufc-Panic")+
			resp.Header.Get("X-Ufc-Degrade") != "" {
			t.Errorf("response header %v", resp.Header)
		}
		eventually(t, func() bool { return body.closes.Load() > 0 }, func() string { return "the body was never closed" })
	}
}

func TestRoundTripClosesTheBodyWhenNobodyTakesIt(t *testing.T) {
	f := func(name string, change func(*model.Service), addresses ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t, change, addresses...)
			body := &spy{Reader: strings.NewReader("hello")}
			req := httptest.NewRequest("POST", "http://h/", body)
			req.Body = body
			resp, err := r.Forwarder.RoundTrip(req, r.begin(t), func(*http.Response) { t.Error("there is nothing that could end") })
			var refusal *agent.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("got %v, %v, want a refusal", resp, err)
			}
			if body.reads.Load() != 0 || body.closes.Load() != 1 {
				t.Errorf("%d reads, %d closes, want 0 and 1", body.reads.Load(), body.closes.Load())
			}
		})
	}
	f("no instance", nil)
	f("refused", nil, refusing(t, 2)...)
	f("protocol", func(s *model.Service) { s.Protocol = model.TCP }, refusing(t, 1)...)
}

func TestOutcomeIsToldWhereTheBodyEnds(t *testing.T) {
	release := make(chan struct{})
	live := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			io.WriteString(w, "one")
			w.(http.Flusher).Flush()
			<-release
		case "/broken":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "one")
		case "/none":
			w.WriteHeader(204)
		}
		io.WriteString(w, "two")
	})
	type body = io.ReadCloser
	f := func(path, result string, use func(*rig, body)) {
		t.Helper()
		t.Run(path+" "+result, func(t *testing.T) {
			r := newRig(t, nil, live)
			ends := 0
			resp, err := r.Forwarder.RoundTrip(httptest.NewRequest("GET", "http://h"+path, nil), r.begin(t), func(*http.Response) { ends++ })
			if err != nil {
				t.Fatal(err)
			}
			if some := resp.Body != http.NoBody; some == (ends == 1) {
				t.Errorf("ended %d times at the head", ends)
			}
			use(r, resp.Body)
			resp.Body.Close()
			if ends != 1 {
				t.Errorf("ended %d times", ends)
			}
			r.expect(t, 1, "ufc_attempts_total", "result", result)
			r.expect(t, 1, "ufc_attempts_total")
		})
	}
	first := make([]byte, 3)
	f("/long", "ok", func(r *rig, b body) {
		io.ReadFull(b, first)
		if n := r.count(t, "ufc_attempts_total"); n != 0 {
			t.Errorf("the outcome was told before the body's end")
		}
		close(release)
		io.ReadAll(b)
	})
	f("/", "canceled", func(_ *rig, b body) {})
	f("/", "ok", func(_ *rig, b body) { io.ReadAll(b); b.Close(); b.Close() })
	f("/broken", "read_error", func(_ *rig, b body) { io.ReadAll(b) })
	f("/none", "ok", func(*rig, body) {})
}

func TestFailuresAfterTheConnection(t *testing.T) {
	reset := func(conn *net.TCPConn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		conn.SetLinger(0)
	}
	f := func(name string, handle func(*net.TCPConn, *bufio.Reader), result, detail string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			address := rawBackend(t, handle)
			r := newRig(t, nil, address, rawBackend(t, handle))
			resp, body := r.do(t, r.request(t, "POST", "/", nil))
			if resp.StatusCode != 502 || resp.Header.Get("x-ufc-error") != "read" || !strings.Contains(body, detail) {
				t.Errorf("got %d %q %s", resp.StatusCode, resp.Header.Get("x-ufc-error"), body)
			}
			r.outcome(t, result, "502") // one attempt: the request may have had its effect
		})
	}
	f("reset", reset, "reset", "connection reset by peer")
	f("closed", func(_ *net.TCPConn, reader *bufio.Reader) { http.ReadRequest(reader) }, "read_error", "closed the connection")
	f("garbage", answering("220 mail.example.test ESMTP\n"), "read_error", "no valid HTTP response")
	f("status 42", answering("HTTP/1.1 042 Odd\n\n"), "read_error", "no valid HTTP response")
	f("unasked upgrade", answering("HTTP/1.1 101 Switching\nConnection: Upgrade\nUpgrade: x\n\n"), "read_error", "no valid HTTP")
	f("101 to nothing", answering("HTTP/1.1 101 Switching\n\n"), "read_error", "no valid HTTP")
	f("endless head", func(conn *net.TCPConn, reader *bufio.Reader) {
		answering("HTTP/1.1 200 OK\n")(conn, reader)
		line := "X-Filler: " + strings.Repeat("x", 1000) + "\r\n"
		for range 2 * maxResponseHead / len(line) {
			if _, err := io.WriteString(conn, line); err != nil {
				return
			}
		}
	}, "read_error", "no valid HTTP response")
}

func TestInstanceResetsWithinTheRequest(t *testing.T) {
	reset := func(conn *net.TCPConn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		conn.SetLinger(0)
	}
	r := newRig(t, nil, rawBackend(t, reset), rawBackend(t, reset))
	resp, body := r.do(t, r.request(t, "POST", "/", io.LimitReader(&counting{}, 64<<20)))
	// Writer and reader of the connection both learn of the reset; who does first is chance.
	if reason := resp.Header.Get("x-ufc-error"); resp.StatusCode != 502 || reason != "read" && reason != "write" {
		t.Errorf("got %d %q %s", resp.StatusCode, reason, body)
	}
	r.expect(t, 1, "ufc_attempts_total")
	if n := r.count(t, "ufc_attempts_total", "result", "reset") + r.count(t, "ufc_attempts_total", "result", "write_error"); n != 1 {
		t.Errorf("neither a reset nor a write error was told")
	}
}

func TestConnectionsAreKeptAsTheServiceSays(t *testing.T) {
	f := func(name string, connections model.Connections, calls, want int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			var opened atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "hello")
			}))
			server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					opened.Add(1)
				}
			}
			server.Start()
			t.Cleanup(server.Close)
			r := newRig(t, func(s *model.Service) { s.Connections = connections }, server.Listener.Addr().String())
			for range calls {
				r.do(t, r.request(t, "GET", "/", nil))
			}
			if got := int(opened.Load()); got != want {
				t.Errorf("%d connections for %d calls, want %d", got, calls, want)
			}
		})
	}
	keep := model.DefaultService("x").Connections
	f("kept", keep, 5, 1)
	never := keep
	never.KeepAlive = false
	f("one request each", never, 5, 5)
	none := keep
	none.MaxIdlePerInstance = 0
	f("none idle", none, 5, 5)
}

func TestClosedIdleConnectionCostsNothing(t *testing.T) {
	var calls atomic.Int32
	second := make(chan struct{})
	address := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		calls.Add(1)
		answering("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")(conn, reader)
		if calls.Load() == 1 {
			http.ReadRequest(reader) // and close: the second request came when the connection was being given up
			close(second)
		}
	})
	r := newRig(t, nil, address)
	for range 2 {
		if resp, body := r.do(t, r.request(t, "GET", "/", nil)); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	within(t, "the second request on the first connection", second)
	r.expect(t, 2, "ufc_attempts_total", "result", "ok")
	r.expect(t, 2, "ufc_attempts_total")
}

func TestForwarderAfterClose(t *testing.T) {
	live := backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "late") })
	r := newRig(t, nil, live)
	r.Forwarder.Close()
	if _, body := r.do(t, r.request(t, "GET", "/", nil)); body != "late" {
		t.Errorf("a call that was late got %q", body)
	}
}

func TestResults(t *testing.T) {
	timeout := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	number := func(op string, number syscall.Errno) error {
		return &net.OpError{Op: op, Err: os.NewSyscallError(op, number)}
	}
	f := func(classify func(error) health.Result, err error, want health.Result) {
		t.Helper()
		if got := classify(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
	f(connectResult, number("connect", syscall.ECONNREFUSED), health.ConnectError)
	f(connectResult, number("connect", syscall.EHOSTUNREACH), health.ConnectError)
	f(connectResult, timeout, health.ConnectTimeout)
	f(connectResult, number("socket", syscall.EMFILE), health.Canceled)
	f(connectResult, number("connect", syscall.EADDRNOTAVAIL), health.Canceled)
	f(writeResult, number("write", syscall.EPIPE), health.WriteError)
	f(writeResult, number("write", syscall.ECONNRESET), health.Reset)
	f(writeResult, timeout, health.WriteTimeout)
	f(readResult, number("read", syscall.ECONNRESET), health.Reset)
	f(readResult, io.ErrUnexpectedEOF, health.ReadError)
	f(readResult, timeout, health.ReadTimeout)
}

func TestFailureAnswers(t *testing.T) {
	call := &agent.Call{Callee: "shop"}
	f := func(failed failure, status int, reason, detail string) {
		t.Helper()
		var refusal *agent.Refusal
		if !errors.As(failed.answer(call), &refusal) {
			t.Fatalf("%v is no refusal", failed.answer(call))
		}
		if refusal.Status() != status || refusal.Reason != reason || !strings.HasSuffix(refusal.Detail, detail) {
			t.Errorf("%v: got %d %q %q", failed.err, refusal.Status(), refusal.Reason, refusal.Detail)
		}
	}
	f(failure{stage: model.WhenConnect, err: syscall.ECONNREFUSED}, 502, "connect", "connection refused")
	f(failure{stage: model.WhenWrite, err: syscall.EPIPE}, 502, "write", "broken pipe")
	f(failure{stage: model.WhenRead, err: io.EOF}, 502, "read", "the instance closed the connection")
	f(failure{stage: model.WhenRead, err: os.ErrDeadlineExceeded}, 504, "read", "timed out")
	if got := (&failure{err: context.Canceled}).answer(call); !errors.Is(got, context.Canceled) {
		t.Errorf("got %v", got)
	}
}
