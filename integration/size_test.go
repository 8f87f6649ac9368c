package integration

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	gibibyte = 1 << 30
	// mostGrowth is what the agent's memory may grow by while a body of any size passes, in bytes.
	mostGrowth = 64 << 20
)

// pattern is a body of a known length, of which no part is like another. It sums up what is read of it.
type pattern struct {
	left  int64
	block []byte
	rest  []byte // of the block
	count uint64
	sum   hash.Hash32
}

func newPattern(length int64) *pattern {
	p := &pattern{left: length, block: make([]byte, 256<<10), sum: newSum()}
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(p.block)
	return p
}

// newSum is a checksum that processors have an instruction for.
func newSum() hash.Hash32 { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }

// Read implements io.Reader.
func (p *pattern) Read(to []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if len(p.rest) == 0 {
		p.count++
		binary.BigEndian.PutUint64(p.block, p.count)
		p.rest = p.block
	}
	n := copy(to[:min(int64(len(to)), p.left)], p.rest)
	p.rest, p.left = p.rest[n:], p.left-int64(n)
	_, _ = p.sum.Write(to[:n])
	return n, nil
}

// large is an instance of large bodies: it sends one for a GET, and says of another one what it has got.
func large(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		length, err := strconv.ParseInt(r.URL.Query().Get("length"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		p := newPattern(length)
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, p, make([]byte, 256<<10))
		w.Header().Set("X-Sum", fmt.Sprint(p.sum.Sum32()))
		return
	}
	sum := newSum()
	n, err := io.CopyBuffer(struct{ io.Writer }{sum}, r.Body, make([]byte, 256<<10))
	fmt.Fprintf(w, "%d %d %v", n, sum.Sum32(), err)
}

// memory is a process's memory in bytes, of the kernel's count: VmRSS is what it has now, VmHWM the most that it had.
func (p *process) memory(field string) int64 {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		value, found := strings.CutPrefix(line, field+":")
		if !found {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", line, err)
		}
		return kilobytes << 10
	}
	p.t.Fatalf("no %s in:\n%s", field, data)
	return 0
}

// forgetMost makes VmHWM begin anew.
func (p *process) forgetMost() {
	p.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0); err != nil {
		p.t.Fatal(err)
	}
}

// Bodies of any size pass, both ways, and the agent holds little of them.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	address := serve(t, &http.Server{Handler: http.HandlerFunc(large), Protocols: speaks((*http.Protocols).SetHTTP1, (*http.Protocols).SetUnencryptedHTTP2)})
	m := startAgent(t, documents("files", "protocol: http", address)+"---\n"+documents("files-h2c", "protocol: h2c", address))
	transport := &http.Transport{DisableCompression: true, ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10}
	defer transport.CloseIdleConnections()
	f := func(what string, pass func()) {
		t.Helper()
		m.caddy.forgetMost()
		before, begun := m.caddy.memory("VmRSS"), time.Now()
		pass()
		growth := m.caddy.memory("VmHWM") - before
		t.Logf("%s: %.1f s, the agent's memory grew by %d KiB at most", what, time.Since(begun).Seconds(), growth>>10)
		if growth > mostGrowth {
			t.Errorf("%s: the agent's memory grew by %d MiB", what, growth>>20)
		}
	}
	exchange := func(req *http.Request, service string) *http.Response {
		t.Helper()
		req.Header.Set("X-Ufc-Service-Name", service)
		resp, err := transport.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s of %s: %v, %v", req.Method, service, resp, err)
		}
		return resp
	}
	download := func(service string, length int64) {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/?length=%d", m.agent, length), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp := exchange(req, service)
		defer resp.Body.Close()
		sum := newSum()
		n, err := io.CopyBuffer(struct{ io.Writer }{sum}, resp.Body, make([]byte, 256<<10))
		if want := resp.Trailer.Get("X-Sum"); err != nil || n != length || fmt.Sprint(sum.Sum32()) != want {
			t.Errorf("%s: %d bytes of %d, checksum %d, want %s, %v", service, n, length, sum.Sum32(), want, err)
		}
	}
	upload := func(service string, length, announced int64) {
		p := newPattern(length)
		req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://127.0.0.1:%d/", m.agent), p)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = announced
		resp := exchange(req, service)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("%d %d <nil>", length, p.sum.Sum32()); err != nil || string(got) != want {
			t.Errorf("%s: the instance got %q, want %q, %v", service, got, want, err)
		}
	}
	f("a response of 1 GiB", func() { download("files", gibibyte) })
	f("an upload of 1 GiB", func() { upload("files", gibibyte, gibibyte) })
	f("an upload of unknown length", func() { upload("files", gibibyte/8, -1) })
	f("a response over HTTP/2", func() { download("files-h2c", gibibyte/8) })
	f("an upload over HTTP/2", func() { upload("files-h2c", gibibyte/8, gibibyte/8) })
}
