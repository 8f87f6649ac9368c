package forward

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// benchmarkPolicy is the default of the model.
var benchmarkPolicy = model.DefaultService("shop").Connections

// BenchmarkWire is one attempt over a connection that is kept, to an instance that does no more than it must: it reads
// requests as lines and answers with prepared bytes. Its system calls are part of the time.
func BenchmarkWire(b *testing.B) {
	wires := map[string]func() wire{
		"direct":   func() wire { return newDirect(benchmarkPolicy) },
		"standard": func() wire { return newStandard(benchmarkPolicy) },
	}
	for _, name := range []string{"direct", "standard"} {
		for _, size := range []int{100, 100_000} {
			b.Run(fmt.Sprintf("%s/get=%d", name, size), func(b *testing.B) {
				benchmarkWire(b, wires[name](), size, 0, false)
			})
		}
		for _, buffered := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/post=1000,buffered=%t", name, buffered), func(b *testing.B) {
				benchmarkWire(b, wires[name](), 100, 1000, buffered)
			})
		}
	}
}

func benchmarkWire(b *testing.B, w wire, size, upload int, buffered bool) {
	defer w.CloseIdle()
	host := lineBackend(b, upload, fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nServer: x\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	// As a server's requests are: a context that can be canceled, below some values.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = context.WithValue(context.WithValue(ctx, http.ServerContextKey, 1), http.LocalAddrContextKey, 2)
	header := http.Header{
		"Accept": {"*/*"}, "User-Agent": {"bench/1.0"}, "X-Request-Id": {"0123456789"}, "X-Forwarded-For": {"10.0.0.1"},
		"X-Ufc-Service-Name": {"shop"}, "X-Ufc-Attempt": {"0"}, "Via": {"1.1 ufc"},
	}
	body, buffer := make([]byte, upload), make([]byte, 32<<10)
	b.ReportAllocs()
	for b.Loop() {
		req := &http.Request{
			Method: "GET", URL: &url.URL{Scheme: "http", Host: host, Path: "/some/path"}, Host: "shop", Header: header,
			ProtoMajor: 1, ProtoMinor: 1,
		}
		if upload > 0 {
			req.Method, req.ContentLength, req.Body = "POST", int64(upload), io.NopCloser(onlyReader{bytes.NewReader(body)})
		}
		resp, err := w.RoundTrip(&exchange{ctx: ctx, request: req, buffered: buffered, limits: usualLimits})
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(onlyWriter{io.Discard}, resp.Body, buffer)
		if err != nil || int(n) != size {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
}

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// lineBackend answers requests whose bodies have a known size.
func lineBackend(t testing.TB, upload int, response string) string {
	answer := []byte(response)
	return rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for {
			line, err := reader.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) > 2 {
				continue
			}
			if _, err := reader.Discard(upload); err != nil {
				return
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	})
}
