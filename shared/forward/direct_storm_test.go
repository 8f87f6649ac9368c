package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestDirectStorm has many goroutines send requests of all kinds to an instance that does all that is bad, and leaves some of
// them in the middle. Whatever is answered must be the answer to the request; and nothing may be left over.
func TestDirectStorm(t *testing.T) {
	const goroutines, requests = 16, 80
	var open atomic.Int32
	var seed atomic.Uint64
	host := rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		random := rand.New(rand.NewPCG(1, seed.Add(1)))
		for misbehave(random, conn, reader) {
		}
	})
	w := newDirect(usualPolicy)
	var answered atomic.Int32
	var running sync.WaitGroup
	for g := range goroutines {
		random := rand.New(rand.NewPCG(2, uint64(g)))
		running.Go(func() {
			for i := range requests {
				if stormy(t, w, host, random, fmt.Sprintf("%d-%d", g, i)) {
					answered.Add(1)
				}
			}
		})
	}
	running.Wait()
	w.CloseIdle()
	eventually(t, func() bool { return open.Load() == 0 }, func() string { return fmt.Sprint(open.Load(), " connections are left over") })
	if n := answered.Load(); n < goroutines*requests/4 {
		t.Errorf("only %d were answered", n)
	}
	if n := seed.Load(); n > goroutines*requests*9/10 {
		t.Errorf("%d connections for %d requests: hardly any is used again", n, goroutines*requests)
	}
}

// misbehave handles one request. It returns whether the connection may go on.
func misbehave(random *rand.Rand, conn *net.TCPConn, reader *bufio.Reader) bool {
	req, err := http.ReadRequest(reader)
	if err != nil {
		return false
	}
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(req.URL.Path), req.URL.Path)
	switch random.IntN(16) {
	case 0: // reset
		conn.SetLinger(0)
		return false
	case 1: // answer before the body, and close
		io.WriteString(conn, answer)
		return false
	case 2: // half a response
		io.WriteString(conn, answer[:random.IntN(len(answer))])
		return false
	case 3: // stall
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
		return false
	case 4: // read slowly
		_ = conn.SetReadBuffer(16 << 10)
		time.Sleep(time.Millisecond)
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return false
	}
	switch random.IntN(8) {
	case 0: // one response too many
		answer += "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	case 1:
		answer = "HTTP/1.1 103 Early Hints\r\n\r\n" + answer
	case 2: // close while idle
		io.WriteString(conn, answer)
		return false
	}
	_, err = io.WriteString(conn, answer)
	return err == nil
}

// stormy sends one request, and returns whether it got its answer.
func stormy(t *testing.T, w wire, host string, random *rand.Rand, id string) bool {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	x := exchangeWith(host, []string{"GET", "POST", "PUT"}[random.IntN(3)], nil)
	x.ctx, x.buffered, x.request.URL.Path = ctx, random.IntN(2) == 0, "/"+id
	x.limits = limits{connect: time.Second, write: 50 * time.Millisecond, read: 20 * time.Millisecond}
	var upload *watched
	if x.request.Method != "GET" && random.IntN(4) > 0 {
		size := random.IntN(2) * random.IntN(300_000)
		upload = &watched{Reader: onlyReader{strings.NewReader(strings.Repeat("x", size))}}
		x.request.Body, x.request.ContentLength = upload, []int64{-1, int64(size)}[random.IntN(2)]
	}
	if random.IntN(5) == 0 {
		timer := time.AfterFunc(time.Duration(random.IntN(1000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	resp, err := w.RoundTrip(x)
	whole := false
	if err == nil {
		defer resp.Body.Close()
		if random.IntN(8) == 0 {
			go resp.Body.Close()
		}
		body, err := io.ReadAll(resp.Body)
		if whole = err == nil; whole && string(body) != "/"+id {
			t.Errorf("asked for %q, got %q", id, body)
		}
		resp.Body.Close()
	}
	if upload != nil {
		upload.check(t)
	}
	return whole
}
