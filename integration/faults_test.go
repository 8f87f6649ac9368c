package integration

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A response that breaks off breaks off at the client, too: it is never taken for a whole one.
func TestBrokenResponses(t *testing.T) {
	t.Parallel()
	headSeen := make(chan struct{})
	broken := func(head string, end func(*scripted)) string {
		return newScripted(t, func(c *scripted) {
			if c.request() == nil {
				return
			}
			c.say("HTTP/1.1 200 OK\r\n%s", head)
			select { // the end comes when the head was read, and is no part of it
			case <-headSeen:
				end(c)
			case <-t.Context().Done():
			}
		})
	}
	// Of a response of known length, the client gets nothing before a buffer is full.
	length := "Content-Length: 1000000\r\n\r\n" + strings.Repeat("the first part", 5000)
	const chunked = "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
	limits := "timeouts: {normal: {read: 300ms}}"
	m := startAgent(t, strings.Join([]string{
		documents("reset", limits, broken(length, (*scripted).reset)),
		documents("reset-chunk", limits, broken(chunked, (*scripted).reset)),
		documents("short", limits, broken(length, func(*scripted) {})),
		documents("short-chunk", limits, broken(chunked, func(*scripted) {})),
		documents("stall", limits, broken(length, (*scripted).untilClosed)),
		documents("stall-chunk", limits, broken(chunked, (*scripted).untilClosed)),
		service("healthy", limits, newBackend(t, "one")),
	}, "---\n"))

	f := func(service string, results ...string) {
		t.Helper()
		req, err := m.request(service, "/")
		if err != nil {
			t.Fatal(err)
		}
		resp, err := m.client.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: the head: %v", service, err)
		}
		defer resp.Body.Close()
		headSeen <- struct{}{}
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: the client takes %d bytes for the whole response", service, len(got))
		}
		// Once, and as what it was.
		eventually(t, 10*time.Second, func() error {
			sum := 0.0
			for _, result := range results {
				sum += m.metric(fmt.Sprintf("ufc_attempts_total{callee=%q,result=%q}", service, result))
			}
			if sum != 1 {
				return fmt.Errorf("%s: %v attempts with a result of %q, want 1", service, sum, results)
			}
			return nil
		})
	}
	f("reset", "reset")
	f("reset-chunk", "reset")
	f("short", "read_error")
	f("short-chunk", "read_error")
	f("stall", "read_timeout")
	f("stall-chunk", "read_timeout")
	m.ask("healthy", "/").must(t, http.StatusOK, "")
}

// An instance may answer before it has the request's body: a refusal reaches a client that isn't done, and doesn't wait.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	early := func(then func(*scripted)) string {
		return newScripted(t, func(c *scripted) {
			if _, err := http.ReadRequest(c.reader); err != nil {
				return
			}
			c.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo long")
			then(c)
		})
	}
	m := startAgent(t, strings.Join([]string{
		documents("reads-on", "protocol: http", early((*scripted).untilClosed)),
		documents("reads-nothing", "protocol: http", early(func(*scripted) { <-t.Context().Done() })),
		documents("closes", "protocol: http", early(func(c *scripted) { _ = c.CloseWrite(); c.untilClosed() })),
	}, "---\n"))
	f := func(service string, sent int) {
		t.Helper()
		body, more := io.Pipe() // unfinished until the answer is there
		defer more.Close()
		req, err := http.NewRequest(http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", m.agent), body)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = more.Write(make([]byte, sent)) }()
		m.send(req, "x-ufc-service-name", service).must(t, http.StatusRequestEntityTooLarge, "")
	}
	for _, sent := range []int{1, 100_000} {
		f("reads-on", sent)
		f("reads-nothing", sent)
		f("closes", sent)
	}
}

// Instances close connections that were idle, at once or in a while; that is no client's business.
func TestInstanceClosesIdleConnections(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	// Each connection serves one request, promises more, and is closed after at most so many µs, which differ.
	hasty := func(most int) string {
		return newScripted(t, func(c *scripted) {
			if c.request() == nil {
				return
			}
			turn := served.Add(1)
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			time.Sleep(time.Duration(rand.New(rand.NewPCG(uint64(turn), 1)).IntN(most)) * time.Microsecond)
		})
	}
	instances := map[string]string{"at-once": hasty(1), "later": hasty(3000)}
	m := startAgent(t, documents("at-once", "protocol: http", instances["at-once"])+"---\n"+
		documents("later", "protocol: http", instances["later"]))
	for service, instance := range instances {
		for n := range 100 {
			if a := m.ask(service, "/"); a.status != http.StatusOK || a.body != "ok" {
				t.Fatalf("%s: GET %d: %d %s", service, n, a.status, a.body)
			}
		}
		// A POST can't be sent twice, so its connection must be known to be closed. Where the close has come before, it is.
		for n := range 100 {
			untilNoneOpen(t, instance)
			if a := m.post(service, "/", "body"); a.status != http.StatusOK || a.body != "ok" {
				t.Fatalf("%s: POST %d: %d %s", service, n, a.status, a.body)
			}
		}
	}
	if now := served.Load(); now != 400 {
		t.Errorf("the instances got %d requests, of 400", now)
	}
}

// untilNoneOpen waits until the kernel has no connection to the address that looks open to its client. A busy kernel
// delivers what another process has closed a moment later.
func untilNoneOpen(t testing.TB, address string) {
	t.Helper()
	server := netip.MustParseAddrPort(address)
	ip := server.Addr().As4()
	const established = "01"
	remote := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), server.Port())
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		data, err := os.ReadFile("/proc/net/tcp") // columns: number, local address, remote address, state
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), " "+remote+" "+established+" ") {
			return
		}
	}
	t.Fatalf("connections to %s stay open", address)
}
