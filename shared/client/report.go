package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// The results that are reported.
const (
	resultOK             = "ok"
	resultConnectError   = "connect_error"
	resultConnectTimeout = "connect_timeout"
	resultWriteError     = "write_error"
	resultWriteTimeout   = "write_timeout"
	resultReadError      = "read_error"
	resultReadTimeout    = "read_timeout"
	resultReset          = "reset"
)

const (
	// gatherFor is how long successes wait for others to be sent with them. Failures don't wait.
	gatherFor = 100 * time.Millisecond
	// maxBatch is how many reports are sent at once: a tenth of what an agent takes.
	maxBatch = 1000
	// closeWithin bounds the sending at Close, and postWithin any.
	closeWithin = time.Second
	postWithin  = 2 * time.Second
)

// report is what came of one hand-out, in the form that agents take.
type report struct {
	Service string  `json:"service"`
	ID      string  `json:"id"`
	Result  string  `json:"result"`
	Latency float64 `json:"latency_ms"`

	to *agent // that has handed out
}

func (h handout) report(result string, latency time.Duration) report {
	latency = min(max(latency, 0), maxLimit)
	return report{h.service, h.id, result, float64(latency) / float64(time.Millisecond), h.agent}
}

// reporter sends reports to the agents that they are for, in batches, without ever making the program wait. Its goroutine runs
// only while there are reports.
type reporter struct {
	post    func(ctx context.Context, to *agent, batch []report) error
	maximum int
	wake    chan struct{} // there is something that doesn't wait
	sending context.Context
	giveUp  context.CancelFunc

	mu       sync.Mutex
	waiting  []report
	running  bool
	closed   bool
	counted  Stats
	finished sync.WaitGroup
}

func newReporter(post func(context.Context, *agent, []report) error, maximum int) *reporter {
	r := &reporter{post: post, maximum: maximum, wake: make(chan struct{}, 1)}
	r.sending, r.giveUp = context.WithCancel(context.Background())
	return r
}

// add takes a report, or drops it.
func (r *reporter) add(one report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.waiting) >= r.maximum {
		r.counted.Dropped++
		return
	}
	r.waiting = append(r.waiting, one)
	if one.Result != resultOK || len(r.waiting) >= maxBatch {
		r.hurry()
	}
	if !r.running {
		r.running = true
		r.finished.Go(r.run)
	}
}

func (r *reporter) hurry() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run sends until nothing waits.
func (r *reporter) run() {
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.wake:
		}
		timer.Reset(gatherFor)
		r.mu.Lock()
		taken := r.waiting
		r.waiting = nil
		if len(taken) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		r.send(taken)
		r.mu.Lock()
		if r.closed {
			r.hurry()
		}
		r.mu.Unlock()
	}
}

// send sends what was taken, to each agent its own. An agent that fails loses all of its reports: it knows its own hand-outs
// alone, and none after a restart.
func (r *reporter) send(taken []report) {
	perAgent := map[*agent][]report{}
	for _, one := range taken {
		perAgent[one.to] = append(perAgent[one.to], one)
	}
	for to, reports := range perAgent {
		for len(reports) > 0 {
			batch := reports[:min(len(reports), maxBatch)]
			ctx, cancel := context.WithTimeout(r.sending, postWithin)
			err := r.post(ctx, to, batch)
			cancel()
			if err != nil {
				r.count(0, len(reports))
				break
			}
			r.count(len(batch), 0)
			reports = reports[len(batch):]
		}
	}
}

func (r *reporter) count(reported, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted.Reported += uint64(reported)
	r.counted.Dropped += uint64(dropped)
}

func (r *reporter) stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counted
}

// close sends what waits, and takes nothing more.
func (r *reporter) close() {
	r.mu.Lock()
	r.closed = true
	r.hurry()
	r.mu.Unlock()
	timer := time.AfterFunc(closeWithin, r.giveUp)
	r.finished.Wait()
	timer.Stop()
	r.giveUp()
}

// post sends a batch to an agent. It isn't repeated: whether it was taken isn't known when the answer is missing.
func (c *Client) post(ctx context.Context, to *agent, batch []report) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+to.address+bypassPath+"?command=callback", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer discard(resp)
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the agent %s answers a callback with %s", to.address, resp.Status)
	}
	return nil
}
