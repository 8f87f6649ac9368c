package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// askLimit is the patience of one question; until repeats it.
const askLimit = 2 * time.Second

// dial tells whether anything listens on p.
func dial(p port) error {
	conn, err := net.DialTimeout("tcp", p.address(), askLimit)
	if err != nil {
		return err
	}
	return conn.Close()
}

// askAgent sends a request to the demo service, through the agent.
func askAgent(ctx context.Context, s *settings) error {
	return get(ctx, "http://"+s.Agent.address()+"/", http.Header{"X-Ufc-Service-Name": {"hello"}})
}

// askDNS asks CoreDNS whether its plugins are ready, UFC's among them, and for an instance of the demo service, which may be newer than
// the configuration that made it ready.
func askDNS(ctx context.Context, s *settings) error {
	if err := get(ctx, "http://"+s.Ready.address()+"/ready", nil); err != nil {
		return err
	}
	return get(ctx, "http://"+s.Callback.address()+"/bypass?command=get&service=hello", nil)
}

// get is nil for status 200.
func get(ctx context.Context, url string, header http.Header) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultTransport.(*http.Transport).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, resp.Status, body)
	}
	return nil
}
