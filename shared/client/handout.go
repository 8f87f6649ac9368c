package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	bypassPath = "/bypass"
	// maxAnswer is how much of an agent's answer is read. A hundred instances take a fifth of it.
	maxAnswer = 64 << 10
	// maxID is how long a hand-out's id may be; agents make 26 letters.
	maxID = 128
	// maxLimit bounds time limits that an agent names.
	maxLimit = 24 * time.Hour
)

// ErrNoInstance is wrapped by errors of DialContext when there is no instance to connect to, or none that wasn't tried.
var ErrNoInstance = errors.New("no instance")

// Refusal is the error of a service that the agent doesn't hand out: an unknown or overloaded one, or one without instances.
// It wraps ErrNoInstance in the last case.
type Refusal struct {
	Reason  string // as in x-ufc-error: unknown_service, no_instance, fused, dropped, not_synced, bad_request
	Service string
	Detail  string // for people
	Status  int    // of the agent's HTTP answer
}

// Error implements error.
func (r *Refusal) Error() string {
	return fmt.Sprintf("service %q: %s: %s", r.Service, r.Reason, r.Detail)
}

// Unwrap implements what errors.Is goes by.
func (r *Refusal) Unwrap() error {
	if r.Reason == reasonNoInstance {
		return ErrNoInstance
	}
	return nil
}

const (
	reasonNoInstance = "no_instance"
	reasonNotSynced  = "not_synced" // the agent has no configuration yet: another one may
)

// handout is one instance that an agent has handed out.
type handout struct {
	service string
	agent   *agent // whom to report to
	address netip.AddrPort
	id      string
	connect time.Duration // time limits of the callee
	write   time.Duration
	read    time.Duration
}

type keyContext struct{}

// WithKey returns a context with which DialContext asks for the instance of a key, for services whose policy is consistent
// hash. Without a key, one is drawn.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyContext{}, key)
}

// ask gets up to n instances of a service that a network reaches, all different, from the first agent that answers.
func (c *Client) ask(ctx context.Context, service, network string, n int) ([]handout, error) {
	query := url.Values{"command": {"get"}, "service": {service}}
	if family := strings.TrimPrefix(network, "tcp"); family != "" {
		query.Set("family", family)
	}
	if c.caller != "" {
		query.Set("from", c.caller)
	}
	if key, _ := ctx.Value(keyContext{}).(string); key != "" {
		query.Set("key", key)
	}
	if n > 1 {
		query.Set("n", strconv.Itoa(n))
	}
	var tried []*agent
	var failures []error
	for a := c.bypass.next(nil); a != nil; {
		tried = append(tried, a)
		next := c.bypass.next(tried)
		limit := c.timeout
		if next == nil {
			limit = lastChance
		}
		given, err := c.get(ctx, limit, a, service, query.Encode())
		refusal, _ := errors.AsType[*Refusal](err)
		switch {
		case err == nil:
			return given, nil
		case refusal == nil:
			c.bypass.blame(ctx, a, err)
		case refusal.Reason == reasonNotSynced:
			c.bypass.failed(a)
		default:
			return nil, err
		}
		if ended(ctx) {
			return nil, cmp.Or(ctx.Err(), context.DeadlineExceeded)
		}
		failures = append(failures, err)
		a = next
	}
	return nil, errors.Join(failures...)
}

// get asks one agent.
func (c *Client) get(ctx context.Context, limit time.Duration, a *agent, service, query string) ([]handout, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.address+bypassPath+"?"+query, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("asking the agent %s: %w", a.address, err)
	}
	defer discard(resp)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of the agent %s: %w", a.address, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, parseRefusal(resp, service, body)
	}
	given, err := parseHandouts(body)
	if err != nil {
		return nil, fmt.Errorf("the answer of the agent %s: %w", a.address, err)
	}
	for i := range given {
		given[i].service, given[i].agent = service, a
	}
	return given, nil
}

// parseHandouts reads the answer to a get. Fields that it doesn't know are left to newer clients.
func parseHandouts(body []byte) ([]handout, error) {
	var answer struct {
		Backends []struct {
			Backend  string
			ID       string
			Timeouts struct {
				Connect int64 `json:"connect_ms"`
				Write   int64 `json:"write_ms"`
				Read    int64 `json:"read_ms"`
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("no JSON of hand-outs: %w", err)
	}
	if len(answer.Backends) == 0 {
		return nil, errors.New("backends: empty")
	}
	given := make([]handout, len(answer.Backends))
	for i, b := range answer.Backends {
		address, err := netip.ParseAddrPort(b.Backend)
		if err != nil || address.Port() == 0 {
			return nil, fmt.Errorf("backends[%d].backend: %q is not IP:port with a port from 1 to 65535", i, b.Backend)
		}
		if b.ID == "" || len(b.ID) > maxID {
			return nil, fmt.Errorf("backends[%d].id: %d characters are not 1 to %d", i, len(b.ID), maxID)
		}
		given[i] = handout{
			address: address, id: b.ID,
			connect: limit(b.Timeouts.Connect), write: limit(b.Timeouts.Write), read: limit(b.Timeouts.Read),
		}
	}
	return given, nil
}

// limit is a time limit in milliseconds as a duration; 0: none is named.
func limit(milliseconds int64) time.Duration {
	return time.Duration(min(max(milliseconds, 0), maxLimit.Milliseconds())) * time.Millisecond
}

// parseRefusal reads an answer other than 200. One without x-ufc-error is not by an agent, but by what else listens there.
func parseRefusal(resp *http.Response, service string, body []byte) error {
	reason := resp.Header.Get(headerError)
	if reason == "" {
		return fmt.Errorf("%s answers %s: it is no agent", resp.Request.URL.Host, resp.Status)
	}
	var problem struct{ Detail string }
	_ = json.Unmarshal(body, &problem) // the detail is for people, who can do without
	return &Refusal{Reason: reason, Service: service, Detail: cmp.Or(problem.Detail, resp.Status), Status: resp.StatusCode}
}
