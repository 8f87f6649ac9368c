package forward

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

func (r *rig) inFlight(t *testing.T) int {
	t.Helper()
	got, err := r.agent.Query([]string{"fuse_info", "shop"})
	if err != nil {
		t.Fatal(err)
	}
	switch infos := got.(type) {
	case map[string]agent.FuseInfo:
		return infos["shop"].InFlight
	case map[string]any:
		for _, v := range infos {
			if m, ok := v.(map[string]agent.FuseInfo); ok {
				return m["shop"].InFlight
			}
		}
	}
	t.Fatalf("%T", got)
	return 0
}

// A body whose length is known is wholly sent when as many bytes were read, also if its reader tells the end by another Read: a body of
// HTTP/2, or of a program's memory.
func TestSentOfAKnownLength(t *testing.T) {
	f := func(what string, ask func(r *rig, ctx context.Context) error) {
		t.Helper()
		got, release := make(chan struct{}, 16), make(chan struct{})
		live := backend(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			got <- struct{}{}
			<-release
		})
		r := newRig(t, fused, live)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		for range 5 {
			go func() {
				_ = ask(r, ctx)
				done <- struct{}{}
			}()
		}
		for range 5 {
			<-got
		}
		time.Sleep(200 * time.Millisecond)
		if n := r.inFlight(t); n != 5 {
			t.Errorf("%s: the instance has got all of 5 requests, and answers none: %d are under way for the fuse", what, n)
		}
		close(release)
		for range 5 {
			<-done
		}
		cancel()
	}
	overProxy := func(client *http.Client, r *rig) error {
		req := r.request(t, "PUT", "/", strings.NewReader(strings.Repeat("x", 1000)))
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	f("HTTP/1 client", func(r *rig, _ context.Context) error { return overProxy(r.client, r) })
	f("HTTP/2 client", func(r *rig, _ context.Context) error {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		return overProxy(&http.Client{Transport: transport}, r)
	})
	f("RoundTrip with a body in memory", func(r *rig, _ context.Context) error {
		req, _ := http.NewRequest("PUT", "http://shop/", strings.NewReader(strings.Repeat("x", 1000)))
		call := &agent.Call{Callee: "shop", Class: agent.DefaultClass}
		if err := r.agent.Begin(call); err != nil {
			return err
		}
		resp, err := r.Forwarder.RoundTrip(req, call, func(*http.Response) {})
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
}

// For -race: Attempt.Sent of an attempt that has failed, while the call goes on to another attempt.
func TestSentBesideRetry(t *testing.T) {
	dies := rawBackend(t, func(conn tcpConn, reader bufReader) {
		_, _ = http.ReadRequest(reader)
		time.Sleep(20 * time.Millisecond)
	})
	other := rawBackend(t, func(conn tcpConn, reader bufReader) {
		_, _ = http.ReadRequest(reader)
		time.Sleep(20 * time.Millisecond)
	})
	live := backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	r := newRig(t, fused, dies, other, live)
	for range 8 {
		reader, writer := io.Pipe()
		go func() {
			_, _ = writer.Write(make([]byte, 100))
			time.Sleep(150 * time.Millisecond)
			_, _ = writer.Write(make([]byte, 100))
			writer.Close()
		}()
		req := r.request(t, "PUT", "/", reader)
		req.ContentLength = 200
		if resp, err := r.client.Do(req); err == nil {
			resp.Body.Close()
			t.Log(resp.StatusCode, r.count(t, "ufc_retries_total"))
		}
		reader.Close()
	}
}

// For -race: explain of a first attempt, while Hedge follows another plan.
func TestExplainBesideHedge(t *testing.T) {
	hang := false
	handler := func(_ http.ResponseWriter, r *http.Request) {
		if hang {
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
			}
		}
	}
	r := newRig(t, func(s *model.Service) {
		fused(s)
		s.Hedge = &model.Hedge{Percentile: 0.95, Budget: 0.5}
		s.Timeouts.Normal.Read = ms(200)
	}, backend(t, handler), backend(t, handler), backend(t, handler))
	for range 50 {
		_, _ = r.do(t, r.request(t, "GET", "/", nil))
	}
	time.Sleep(300 * time.Millisecond)
	hang = true
	for range 4 {
		if resp, err := r.client.Do(r.request(t, "GET", "/", nil)); err == nil {
			resp.Body.Close()
		}
	}
	t.Logf("hedges: %v", r.count(t, "ufc_hedges_total"))
}
