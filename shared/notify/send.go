package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	messagePause = time.Minute     // between the messages of a service
	firstRetry   = time.Second     // doubled each time
	lastRetry    = 5 * time.Minute // at most
	mostPatience = 10 * time.Minute
)

// outcomes counts what became of messages.
type outcomes struct{ delivered, refused, failed atomic.Uint64 }

// send sends a service's messages until nothing is pending.
func (w *Webhooks) send(box *outbox) {
	for {
		w.mu.Lock()
		if len(box.pending) == 0 || w.closed {
			box.sending = false
			w.mu.Unlock()
			return
		}
		wait := time.Until(box.last.Add(messagePause))
		w.mu.Unlock()
		if !box.last.IsZero() && wait > 0 && !w.sleep(wait) {
			return
		}
		w.mu.Lock()
		message := w.message(box)
		policy := w.policy(box.service)
		w.mu.Unlock()
		if policy != nil {
			w.deliver(policy.URL, message)
		}
		box.last = time.Now()
	}
}

// message gathers what is pending. The lock is held.
func (w *Webhooks) message(box *outbox) *Message {
	m := &Message{ID: id(), Time: time.Now().UTC(), Identity: w.identity(), Service: box.service}
	for _, event := range box.pending {
		m.Events = append(m.Events, event)
	}
	clear(box.pending)
	slices.SortFunc(m.Events, func(a, b Event) int {
		return strings.Compare(a.Event+" "+a.Instance, b.Event+" "+b.Instance)
	})
	return m
}

// deliver sends a message until it is taken or refused.
func (w *Webhooks) deliver(to string, m *Message) {
	body, err := json.Marshal(m)
	if err != nil {
		w.logger.Error("webhook message can't be written", "service", m.Service, "error", err)
		return
	}
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		status, patience, err := w.post(to, m.ID, body)
		switch {
		case err == nil && status/100 == 2:
			w.sent.delivered.Add(1)
			w.logger.Info("webhook delivered", "service", m.Service, "id", m.ID, "events", len(m.Events))
			return
		case err == nil && refused(status):
			w.sent.refused.Add(1)
			w.logger.Error("webhook refused: the message is given up", "service", m.Service, "url", shown(to), "status", status)
			return
		}
		w.sent.failed.Add(1)
		why := fmt.Sprintf("status %d", status)
		if err != nil {
			why = strings.ReplaceAll(err.Error(), to, shown(to))
		}
		pause := max(pause/2+time.Duration(rand.Float64()*float64(pause)), min(patience, mostPatience))
		w.logger.Warn("webhook not delivered, it is sent again", "service", m.Service, "url", shown(to), "error", why, "after", pause)
		if !w.sleep(pause) {
			return
		}
	}
}

// refused tells whether a status means that the same message will never be taken.
func refused(status int) bool {
	return status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooEarly && status != http.StatusTooManyRequests ||
		status/100 == 3
}

// post sends a message once.
func (w *Webhooks) post(to, id string, body []byte) (status int, patience time.Duration, err error) {
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", id)
	request.Header.Set("User-Agent", "ufc")
	response, err := w.client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 64<<10) // so that the connection can be used again
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		patience = time.Duration(min(seconds, 3600)) * time.Second
	}
	return response.StatusCode, patience, nil
}

// sleep waits, and returns false if the sending ends first.
func (w *Webhooks) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// shown is a URL without what may be secret in it.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
