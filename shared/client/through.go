package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"syscall"
	"time"
)

// The headers of UFC, in the form in which they are keys of an http.Header.
const (
	headerService = "X-Ufc-Service-Name"
	headerSelf    = "X-Ufc-Self-Service-Name"
	headerTimeout = "X-Ufc-Timeout-Ms"
	headerAttempt = "X-Ufc-Attempt"
	headerError   = "X-Ufc-Error"
)

// RoundTrip sends a request through an agent to the service that is the host of its URL: http://pcs-upload/path. It
// implements http.RoundTripper, so that http.Client{Transport: c} is all that a program needs.
//
// It sets x-ufc-service-name and x-ufc-self-service-name where the program hasn't, and x-ufc-timeout-ms to what is left of the
// context's time, which is http.Client's Timeout, too. All else passes as it is: the instance gets the service's name as Host
// unless req.Host says otherwise, nothing is decompressed, and no proxy is looked for in the environment. The scheme is http:
// how the agent speaks to the instance is the service's matter.
//
// If an agent can't be reached, the next one gets the request. If the connection breaks before a response came, it does
// only if the request may be repeated: its method is idempotent, or it has an Idempotency-Key, and it has no body or GetBody.
// The same holds for an agent that has no configuration yet (x-ufc-error: not_synced). Whatever else fails is returned, and a
// response that the agent gave is one, whatever its status; x-ufc-error tells it from an instance's.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	body := newSending(req)
	defer func() { body.release() }()
	var tried []*agent
	for repeats := 0; ; {
		a := c.through.next(tried)
		resp, err := c.attempt(req, body, a, repeats)
		if err == nil && resp.Header.Get(headerError) != reasonNotSynced {
			return resp, nil
		}
		tried = append(tried, a)
		if ended(req.Context()) || c.through.next(tried) == nil {
			return resp, err
		}
		renewed := body.renew(err)
		if renewed == nil {
			return resp, err
		}
		if err == nil {
			discard(resp)
		}
		if !errors.As(err, new(*unreachable)) {
			repeats++
		}
		body = renewed
	}
}

// attempt sends a request to one agent, and notes when that can't be reached.
func (c *Client) attempt(req *http.Request, body *sending, a *agent, repeats int) (*http.Response, error) {
	out, sent, err := c.outgoing(req, body, a, repeats)
	if err != nil {
		body.abandon()
		return nil, err
	}
	resp, err := c.transport.RoundTrip(out)
	if err != nil {
		if !*sent {
			body.blame()
		}
		switch {
		case body.blamed():
		case isBroken(err), ownFault(err), ended(req.Context()):
			c.through.blame(req.Context(), a, err)
		default: // a body of another length than the request says, for one
			c.through.suspect(a)
		}
		return nil, err
	}
	resp.Request = req
	if resp.Header.Get(headerError) == reasonNotSynced {
		c.through.failed(a)
	}
	return resp, nil
}

// isBroken tells whether there was no connection, or it was ended by the other side or the network.
func isBroken(err error) bool {
	return errors.As(err, new(*unreachable)) || errors.As(err, new(net.Error)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

func check(req *http.Request) error {
	switch {
	case req.URL == nil:
		return errors.New("request without a URL")
	case req.URL.Scheme != "http":
		return fmt.Errorf("scheme %q: through mode takes http; a service's document says how its instances are spoken to", req.URL.Scheme)
	case req.URL.Hostname() == "":
		return fmt.Errorf("%s: no service in the URL's host", req.URL)
	default:
		return nil
	}
}

// outgoing makes the request as the agent gets it. Sent becomes true when the transport has found nothing wrong with it, and looks for a
// connection.
func (c *Client) outgoing(req *http.Request, body *sending, a *agent, repeats int) (out *http.Request, sent *bool, err error) {
	sent = new(bool)
	out = req.Clone(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GetConn: func(string) { *sent = true }}))
	if body.body != nil {
		out.Body = body
	}
	if out.Host == "" {
		out.Host = req.URL.Host
	}
	out.URL.Host = a.address
	if out.Header == nil {
		out.Header = http.Header{}
	}
	if len(out.Header[headerService]) == 0 {
		out.Header[headerService] = []string{req.URL.Hostname()}
	}
	if c.caller != "" && len(out.Header[headerSelf]) == 0 {
		out.Header[headerSelf] = []string{c.caller}
	}
	if repeats > 0 && len(out.Header[headerAttempt]) == 0 {
		out.Header[headerAttempt] = []string{strconv.Itoa(repeats)}
	}
	if deadline, ok := req.Context().Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, nil, context.DeadlineExceeded
		}
		out.Header[headerTimeout] = []string{strconv.FormatInt(max(left.Milliseconds(), 1), 10)}
	}
	return out, sent, nil
}

// mayRepeat tells whether a request whose bytes were sent may be sent again (RFC 9110 §9.2.2). The list is the agent's.
func mayRepeat(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return len(req.Header["Idempotency-Key"]) > 0 || len(req.Header["X-Idempotency-Key"]) > 0
}
