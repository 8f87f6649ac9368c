package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	connectTimeout = 3 * time.Second
	tryTimeout     = 10 * time.Second
	leastPause     = time.Second
	mostPause      = 5 * time.Minute
	mostRetryAfter = 10 * time.Minute
	// mostAnswer is how much of an answer's body is read, so that the connection can be used again: nobody looks at it.
	mostAnswer = 64 << 10
)

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     2 * period, // the next message of a busy service finds it open
		MaxIdleConnsPerHost: 2,
		DisableCompression:  true,
	}
}

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// run is the outbox's goroutine: it ends when there is nothing to tell and nothing to remember.
func (o *outbox) run() {
	for o.hooks.ctx.Err() == nil {
		m, again := o.next()
		switch {
		case m != nil:
			o.deliver(m)
		case again.IsZero():
			return
		default:
			o.sleep(time.Until(again), o.changed)
		}
	}
}

// sleep waits, at most until it is woken or all ends.
func (o *outbox) sleep(pause time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-o.hooks.ctx.Done():
	}
}

// deliver tries until the message is delivered, refused or no longer wanted, or all ends.
func (o *outbox) deliver(m *message) {
	logger := o.hooks.Logger.With("service", m.Service, "event", string(m.Event), "id", m.ID, "instances", len(m.Instances))
	body, err := m.body()
	if err != nil {
		logger.Error("webhook message can't be written", "error", err)
		return
	}
	for failures := 0; ; failures++ {
		hook := o.hooks.Policy(o.service)
		if hook == nil {
			logger.Warn("webhook given up: the service has none any more")
			return
		}
		o.posted = time.Now()
		answer := o.hooks.post(hook.URL, m.ID, body)
		if o.hooks.ctx.Err() != nil && answer.err != nil {
			o.hooks.brokeOff(m)
			return
		}
		o.hooks.counts.add(o.service, answer.outcome())
		switch answer.outcome() {
		case delivered:
			logger.Info("webhook delivered")
			return
		case refused:
			logger.Error("webhook given up: the receiver refuses it", "url", shown(hook.URL), "error", answer.err)
			return
		}
		pause := max(backoff(failures), answer.retryAfter)
		logger.Warn("webhook failed, to be tried again", "url", shown(hook.URL), "error", answer.err, "tries", failures+1, "pause", pause)
		o.sleep(pause, nil)
		if o.hooks.ctx.Err() != nil {
			o.hooks.brokeOff(m)
			return
		}
	}
}

func (w *Webhooks) brokeOff(m *message) {
	w.mu.Lock()
	w.unsent += len(m.Instances)
	w.mu.Unlock()
}

// backoff is how long to wait after so many failures before. Receivers that come back shall not meet all agents at once.
func backoff(failures int) time.Duration {
	pause := leastPause
	for range failures {
		pause = min(2*pause, mostPause)
		if pause == mostPause {
			break
		}
	}
	return pause/2 + rand.N(pause/2)
}

// answer is what came of a try.
type answer struct {
	err        error // nil: the receiver has the message
	hopeless   bool  // no other try would do better
	retryAfter time.Duration
}

func (a *answer) outcome() outcome {
	switch {
	case a.err == nil:
		return delivered
	case a.hopeless:
		return refused
	}
	return failed
}

// post tries once.
func (w *Webhooks) post(to, id string, body []byte) answer {
	ctx, cancel := context.WithTimeout(w.ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return answer{err: errors.New("the URL can't be read"), hopeless: true} // err has it in its text
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", id)
	req.Header.Set("User-Agent", "ufc")
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{err: withoutURL(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, mostAnswer) // the status has said it all
	return judge(resp)
}

// judge reads an answer's status.
func judge(resp *http.Response) answer {
	if resp.StatusCode/100 == 2 {
		return answer{}
	}
	a := answer{err: fmt.Errorf("the answer was %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
	default:
		a.hopeless = resp.StatusCode/100 == 4
	}
	a.retryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return a
}

// retryAfter reads a header Retry-After (RFC 9110 §10.2.3): seconds or a date. 0: there is none that can be read.
func retryAfter(text string) time.Duration {
	seconds, err := strconv.ParseUint(text, 10, 63)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(mostRetryAfter/time.Second))) * time.Second
	}
	date, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(time.Until(date), 0), mostRetryAfter)
}

// withoutURL takes the URL out of a client's error: it may hold secrets.
func withoutURL(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		return of.Err
	}
	return err
}

// shown is as much of a URL as a log may show. Receivers of many kinds have their secret in the path.
func shown(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: parsed.Scheme, Host: parsed.Host}).String()
}
