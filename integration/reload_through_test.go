package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What is under way when Caddy reloads goes on: requests that are retried, slow ones, and WebSockets.
func TestReloadWithRetriesUnderLoad(t *testing.T) {
	t.Parallel()
	// Each request to it breaks off, and nobody may be banned by suspicion, so that half of the load is retried.
	broken := newScripted(t, func(c *scripted) {
		if c.request() != nil {
			c.reset()
		}
	})
	address, ended := newSocketServer(t)
	one, two := newBackend(t, "one"), newBackend(t, "two")
	m := startAgent(t, documents("shop", "ban: {max_ratio: 0}\nretries: {budget: 1}", broken, one.address)+"---\n"+
		service("slow", "timeouts: {normal: {read: 20s, total: 20s}}", two)+"---\n"+documents("chat", "protocol: http", address))
	ws, err := m.socket("chat", "/")
	if err != nil {
		t.Fatal(err)
	}
	slow := make(chan error, 1)
	go func() {
		a, err := m.get("slow", "/?delay=3s")
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", a.status, a.body)
		}
		slow <- err
	}()
	eventually(t, 10*time.Second, func() error {
		if two.served.Load() == 0 {
			return fmt.Errorf("the slow request is not under way")
		}
		return nil
	})
	load := m.gets("shop", 4)
	for i := range 3 {
		before := m.metric(`ufc_retries_total{callee="shop"}`)
		m.reloadCaddy(replace(t, "{$UFC_IDC:bj-a}", fmt.Sprintf("idc-%d", i)))
		m.untilMetric(`ufc_retries_total{callee="shop"}`, before+10)
		if err := echo(ws, []byte("still there")); err != nil {
			t.Fatalf("a WebSocket after reload %d: %v", i, err)
		}
	}
	load.stop("GETs with retries over reloads of Caddy")
	select {
	case err := <-slow:
		if err != nil {
			t.Errorf("a slow request over the reloads: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a slow request has no answer")
	}
	ws.Close()
	<-ended
}
