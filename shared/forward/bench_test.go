package forward

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// BenchmarkProxy is one request over keep-alive connections: client, proxy and instance in one process. BenchmarkDirect
// is the same without the proxy, to be taken off.
func BenchmarkProxy(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		r := newRig(b, nil, benchmarkBackend(b, size))
		b.Run(fmt.Sprint(size), func(b *testing.B) { hammer(b, r, r.server.URL) })
	}
}

func BenchmarkDirect(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		address := benchmarkBackend(b, size)
		r := newRig(b, nil, address)
		b.Run(fmt.Sprint(size), func(b *testing.B) { hammer(b, r, "http://"+address) })
	}
}

func benchmarkBackend(b *testing.B, size int) string {
	body := make([]byte, size)
	return backend(b, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		w.Write(body)
	})
}

func hammer(b *testing.B, r *rig, url string) {
	req, err := http.NewRequest("GET", url+"/some/path", nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, value := range map[string]string{
		"x-ufc-service-name": "shop", "x-ufc-self-service-name": "shop", "accept": "*/*", "user-agent": "bench", "x-request-id": "1",
	} {
		req.Header.Set(name, value)
	}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := r.client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.StatusCode, err)
		}
		resp.Body.Close()
	}
}

// instantly is a wire that answers at once, so that what is left is the package's own cost.
type instantly struct{ header http.Header }

func (w instantly) RoundTrip(x *exchange) (*http.Response, error) {
	header := make(http.Header, len(w.header))
	for name, values := range w.header {
		header[name] = values
	}
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: http.NoBody, Request: x.request}, nil
}

func (instantly) CloseIdle()   {}
func (instantly) inline() bool { return true }

// BenchmarkProxyAlone is the proxy without server, wire and network.
func BenchmarkProxyAlone(b *testing.B) {
	r := newRig(b, nil, "127.0.0.1:1")
	call := r.begin(b)
	below := map[model.Connections]wire{call.Service().Connections: instantly{http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"0"}}}}
	r.Forwarder.plain.Store(&below)
	req := httptest.NewRequest("GET", "http://h/some/path", nil)
	req.Header = http.Header{"X-Ufc-Service-Name": {"shop"}, "X-Ufc-Self-Service-Name": {"shop"}, "Accept": {"*/*"}, "User-Agent": {"bench"}}
	w := &discarding{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if err := r.Proxy.ServeHTTP(w, req); err != nil {
			b.Fatal(err)
		}
	}
}

type discarding struct{ header http.Header }

func (d *discarding) Header() http.Header         { return d.header }
func (d *discarding) WriteHeader(int)             {}
func (d *discarding) Write(p []byte) (int, error) { return len(p), nil }
