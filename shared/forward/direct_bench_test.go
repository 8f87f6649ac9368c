//go:build unix

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
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// benchmarkPolicy is the default of the model.
var benchmarkPolicy = model.DefaultService("shop").Connections

// BenchmarkWire is one attempt over a connection that is kept, to an instance in another process that does no more than it
// must: it reads requests as lines and answers with prepared bytes. Time is mostly waiting; cpu-ns/op is what this process
// has worked for a request, system calls included.
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
	host := benchmarkProcess(b, size, upload)
	// As a server's requests are: a context that can be canceled, below some values.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = context.WithValue(context.WithValue(ctx, http.ServerContextKey, 1), http.LocalAddrContextKey, 2)
	header := http.Header{
		"Accept": {"*/*"}, "User-Agent": {"bench/1.0"}, "X-Request-Id": {"0123456789"}, "X-Forwarded-For": {"10.0.0.1"},
		"X-Ufc-Service-Name": {"shop"}, "X-Ufc-Attempt": {"0"}, "Via": {"1.1 ufc"},
	}
	body := make([]byte, upload)
	once := func(buffer []byte) error {
		req := &http.Request{
			Method: "GET", URL: &url.URL{Scheme: "http", Host: host, Path: "/some/path"}, Host: "shop", Header: header,
			ProtoMajor: 1, ProtoMinor: 1,
		}
		if upload > 0 {
			req.Method, req.ContentLength, req.Body = "POST", int64(upload), io.NopCloser(onlyReader{bytes.NewReader(body)})
		}
		resp, err := w.RoundTrip(&exchange{ctx: ctx, request: req, buffered: buffered, limits: usualLimits})
		if err != nil {
			return err
		}
		if n, err := io.CopyBuffer(onlyWriter{io.Discard}, resp.Body, buffer); err != nil || int(n) != size {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		return resp.Body.Close()
	}
	b.ReportAllocs()
	b.SetParallelism(8) // busy, as it is where the costs count; one at a time, the goroutines' going to sleep is most of it
	before := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for buffer := make([]byte, 32<<10); pb.Next(); {
			if err := once(buffer); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

type onlyWriter struct{ io.Writer }

// benchmarkProcess starts this program again as an instance, and returns its address.
func benchmarkProcess(b *testing.B, size, upload int) string {
	b.Helper()
	instance := exec.Command(os.Args[0], "-test.run=^TestBenchmarkInstance$")
	instance.Env = append(os.Environ(), fmt.Sprintf("FORWARD_INSTANCE=%d %d", size, upload))
	input, err := instance.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	output, err := instance.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := instance.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		input.Close() // it ends by that
		_ = instance.Wait()
	})
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(address)
}

// TestBenchmarkInstance is the instance of the benchmarks; by itself, it is no test.
func TestBenchmarkInstance(t *testing.T) {
	var size, upload int
	if _, err := fmt.Sscan(os.Getenv("FORWARD_INSTANCE"), &size, &upload); err != nil {
		t.Skip("nobody asks for an instance")
	}
	answer := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nServer: x\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
	fmt.Println(rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		_ = conn.SetDeadline(time.Time{})
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
	}))
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0) // connections may be open
}

// cpuTime is what this process has worked until now, in nanoseconds.
func cpuTime(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
