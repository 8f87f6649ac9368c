package forward

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/ufc-mesh/ufc/shared/model"
)

// A sound callee is never kept from its callers for longer than it takes to see that it is sound.

// A read timeout that a client asks for, shorter than the callee ever needs, is no failure of the callee's: else one caller would
// bring it into an avalanche for all.
func TestAClientsOwnTimeoutIsNoFailure(t *testing.T) {
	live := backend(t, func(http.ResponseWriter, *http.Request) { time.Sleep(50 * time.Millisecond) })
	other := backend(t, func(http.ResponseWriter, *http.Request) { time.Sleep(50 * time.Millisecond) })
	r := newRig(t, func(s *model.Service) {
		fused(s)
		s.Retries.Normal.Attempts = 0
	}, live, other)
	ask := func(caller, read string) int {
		req := r.request(t, "GET", "/", nil)
		req.Header.Set("x-ufc-self-service-name", caller)
		if read != "" {
			req.Header.Set("x-ufc-read-timeout-ms", read)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	var mu sync.Mutex
	refused, good := 0, 0
	var running sync.WaitGroup
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		running.Go(func() { ask("hasty", "5") })
		running.Go(func() {
			status := ask("sound", "")
			mu.Lock()
			defer mu.Unlock()
			switch status {
			case 200:
				good++
			case 503:
				refused++
			}
		})
	}
	running.Wait()
	if refused > 0 {
		t.Errorf("a sound callee (50 ms, no load): of another caller's requests %d are refused, %d answered, since one caller's x-ufc-read-timeout-ms is 5", refused, good)
	}
}

// The time that clients take to send a body is none that the callee takes.
func TestSlowUploads(t *testing.T) {
	live := backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	other := backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	r := newRig(t, func(s *model.Service) {
		fused(s)
		s.Timeouts.Normal.Read, s.Timeouts.Normal.Total = ms(1000), ms(1000) // scaled down from 5 s
		s.Timeouts.Avalanche.Read, s.Timeouts.Avalanche.Total = ms(300), ms(300)
	}, live, other)
	upload := func(takes time.Duration) int {
		reader, writer := io.Pipe()
		go func() {
			for range 10 {
				time.Sleep(takes / 10)
				_, _ = writer.Write(make([]byte, 1000))
			}
			writer.Close()
		}()
		req := r.request(t, "POST", "/", reader)
		req.ContentLength = 10_000
		resp, err := r.client.Do(req)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for range 100 { // in normal times they are quick
		upload(0)
	}
	statuses := map[int]int{}
	var mu sync.Mutex
	var running sync.WaitGroup
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		running.Go(func() {
			status := upload(2 * time.Second) // a slow network of the clients
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	running.Wait()
	if statuses[503] > 0 {
		t.Errorf("a sound callee, clients that take 2 s to send 10 kB: statuses %v, avalanche %v", statuses, r.count(t, "ufc_avalanche"))
	}
}

// Calls of gRPC whose client streams, and that stay open (logs, metrics, watches), aren't late: the head of the answer comes at the end.
func TestClientStreams(t *testing.T) {
	_, address := startShop(t, &grpcShop{})
	r := newRig(t, func(s *model.Service) {
		fused(s)
		speaksH2C(s)
	}, address)
	_, shop := newShopClient(t, r)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(t.Context(), "x-ufc-service-name", "shop"))
	defer cancel()
	refused, asked := 0, 0
	unary := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			asked++
			if _, err := shop.UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
				refused++
			}
		}
	}
	unary(6 * time.Second)
	if refused > 0 {
		t.Fatal("unary calls fail")
	}
	for range 40 {
		stream, err := shop.StreamingInputCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 10)}}); err != nil {
			t.Fatal(err)
		}
		unary(50 * time.Millisecond)
	}
	asked, refused = 0, 0
	unary(10 * time.Second)
	if refused > 0 {
		t.Errorf("40 streams of clients are open, 10 unary calls a second are answered at once: %d of %d are refused; avalanche %v", refused, asked, r.count(t, "ufc_avalanche"))
	}
}
