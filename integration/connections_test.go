package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	idleConnections = 10_000
	// mostPerConnection is what an idle connection may cost beyond what it costs Caddy, in bytes.
	mostPerConnection = 20 << 10
	// spareFiles are for everything else that this process has open.
	spareFiles = 1500
)

// affordable is how many connections this process, and one that it starts, may have open.
func affordable(t testing.TB, wanted int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	// Go programs raise the soft limit to the hard one by themselves, the agent too.
	if most := int(min(limit.Max, 1<<30)) - spareFiles; most < wanted {
		t.Logf("at most %d files may be open here: %d connections instead of %d", limit.Max, most, wanted)
		return most
	}
	return wanted
}

// idle opens connections to a port, makes one request on each, and leaves them open until hangUp.
func idle(t testing.TB, port, count int, headers string) (conns []net.Conn, hangUp func()) {
	t.Helper()
	const openers = 8
	var mu sync.Mutex
	var failed error
	var running sync.WaitGroup
	for n := range openers {
		running.Go(func() {
			reader := bufio.NewReader(nil)
			for range (count + n) / openers {
				conn, err := openIdle(port, headers, reader)
				mu.Lock()
				if err == nil {
					conns = append(conns, conn)
				} else if failed == nil {
					failed = err
				}
				stop := failed != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	running.Wait()
	hangUp = func() {
		for _, conn := range conns {
			_ = conn.(*net.TCPConn).SetLinger(0) // no ports in TIME_WAIT, which other tests may need
			conn.Close()
		}
	}
	if failed != nil {
		hangUp()
		t.Fatalf("after %d connections: %v", len(conns), failed)
	}
	return conns, hangUp
}

func openIdle(port int, headers string, reader *bufio.Reader) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err != nil {
		return nil, err
	}
	if err := askOnce(conn, headers, reader); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// askOnce makes a request on a connection.
func askOnce(conn net.Conn, headers string, reader *bufio.Reader) error {
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: www.example.test\r\n%s\r\n", headers); err != nil {
		return err
	}
	reader.Reset(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %v", resp.StatusCode, err)
	}
	return conn.SetDeadline(time.Time{})
}

// Ten thousand programs may keep a connection to the agent each: one costs little more than Caddy's own. It runs by itself,
// since it takes most of the files that this process may have open.
func TestIdleConnections(t *testing.T) {
	count := affordable(t, idleConnections)
	one := newBackend(t, "one")
	// Two processes of one kind: the one's idle connections have been through ufc, the other's through the least there is.
	grow := func(port func(m *mesh, plain int) int, headers string) int64 {
		t.Helper()
		plain := freePort(t)
		site := fmt.Sprintf("\nhttp://:%d {\n\tbind ufc/127.0.0.1\n\trespond ok\n}\n", plain)
		m := startAgent(t, service("shop", "protocol: http", one), func(config string) string { return config + site })
		defer m.caddy.kill()
		dialed := port(m, plain)
		for range 100 { // what Caddy and ufc set up at first isn't the connections'
			conn, err := openIdle(dialed, headers, bufio.NewReader(nil))
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		m.collect()
		before := m.caddy.memory("VmRSS")
		conns, hangUp := idle(t, dialed, count, headers)
		defer hangUp()
		m.collect()
		growth := m.caddy.memory("VmRSS") - before
		// They are alive.
		for n := 0; n < len(conns); n += len(conns)/10 + 1 {
			if err := askOnce(conns[n], headers, bufio.NewReader(nil)); err != nil {
				t.Errorf("connection %d of %d: %v", n, len(conns), err)
			}
		}
		return growth / int64(count)
	}
	own := grow(func(_ *mesh, plain int) int { return plain }, "")
	through := grow(func(m *mesh, _ int) int { return m.agent }, "X-Ufc-Service-Name: shop\r\n")
	t.Logf("%d idle connections: %d bytes each through ufc, %d each of Caddy's own", count, through, own)
	if through-own > mostPerConnection {
		t.Errorf("an idle connection costs %d bytes beyond Caddy's own %d; at most %d are promised", through-own, own, mostPerConnection)
	}
}

// collect makes the agent's process collect its garbage, so that what is compared is what is in use.
func (m *mesh) collect() {
	m.t.Helper()
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/heap?gc=1&debug=1", m.admin), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if a := m.send(req); a.status != http.StatusOK || !strings.Contains(a.body, "heap profile") {
		m.t.Fatalf("a heap profile: %d", a.status)
	}
}
