package integration

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

var redisAddresses = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}

func startRedis(t *testing.T, address string, port int) *process {
	t.Helper()
	p := startProcess(t, "redis-"+address, nil, "redis-server", "--bind", address, "--port", fmt.Sprint(port),
		"--save", "", "--appendonly", "no", "--dir", t.TempDir())
	eventually(t, 10*time.Second, func() error { return ping(t, address, port) })
	return p
}

// ping is nil if redis-cli gets an answer.
func ping(t *testing.T, address string, port int) error {
	output, code := run(t, 10*time.Second, nil, "", "redis-cli", "-h", address, "-p", fmt.Sprint(port), "ping")
	if code != 0 || strings.TrimSpace(output) != "PONG" {
		return fmt.Errorf("redis-cli -h %s ping: %s", address, output)
	}
	return nil
}

// The whole life of a bypass service: found by DNS, used by its own client, killed, reported, avoided, restarted, back.
func TestRedis(t *testing.T) {
	t.Parallel()
	port := freePort(t, redisAddresses...)
	servers := map[string]*process{}
	var instances []string
	for _, address := range redisAddresses {
		servers[address] = startRedis(t, address, port)
		instances = append(instances, fmt.Sprintf("%s:%d", address, port))
	}
	m := startMesh(t, documents("redis-main", "protocol: tcp\nban: {duration: 1s, probe: {timeout: 200ms}}", instances...))
	eventually(t, 2*time.Second, func() error { _, err := m.lookup("redis-main"); return err })

	// Found by DNS, in turn; what is handed out can be used.
	counts := m.handedOut("redis-main", 30)
	for _, address := range redisAddresses {
		if counts[address] != 10 {
			t.Errorf("handed out %v, want 10 each", counts)
		}
	}
	for range 3 {
		found := m.dig("redis-main."+zone, "A").answers
		if len(found) != 1 {
			t.Fatalf("one answer is the default: %q", found)
		}
		if err := ping(t, found[0], port); err != nil {
			t.Error(err)
		}
	}

	// Killed and reported: a refused connection that the agent's own probe confirms is enough.
	const victim = "127.0.0.3"
	servers[victim].signal(syscall.SIGKILL)
	servers[victim].wait(5 * time.Second)
	if err := ping(t, victim, port); err == nil {
		t.Fatal("the killed Redis answers")
	}
	if a := m.report(m.callback, "redis-main", fmt.Sprintf("%s:%d", victim, port), "connect_error"); a.status != http.StatusNoContent {
		t.Fatalf("callback: %d %s", a.status, a.body)
	}
	avoided := func() error {
		if counts := m.handedOut("redis-main", 9); counts[victim] > 0 || counts["127.0.0.2"] == 0 || counts["127.0.0.4"] == 0 {
			return fmt.Errorf("handed out %v", counts)
		}
		return nil
	}
	eventually(t, 2*time.Second, avoided)
	// Longer than the ban lasts: its port must answer before it comes back.
	always(t, 3*time.Second, avoided)

	// Restarted: back after the probe.
	startRedis(t, victim, port)
	eventually(t, 10*time.Second, func() error {
		if counts := m.handedOut("redis-main", 9); counts[victim] == 0 {
			return fmt.Errorf("handed out %v", counts)
		}
		return nil
	})
}
