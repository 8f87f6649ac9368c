package integration

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// worker is a backend that works on few requests at a time. The others wait, in their order, and whoever has given up is worked
// for all the same: that is how callees collapse.
type worker struct {
	address string
	turns   chan struct{}
	served  atomic.Int64
}

const (
	workers  = 4
	workTime = 20 * time.Millisecond
	capacity = float64(workers) / 0.020 // requests per second
)

func newWorker(t *testing.T) *worker {
	t.Helper()
	listener := listen(t)
	w := &worker{address: listener.Addr().String(), turns: make(chan struct{}, workers)}
	server := &http.Server{Handler: w}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return w
}

// ServeHTTP works, and tells by which mark the request came.
func (w *worker) ServeHTTP(to http.ResponseWriter, r *http.Request) {
	w.turns <- struct{}{}
	time.Sleep(workTime)
	<-w.turns
	w.served.Add(1)
	to.Header().Set("Got-Degrade", r.Header.Get("X-Ufc-Degrade"))
}

// tally counts what came of a caller's requests.
type tally struct {
	sync.Mutex
	sent, good, refused, marked, other int
	wrong                              []string // the first few that can't be
}

func (c *tally) count(a answer, err error) {
	c.Lock()
	defer c.Unlock()
	c.sent++
	complain := func(format string, args ...any) {
		if len(c.wrong) < 5 {
			c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
		}
	}
	mark, reason := a.header.Get("X-Ufc-Degrade"), a.header.Get("X-Ufc-Error")
	switch {
	case err != nil:
		complain("%v", err)
	case a.status == http.StatusOK:
		c.good++
		if mark != "" {
			c.marked++
		}
		if mark != a.header.Get("Got-Degrade") || mark > "3" {
			complain("marked %q, and the backend was told %q", mark, a.header.Get("Got-Degrade"))
		}
	case reason == "fused":
		c.refused++
		if after, err := strconv.Atoi(a.header.Get("Retry-After")); a.status != http.StatusServiceUnavailable || err != nil || after < 1 {
			complain("refused by %d with Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	default: // in time for none
		c.other++
	}
}

// offer sends so many requests a second of a caller, whether they are answered or not, and returns what came of them.
func (m *mesh) offer(client *http.Client, caller string, rate int, period time.Duration) *tally {
	var c tally
	var under sync.WaitGroup
	defer under.Wait()
	begun := time.Now()
	for sent := 0; ; time.Sleep(2 * time.Millisecond) {
		passed := time.Since(begun)
		if passed >= period {
			return &c
		}
		for ; sent < int(passed.Seconds()*float64(rate)); sent++ {
			under.Go(func() {
				req, err := m.request("work", "/")
				if err != nil {
					c.count(answer{}, err)
					return
				}
				req.Header.Set("X-Ufc-Self-Service-Name", caller)
				c.count((&mesh{client: client}).do(req))
			})
		}
	}
}

// TestFuse: at three times what a callee can do, it goes on doing that, for the more important caller first; when the load is
// over, all passes again.
func TestFuse(t *testing.T) {
	work := newWorker(t)
	document := func(more string) string {
		return documents("work", "timeouts: {normal: {read: 1s, total: 1s}, avalanche: {read: 500ms, total: 500ms}}\n"+more, work.address) +
			"---\n" + documents("front", "level: 1") + "---\n" + documents("batch", "level: 5")
	}
	m := startAgent(t, document(""))
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	const (
		frontRate, batchRate = int(capacity / 2), int(capacity * 5 / 2)
		avalanche            = `ufc_avalanche{callee="work"}`
	)
	both := func(front, batch int, period time.Duration) (f, b *tally) {
		var wait sync.WaitGroup
		wait.Go(func() { f = m.offer(client, "front", front, period) })
		wait.Go(func() { b = m.offer(client, "batch", batch, period) })
		wait.Wait()
		for _, wrong := range append(f.wrong, b.wrong...) {
			t.Error(wrong)
		}
		return f, b
	}

	f, b := both(frontRate/2, frontRate/2, 2*time.Second) // what is normal
	if refused := f.refused + b.refused; refused > 0 || m.metric(avalanche) != 0 {
		t.Errorf("%d are refused at half of the capacity; avalanche %v", refused, m.metric(avalanche))
	}
	both(frontRate, batchRate, 3*time.Second) // in which the fuse finds out
	if m.metric(avalanche) != 1 {
		t.Errorf("at three times the capacity there is no avalanche: %s", m.query(m.agent, "fuse_info^work").body)
	}
	const period = 7 * time.Second
	served := work.served.Load()
	f, b = both(frontRate, batchRate, period)
	done := float64(work.served.Load() - served)
	t.Logf("front: %d sent, %d good, %d refused, %d else; batch: %d, %d, %d, %d; the backend did %.0f",
		f.sent, f.good, f.refused, f.other, b.sent, b.good, b.refused, b.other, done)
	if good := float64(f.good + b.good); good < 0.6*capacity*period.Seconds() || good < 0.8*done {
		t.Errorf("goodput %.0f/s of a capacity of %.0f/s; the backend did %.0f/s", good/period.Seconds(), capacity, done/period.Seconds())
	}
	if float64(f.good) < 0.9*float64(f.sent) {
		t.Errorf("of the important caller's %d requests %d succeeded", f.sent, f.good)
	}
	if float64(b.refused) < 0.5*float64(b.sent) {
		t.Errorf("of the other's %d requests only %d were refused", b.sent, b.refused)
	}
	if f.marked+b.marked == 0 {
		t.Error("nothing was marked")
	}
	counted := m.metric(`ufc_refused_total{callee="work",caller="batch",reason="fused"}`)
	if ratio := m.metric(`ufc_fuse_admitted_ratio{callee="work"}`); counted < float64(b.refused) || ratio <= 0 || ratio > 0.9 {
		t.Errorf("%v refusals are counted, of at least %d; the admitted ratio is %v", counted, b.refused, ratio)
	}

	both(frontRate/2, 0, 8*time.Second) // and on it goes, with little
	eventually(t, 10*time.Second, func() error {
		m.ask("work", "/", "X-Ufc-Self-Service-Name", "front")
		if m.metric(avalanche) != 0 {
			return fmt.Errorf("there is still an avalanche: %s", m.query(m.agent, "fuse_info^work").body)
		}
		return nil
	})
	if f, b := both(frontRate/2, frontRate/2, time.Second); f.refused+b.refused > 0 {
		t.Errorf("after it %d are refused", f.refused+b.refused)
	}
	if log := m.caddy.output(); !strings.Contains(log, "avalanche: the fuse refuses") || !strings.Contains(log, "avalanche over") {
		t.Error("the log doesn't tell of the avalanche's beginning and end")
	}

	m.apply(document("drop: [{callers: [batch]}]"))
	m.untilCurrent()
	a := m.ask("work", "/", "X-Ufc-Self-Service-Name", "batch")
	a.must(t, http.StatusServiceUnavailable, "dropped")
	m.ask("work", "/", "X-Ufc-Self-Service-Name", "front").must(t, http.StatusOK, "")
}
