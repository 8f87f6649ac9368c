package integration

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// never bans and never fuses, so that what is looked at are the attempts.
const never = "ban: {requests: {failures: 64, of: 64}}\nfuse: {success_below: 0}\n"

func TestRetries(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startAgent(t, strings.Join([]string{
		service("shop", never+"retries: {budget: 1}", one, two),
		service("once", never+"retries: {normal: {attempts: 0}}", one, two),
		service("connects", never+"retries: {normal: {when: [connect]}}", one, two),
		service("unsafe", never+"retries: {unsafe: true, budget: 1}", one, two),
		service("poor", never+"retries: {budget: 0}", one, two),
	}, "---\n"))
	const fails = "/?abort=1&at=one"

	// An instance learns which attempt it is, and a program may count on.
	for claimed := range 3 {
		sent := m.metric(`ufc_retries_total{callee="shop"}`)
		retried := 0
		for range 6 {
			a := m.ask("shop", fails, "x-ufc-attempt", strconv.Itoa(claimed))
			a.must(t, http.StatusOK, "")
			switch number := a.header.Get("Got-X-Ufc-Attempt"); number {
			case strconv.Itoa(claimed):
			case strconv.Itoa(claimed + 1):
				retried++
			default:
				t.Errorf("attempt %q came through, of a request that was sent %d times before", number, claimed)
			}
		}
		if counted := m.metric(`ufc_retries_total{callee="shop"}`) - sent; retried == 0 || counted != float64(retried) {
			t.Errorf("%d requests of 6 were retried, and %v counted", retried, counted)
		}
	}

	// failures of ten requests, of which each second one meets the failing instance first.
	f := func(what, service string, want int, send func() answer) {
		t.Helper()
		failed := 0
		for range 10 {
			switch a := send(); {
			case a.status == http.StatusBadGateway && a.header.Get("X-Ufc-Error") == "read":
				failed++
			case a.status != http.StatusOK:
				t.Errorf("%s: %d %s", what, a.status, a.body)
			}
		}
		if failed != want {
			t.Errorf("%s: %d of 10 failed, want %d", what, failed, want)
		}
	}
	get := func(service string) func() answer { return func() answer { return m.ask(service, fails) } }
	post := func(service string, headers ...string) func() answer {
		return func() answer { return m.post(service, fails, "body", headers...) }
	}
	f("GET without retries", "once", 5, get("once"))
	f("GET with retries of connects only", "connects", 5, get("connects"))
	f("GET", "shop", 0, get("shop"))
	f("POST", "shop", 5, post("shop"))
	f("POST with a key", "shop", 0, post("shop", "idempotency-key", "1"))
	f("POST marked unsafe", "unsafe", 0, post("unsafe"))

	// Retries are a share of the requests: here none, beyond the 10 that a service begins with.
	for range 20 {
		m.ask("poor", "/?abort=1").must(t, http.StatusBadGateway, "read")
	}
	if got := m.metric(`ufc_retries_total{callee="poor"}`); got != 10 {
		t.Errorf("%v retries out of an empty budget, want 10", got)
	}
}

// A second attempt beside a late first one: the quicker one is the response.
func TestHedges(t *testing.T) {
	t.Parallel()
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startAgent(t, service("shop", never+"hedge: {percentile: 0.9, budget: 0.5}", one, two))
	for begun := time.Now(); time.Since(begun) < 600*time.Millisecond; {
		m.answers(10, "shop") // the live latency has to be known; it is looked at four times a second
	}
	const late = "/?delay=5s&at=one"
	begun := time.Now()
	for range 6 {
		a := m.ask("shop", late)
		if a.must(t, http.StatusOK, ""); a.header.Get("X-Backend") != "two" {
			t.Errorf("answered by %q", a.header.Get("X-Backend"))
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("six requests, half of them hedged, took %s", took)
	}
	m.untilMetric(`ufc_hedges_total{callee="shop",outcome="won"}`, 1)
	// Never what isn't idempotent: the late instance has to be waited for.
	before := one.served.Load() + two.served.Load()
	for range 2 {
		m.post("shop", "/?delay=300ms", "body").must(t, http.StatusOK, "")
	}
	if sent := one.served.Load() + two.served.Load() - before; sent != 2 {
		t.Errorf("two POSTs were sent %d times", sent)
	}
}

func TestTimeLimits(t *testing.T) {
	t.Parallel()
	one := newBackend(t, "one")
	m := startAgent(t, strings.Join([]string{
		service("shop", never+"retries: {normal: {attempts: 0}}", one),
		service("strict", never+"retries: {normal: {attempts: 0}}\ntimeouts: {normal: {read: 200ms}, client_override: false}", one),
		service("short", never+"timeouts: {normal: {read: 20s, total: 1s}}", one),
	}, "---\n"))
	const slow = "/?delay=30s"
	f := func(service, path string, status int, reason string, headers ...string) answer {
		t.Helper()
		a := m.ask(service, path, headers...)
		a.must(t, status, reason)
		return a
	}
	// The policy's, and a client's own for this request.
	f("strict", slow, http.StatusGatewayTimeout, "read")
	f("short", slow, http.StatusGatewayTimeout, "deadline")
	f("shop", slow, http.StatusGatewayTimeout, "read", "x-ufc-read-timeout-ms", "200")
	f("shop", "/?delay=100ms", http.StatusOK, "", "x-ufc-read-timeout-ms", "8000")
	f("strict", "/?delay=1s", http.StatusGatewayTimeout, "read", "x-ufc-read-timeout-ms", "8000") // has no say
	f("shop", "/", http.StatusBadRequest, "bad_request", "x-ufc-read-timeout-ms", "soon")

	// What is left of the whole chain's time.
	f("shop", slow, http.StatusGatewayTimeout, "deadline", "x-ufc-timeout-ms", "300")
	a := f("shop", "/", http.StatusOK, "", "x-ufc-timeout-ms", "8000")
	if left, err := strconv.Atoi(a.header.Get("Got-X-Ufc-Timeout-Ms")); err != nil || left <= 0 || left > 8000 {
		t.Errorf("of 8000 ms the instance was told %q", a.header.Get("Got-X-Ufc-Timeout-Ms"))
	}
	before := one.served.Load()
	f("shop", "/", http.StatusGatewayTimeout, "deadline", "x-ufc-timeout-ms", "0")
	if sent := one.served.Load() - before; sent != 0 {
		t.Errorf("a request whose time was over was sent %d times", sent)
	}
	if refused := m.metric(`ufc_refused_total{callee="shop",caller="unknown",reason="deadline"}`); refused != 2 {
		t.Errorf("%v requests refused for their deadline, want 2", refused)
	}
	// The policy doesn't limit how long a response lasts, only that it begins.
	if a := f("short", "/?delay=10ms", http.StatusOK, ""); a.header.Get("X-Backend") != "one" {
		t.Errorf("answered by %q", a.header.Get("X-Backend"))
	}
}

// full listens on a port whose connections can't be made: the queue is full, and the kernel drops what comes.
func full(t testing.TB) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	port := freePort(t)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	for range 10 { // one is taken, at least; nobody accepts it
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a queue of length 0 isn't full after 10 connections")
	return ""
}

func TestConnectTimeouts(t *testing.T) {
	t.Parallel()
	dropping := full(t)
	m := startAgent(t, documents("alone", never+"timeouts: {normal: {connect: 10s}}", dropping)+"---\n"+
		documents("shop", never, dropping, newBackend(t, "one").address))
	m.ask("alone", "/", "x-ufc-connect-timeout-ms", "200").must(t, http.StatusGatewayTimeout, "connect")
	// Nothing was sent, so that even a POST is tried again.
	for range 4 {
		m.post("shop", "/", "body").must(t, http.StatusOK, "")
	}
	if got := m.metric(`ufc_attempts_total{callee="shop",result="connect_timeout"}`); got == 0 {
		t.Error("no connect of the shop's timed out, which proves nothing")
	}
}
