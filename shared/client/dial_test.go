package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var twoRedis = []string{"10.0.0.1:6379", "10.0.0.2:6379"}

func exchange(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
}

func TestDialAsksConnectsAndReports(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		r.set("10.0.0.2:6379", echo(20*time.Millisecond))
		conn, err := r.client.DialContext(WithKey(t.Context(), "user 7"), "tcp", "redis-main:1")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(3 * time.Second) // what the program does before it asks is no latency
		exchange(t, conn)
		exchange(t, conn) // reported once
		r.reported(t, "ok/20")
		query, err := url.ParseQuery(r.local.asked[0])
		if err != nil || query.Get("service") != "redis-main" || query.Get("from") != "shop-web" || query.Get("key") != "user 7" {
			t.Errorf("asked %q", r.local.asked)
		}
		if one := r.local.reports[0]; one.ID != "id-1" || one.Service != "redis-main" {
			t.Errorf("reported %+v", one)
		}
	})
}

// TestDialTriesAnother: a refused and a hanging instance are each reported, and another one is connected to.
func TestDialTriesAnother(t *testing.T) {
	three := []string{"10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"}
	bubble(t, three, func(t *testing.T, r *rig) {
		r.set("10.0.0.1:6379", echo(0))
		r.set("10.0.0.3:6379", &host{hangs: true})
		start := time.Now()
		conn := r.dialed(t, "redis-main")
		if took := time.Since(start); took != 200*time.Millisecond {
			t.Errorf("the dial took %s; the callee's connect timeout is 200ms", took)
		}
		exchange(t, conn)
		conn.Close()
		r.reported(t, "connect_error/0", "connect_timeout/200", "ok/0")
	})
}

func TestDialEndsWhenAllWereTried(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		_, err := r.client.DialContext(t.Context(), "tcp", "redis-main")
		if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "10.0.0.1:6379") || !strings.Contains(err.Error(), "10.0.0.2:6379") {
			t.Errorf("error %v", err)
		}
		r.reported(t, "connect_error/0", "connect_error/0")
	})
}

func TestDialWithinContext(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		for _, address := range twoRedis {
			r.set(address, &host{hangs: true})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := r.client.DialContext(ctx, "tcp", "redis-main")
		if took := time.Since(start); took != 250*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v after %s", err, took)
		}
		// The second one was cut short by the program.
		r.reported(t, "connect_timeout/200")
	})
}

// TestOwnFaultIsNotReported: a program out of file descriptors finds all instances unreachable.
func TestOwnFaultIsNotReported(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		r.set("10.0.0.2:6379", &host{fails: &net.OpError{Op: "dial", Err: syscall.EMFILE}})
		if _, err := r.client.DialContext(t.Context(), "tcp", "redis-main"); !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
		r.reported(t)
	})
}

func TestDialRefusal(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		for _, reason := range []string{"fused", "unknown_service", "no_instance"} {
			r.local.refusal = reason
			_, err := r.client.DialContext(t.Context(), "tcp", "redis-main")
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != reason || refusal.Status != 503 || refusal.Detail != "for a test" {
				t.Errorf("%s: error %v", reason, err)
			}
			if errors.Is(err, ErrNoInstance) != (reason == "no_instance") {
				t.Errorf("%s: ErrNoInstance in %v", reason, err)
			}
		}
		if len(r.backup.asked) > 0 {
			t.Error("a refusal is an answer, and no reason to ask another agent")
		}
		// An agent without a configuration can't say.
		r.local.refusal = "not_synced"
		r.set("10.0.0.2:6379", echo(0))
		r.dialed(t, "redis-main").Close()
		if len(r.backup.asked) != 1 {
			t.Error("the backup wasn't asked")
		}
	})
}

func TestDialDirectly(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		f := func(network, address string) {
			t.Helper()
			r.set(address, echo(0))
			made, err := r.client.DialContext(t.Context(), network, address)
			if err != nil {
				t.Fatal(err)
			}
			if _, tracked := made.(*conn); tracked {
				t.Errorf("%s is no service", address)
			}
			made.Close()
			if len(r.local.asked) > 0 {
				t.Errorf("%s %s: the agent was asked", network, address)
			}
		}
		f("tcp", "10.0.0.7:6379")
		f("tcp", "[::1]:6379")
		f("tcp", "localhost:6379")
		f("tcp", "redis.example.test:6379")
		f("unix", "/run/redis.sock")
		f("udp", "redis-main:6379")
	})
}

func TestFamilies(t *testing.T) {
	bubble(t, []string{"10.0.0.1:6379", "[2001:db8::1]:6379"}, func(t *testing.T, r *rig) {
		r.set("10.0.0.1:6379", echo(0))
		r.set("[2001:db8::1]:6379", echo(0))
		for _, network := range []string{"tcp4", "tcp4", "tcp6", "tcp6"} {
			conn, err := r.client.DialContext(t.Context(), network, "redis-main")
			if err != nil {
				t.Fatalf("%s: %v", network, err)
			}
			conn.Close()
		}
		if dialed := r.dials(); !slices.Equal(dialed, []string{local, "10.0.0.1:6379", "10.0.0.1:6379", "[2001:db8::1]:6379", "[2001:db8::1]:6379"}) {
			t.Errorf("dialed %q", dialed)
		}
	})
}

// TestFamiliesOfOlderAgents: one that doesn't know the parameter hands out instances of any IP version.
func TestFamiliesOfOlderAgents(t *testing.T) {
	bubble(t, []string{"10.0.0.1:6379", "[2001:db8::1]:6379"}, func(t *testing.T, r *rig) {
		r.local.ignorant = true
		r.set("10.0.0.1:6379", echo(0))
		r.set("[2001:db8::1]:6379", echo(0))
		_, err := r.client.DialContext(t.Context(), "tcp4", "redis-main")
		if !errors.Is(err, ErrNoInstance) {
			t.Errorf("the first hand-out is of IPv6: %v", err)
		}
		conn, err := r.client.DialContext(t.Context(), "tcp4", "redis-main")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if dialed := r.dials(); slices.Contains(dialed, "[2001:db8::1]:6379") {
			t.Errorf("dialed %q", dialed)
		}
	})
}

// TestDialByBackup: within one connect timeout of a local agent that hangs, at once with one that refuses; and back.
func TestDialByBackup(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		for _, address := range twoRedis {
			r.set(address, echo(0))
		}
		f := func(limit time.Duration, by *brain) {
			t.Helper()
			before := len(by.asked)
			start := time.Now()
			r.dialed(t, "redis-main").Close()
			if took := time.Since(start); took > limit {
				t.Errorf("the dial took %s", took)
			}
			if len(by.asked) != before+1 {
				t.Error("another agent was asked")
			}
		}
		// A probe may have to fail that began before, and then the next one has its turn.
		const toFindOut = DefaultConnectTimeout + probeInterval + time.Millisecond
		f(0, r.local)
		r.stopLocal()
		f(0, r.backup)
		r.set(local, &host{hangs: true})
		f(0, r.backup) // known to be down
		time.Sleep(10 * time.Second)
		r.serve(local, r.local)
		time.Sleep(toFindOut)
		f(0, r.local)
		r.client.CloseIdleConnections()
		r.set(local, &host{hangs: true})
		f(DefaultConnectTimeout, r.backup)
		f(0, r.backup)
		// One that takes connections and says nothing is as dead.
		r.serve(local, r.local)
		time.Sleep(toFindOut)
		f(0, r.local)
		r.client.CloseIdleConnections()
		silent := &host{accept: func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }}
		r.set(local, silent)
		f(DefaultConnectTimeout, r.backup)
		f(0, r.backup)
	})
}

// TestAllAgentsDead: all are tried each time, since there is nothing to lose.
func TestAllAgentsDead(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		r.stopLocal()
		r.set(backup, nil)
		for range 2 {
			_, err := r.client.DialContext(t.Context(), "tcp", "redis-main")
			if !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), local) || !strings.Contains(err.Error(), backup) {
				t.Error(err)
			}
		}
		r.set("10.0.0.2:6379", echo(0))
		r.serve(local, r.local)
		r.dialed(t, "redis-main").Close() // without waiting for a probe
	})
}

// TestWhatIsNoAgent: what else listens at an agent's address is asked once, and then looked at only.
func TestWhatIsNoAgent(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		for _, address := range twoRedis {
			r.set(address, echo(0))
		}
		r.stopLocal()
		asked := 0
		r.serve(local, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("service") != noService {
				asked++
			}
			_, _ = io.WriteString(w, "welcome")
		}))
		for range 3 {
			r.dialed(t, "redis-main").Close()
			time.Sleep(3 * probeInterval)
		}
		if asked != 1 || len(r.backup.asked) != 3 {
			t.Errorf("it was asked %d times, the backup %d times", asked, len(r.backup.asked))
		}
	})
}

func TestReportsAreGathered(t *testing.T) {
	bubble(t, []string{"10.0.0.1:6379"}, func(t *testing.T, r *rig) {
		r.set("10.0.0.1:6379", echo(0))
		for range 50 {
			conn := r.dialed(t, "redis-main")
			exchange(t, conn)
			conn.Close()
		}
		time.Sleep(2 * gatherFor)
		synctest.Wait()
		if posts := r.local.callbacks(); posts != 1 || len(r.local.results()) != 50 {
			t.Errorf("%d reports in %d posts", len(r.local.results()), posts)
		}
		// A failure doesn't wait.
		r.set("10.0.0.1:6379", nil)
		_, _ = r.client.DialContext(t.Context(), "tcp", "redis-main")
		synctest.Wait()
		if len(r.local.results()) != 51 {
			t.Error("the failure waits")
		}
		if stats := r.client.Stats(); stats != (Stats{Reported: 51}) {
			t.Errorf("%+v", stats)
		}
	})
}

// TestReportsNeverBlock: an agent that doesn't take reports costs them, and the program nothing.
func TestReportsNeverBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		b := &brain{backends: []string{"10.0.0.1:6379"}, blocked: make(chan struct{})}
		n.serve(local, b)
		n.set("10.0.0.1:6379", echo(0))
		c := newClient(Config{MaxReports: 10}.withDefaults(), n.dial)
		start := time.Now()
		for range 100 {
			conn, err := c.Dial(t.Context(), "redis-main")
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, conn)
			conn.Close()
		}
		if time.Since(start) != 0 {
			t.Errorf("the program waited for %s", time.Since(start))
		}
		c.Close()
		if took := time.Since(start); took > closeWithin {
			t.Errorf("Close took %s", took)
		}
		if stats := c.Stats(); stats != (Stats{Dropped: 100}) {
			t.Errorf("%+v", stats)
		}
		close(b.blocked)
		n.close()
	})
}

func TestCloseFlushes(t *testing.T) {
	bubble(t, twoRedis, func(t *testing.T, r *rig) {
		r.set("10.0.0.2:6379", echo(0))
		conn := r.dialed(t, "redis-main")
		exchange(t, conn)
		conn.Close()
		start := time.Now()
		r.client.Close()
		if len(r.local.results()) != 1 || time.Since(start) != 0 {
			t.Errorf("reported %q after %s", r.local.results(), time.Since(start))
		}
		// It still dials, and reports nothing.
		r.set("10.0.0.1:6379", echo(0))
		conn = r.dialed(t, "redis-main")
		exchange(t, conn)
		conn.Close()
		r.reported(t, "ok/0")
	})
}

func TestLookupHost(t *testing.T) {
	c := New(Config{})
	defer c.Close()
	if got, err := c.LookupHost(t.Context(), "pg-main"); err != nil || !slices.Equal(got, []string{"pg-main"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := c.LookupHost(t.Context(), "127.0.0.1"); err != nil || !slices.Equal(got, []string{"127.0.0.1"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestServiceOf(t *testing.T) {
	f := func(network, address, want string) {
		t.Helper()
		got, ok := serviceOf(network, address)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s %s: %q %t, want %q", network, address, got, ok, want)
		}
	}
	f("tcp", "redis-main", "redis-main")
	f("tcp4", "redis-main:6379", "redis-main")
	f("tcp6", "redis-main:redis", "redis-main")
	f("tcp", "2nd", "2nd")
	f("tcp", "Redis", "")
	f("tcp", "", "")
	f("tcp", ":6379", "")
	f("tcp", "::1", "")
	f("tcp", "127.0.0.1", "")
	f("tcp", strings.Repeat("a", 62), strings.Repeat("a", 62))
	f("tcp", strings.Repeat("a", 63), "")
	f("unixgram", "redis-main", "")
}

func FuzzHandouts(f *testing.F) {
	f.Add([]byte(`{"backends": [{"backend": "10.0.0.1:6379", "id": "A", "weight": 100, "timeouts": {"connect_ms": 300, "read_ms": 5000}}]}`))
	f.Add([]byte(`{"backends": [{"backend": "[::1]:1", "id": "A", "timeouts": {"connect_ms": -1, "read_ms": 9223372036854775807}}]}`))
	f.Add([]byte(`{"backends": [{"backend": "10.0.0.1:0", "id": "A"}]}`))
	f.Add([]byte(`{"backends": []}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		given, err := parseHandouts(body)
		if (err == nil) != (len(given) > 0) {
			t.Fatalf("%d hand-outs, error %v", len(given), err)
		}
		for _, h := range given {
			if !h.address.IsValid() || h.address.Port() == 0 || h.id == "" || len(h.id) > maxID {
				t.Errorf("hand-out %+v", h)
			}
			if h.connect < 0 || h.connect > maxLimit || h.read < 0 || h.read > maxLimit {
				t.Errorf("limits %s, %s", h.connect, h.read)
			}
		}
	})
}

func TestHandouts(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		if _, err := parseHandouts([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", body, err, want)
		}
	}
	f(`not JSON`, "no JSON")
	f(`{}`, "backends: empty")
	f(`{"backends": [{"backend": "redis:6379", "id": "A"}]}`, `backends[0].backend: "redis:6379"`)
	f(`{"backends": [{"backend": "10.0.0.1:6379"}]}`, "backends[0].id: 0 characters")
}
