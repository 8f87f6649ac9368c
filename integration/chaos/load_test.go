package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// What each site gets, in requests a second. The agents' average in a large mesh is a tenth of it; a laptop carries it
// beside all the processes.
const (
	getRate    = 160
	postRate   = 20
	keptRate   = 20
	lookupRate = 100
	// mostPending bounds what waits for an answer, of one kind at one site. More would be a queue of this program's own.
	mostPending = 2000
	// patience is how long a client waits for an answer before it is lost; a resolver waits for less.
	patience    = 8 * time.Second
	dnsPatience = 2 * time.Second
)

// load is traffic to all sites at a steady rate, whatever becomes of it, until its context ends.
type load struct {
	w       *world
	running sync.WaitGroup
	next    atomic.Int64 // the ID of the next request
}

// startLoad starts it. The returned function stops it, and waits for what is under way.
func startLoad(ctx context.Context, w *world) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{w: w}
	for _, s := range w.sites {
		l.steady(ctx, s, get, getRate, l.get)
		l.steady(ctx, s, post, postRate, l.post)
		l.steady(ctx, s, kept, keptRate, l.kept)
		l.steady(ctx, s, lookup, lookupRate, l.lookup)
	}
	return func() {
		cancel()
		l.running.Wait()
	}
}

// steady sends so many a second, each on a goroutine of its own.
func (l *load) steady(ctx context.Context, s *site, kind kind, rate int, send func(*site, *sample, int64) error) {
	var pending atomic.Int64
	l.running.Go(func() {
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			p := l.w.ledger.begin()
			one := &sample{site: s.name, kind: kind, sent: time.Now()}
			id := l.next.Add(1)
			if pending.Add(1) > mostPending {
				pending.Add(-1)
				one.verdict, one.why, one.done = lost, "too many wait already", one.sent
				l.w.ledger.end(p, one)
				continue
			}
			l.running.Go(func() {
				if err := send(s, one, id); err != nil {
					one.why = err.Error()
				}
				one.done = time.Now()
				pending.Add(-1)
				l.w.ledger.end(p, one)
			})
		}
	})
}

func (l *load) get(s *site, one *sample, id int64) error {
	client := s.keeping
	if id%10 == 0 {
		client = s.renewing
	}
	return l.request(s, client, one, http.MethodGet, id, "")
}

func (l *load) post(s *site, one *sample, id int64) error {
	return l.request(s, s.renewing, one, http.MethodPost, id, fmt.Sprintf("body of %d", id))
}

func (l *load) kept(s *site, one *sample, id int64) error {
	return l.request(s, s.keeping, one, http.MethodPost, id, fmt.Sprintf("body of %d", id))
}

// request sends one and judges what comes back.
func (l *load) request(s *site, client *http.Client, one *sample, method string, id int64, body string) error {
	path := fmt.Sprintf("/%d", id)
	// It isn't the load's context: what was sent is waited for.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", s.ports.agent, path), strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Ufc-Service-Name", "shop")
	one.verdict = lost
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("in the body: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		one.verdict = failed
		return fmt.Errorf("status %d %s: %s", resp.StatusCode, resp.Header.Get("X-Ufc-Error"), text)
	}
	one.verdict = wrong
	if one.by, err = checkAnswer(string(text), path, body); err != nil {
		return err
	}
	if err := l.w.members.allowed(one.by, s.name, one.sent); err != nil {
		return err
	}
	one.verdict = answered
	return nil
}

// lookup asks a site's DNS for the service, by A, and one in four times by SRV.
func (l *load) lookup(s *site, one *sample, id int64) error {
	question := dns.TypeA
	if id%4 == 0 {
		question = dns.TypeSRV
	}
	query := new(dns.Msg).SetQuestion("shop."+zone+".", question)
	client := dns.Client{Timeout: dnsPatience}
	one.verdict = lost
	response, _, err := client.Exchange(query, fmt.Sprintf("127.0.0.1:%d", s.ports.dns))
	if err != nil {
		return err
	}
	one.verdict = failed
	if response.Rcode != dns.RcodeSuccess {
		return errors.New(dns.RcodeToString[response.Rcode])
	}
	for _, record := range append(response.Answer, response.Extra...) {
		a, ok := record.(*dns.A)
		if !ok {
			continue
		}
		one.verdict = wrong
		if one.by, err = l.w.members.named(a.A.String()); err != nil {
			return err
		}
		if err := l.w.members.allowed(one.by, s.name, one.sent); err != nil {
			return err
		}
		one.verdict = answered
	}
	if one.verdict == failed {
		return errors.New("no address in the answer")
	}
	return nil
}
