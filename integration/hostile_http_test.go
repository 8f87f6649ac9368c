package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a connection to a port of this machine, which the test ends.
func raw(t testing.TB, port int) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// h2 is a client of HTTP/2 that sends what it likes.
type h2 struct {
	net.Conn
	*http2.Framer
	text   bytes.Buffer
	fields *hpack.Encoder
}

func newH2(t testing.TB, port int) *h2 {
	c := &h2{Conn: raw(t, port)}
	c.Framer = http2.NewFramer(c.Conn, c.Conn)
	c.Framer.AllowIllegalWrites = true
	c.fields = hpack.NewEncoder(&c.text)
	if _, err := io.WriteString(c.Conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	_ = c.WriteSettings()
	return c
}

func (c *h2) block(fields ...string) []byte {
	c.text.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.fields.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.text.Bytes())
}

// await reads until a stream has ended, and tells whether it was answered by 200.
func (c *h2) await(stream uint32) (passed bool) {
	_ = c.Conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	decoder := hpack.NewDecoder(4096, nil)
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return passed
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			fields, _ := decoder.DecodeFull(frame.HeaderBlockFragment())
			for _, field := range fields {
				passed = passed || field.Name == ":status" && field.Value == "200"
			}
		case *http2.GoAwayFrame:
			return passed
		}
		if header := frame.Header(); header.StreamID == stream && (header.Type == http2.FrameRSTStream || header.Flags.Has(http2.FlagDataEndStream) &&
			(header.Type == http2.FrameData || header.Type == http2.FrameHeaders)) {
			return passed
		}
	}
}

// HTTP/2 can hold in a header what ends one in HTTP/1.1: none of it reaches an instance.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	instance := newRecorder(t)
	m := startAgent(t, documents("shop", "protocol: http", instance.address))
	number := 0
	f := func(name string, passes bool, body string, fields ...string) {
		t.Helper()
		number++
		path := fmt.Sprintf("/%03d", number)
		all := []string{":method", "POST", ":scheme", "http", ":authority", "h", ":path", path, "x-ufc-service-name", "shop"}
		for i := 0; i < len(fields); i += 2 { // instead of what is there, if it is a pseudo header
			given, found := strings.ReplaceAll(fields[i+1], "/000", path), false
			for j := 0; j < len(all) && strings.HasPrefix(fields[i], ":"); j += 2 {
				if all[j] == fields[i] {
					all[j+1], found = given, true
				}
			}
			if !found {
				all = append(all, fields[i], given)
			}
		}
		client := newH2(t, m.agent)
		_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: client.block(all...), EndHeaders: true, EndStream: body == ""})
		if body != "" {
			_ = client.WriteData(1, true, []byte(body))
		}
		answered := client.await(1)
		requests, wrong := instance.of(path)
		// A request that breaks off may have been passed on until there.
		if len(requests) > 1 || len(wrong) > 0 && passes || passes != (len(requests)-len(wrong) == 1) || passes != answered {
			t.Errorf("%s: the instance got %+v, the client an answer: %t", name, requests, answered)
		}
		for _, request := range requests {
			if strings.Contains(request.line, "smuggled") || strings.Contains(strings.Join(request.header, "\n"), "smuggled") {
				t.Errorf("%s: the instance got %+v", name, request)
			}
		}
	}
	const line = "b\r\nX-Smuggled: smuggled"
	f("plain", true, "hello")
	f("end of line in a value", false, "", "x-a", line)
	f("line feed in a value", false, "", "x-a", "b\nX-Smuggled: smuggled")
	f("zero byte in a value", false, "", "x-a", "b\x00smuggled")
	f("end of line in a name", false, "", "x-a: b\r\nx-smuggled", "smuggled")
	f("colon in a name", false, "", "x-a:b", "smuggled")
	f("space in a name", false, "", "x a", "smuggled")
	f("capitals in a name", false, "", "X-A", "smuggled")
	f("no name", false, "", "", "smuggled")
	f("end of line in the path", false, "", ":path", "/000 HTTP/1.1\r\nX-Smuggled: smuggled\r\nX: y")
	f("space in the path", true, "", ":path", "/000 HTTP/1.1") // the instance gets it as %20
	f("end of line in the method", false, "", ":method", "GET /000smuggled HTTP/1.1\r\nX: y")
	f("space in the method", false, "", ":method", "GET /000smuggled")
	f("end of line in the authority", false, "", ":authority", "h\r\nX-Smuggled: smuggled")
	f("space in the authority", false, "", ":authority", "h smuggled")
	f("another method", true, "", ":method", "PURGE")
	f("no path", false, "", ":path", "")
	f("pseudo header after others", false, "", ":other", "smuggled")
	f("pseudo header twice", false, "", "x-a", "b", ":path ", "/000smuggled")
	f("coding", false, "5\r\nhello\r\n0\r\n\r\n"+smuggled, "transfer-encoding", "chunked")
	f("connection", false, "", "connection", "close")
	f("upgrade", false, "", "upgrade", "websocket")
	f("TE", false, "", "te", "gzip")
	f("longer than its length", false, "hello"+smuggled, "content-length", "5")
	f("shorter than its length", false, "hello", "content-length", "500")
	f("odd length", false, "hello", "content-length", "+5")
	f("two lengths", true, "hello", "content-length", "5", "content-length", "6")
	f("two callees", false, "", "x-ufc-service-name", "other")
	f("length", true, "hello", "content-length", "5")

	for n := range 20 { // the connections to the instance are as good as before
		path := fmt.Sprintf("/after-%d", n)
		if a := m.ask("shop", path); a.status != http.StatusOK || a.header.Get("X-Target") != path {
			t.Errorf("%s is answered %d, %q", path, a.status, a.header.Get("X-Target"))
		}
	}
}

// Floods of headers, frames and streams cost the agent little, and others nothing.
func TestFloods(t *testing.T) {
	t.Parallel()
	m := startMesh(t, service("shop", "protocol: http", newBackend(t, "one")))
	bounded := func(name string, p *process, flood func()) {
		t.Helper()
		p.forgetMost()
		before := p.memory("VmRSS")
		flood()
		if most := p.memory("VmHWM"); most > before+64<<20 {
			t.Errorf("%s: memory grew from %d to %d MiB", name, before>>20, most>>20)
		}
		m.ask("shop", "/").must(t, http.StatusOK, "")
	}
	head := "GET / HTTP/1.1\r\nHost: h\r\nX-Ufc-Service-Name: shop\r\n"
	for name, headers := range map[string]string{
		"many headers":   strings.Repeat("A: b\r\n", 200_000),
		"a large header": "A: " + strings.Repeat("b", 4<<20) + "\r\n",
		"a large name":   strings.Repeat("b", 4<<20) + ": a\r\n",
		"a long target":  "",
	} {
		request := head + headers + "\r\n"
		if headers == "" {
			request = strings.Replace(head, "/ ", "/"+strings.Repeat("b", 4<<20)+" ", 1) + "\r\n"
		}
		bounded(name, m.caddy, func() {
			for range 20 {
				if answer := m.exchange(request); answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 431 ") && !strings.HasPrefix(answer, "HTTP/1.1 414 ") {
					t.Errorf("%s: %.300s", name, answer)
				}
			}
		})
	}
	bounded("headers to the DNS's listener", m.coredns, func() {
		conn := raw(t, m.callback)
		_, _ = io.WriteString(conn, head+strings.Repeat("A: b\r\n", 200_000)+"\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if answer, _ := io.ReadAll(conn); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
			t.Errorf("it is answered %.300s", answer)
		}
	})

	// HTTP/2: a header that never ends, streams that are given up at once, and pings.
	fields := []string{":method", "GET", ":scheme", "http", ":authority", "h", ":path", "/", "x-ufc-service-name", "shop"}
	sends := func(name string, most int, send func(c *h2, n int) error) {
		bounded(name, m.caddy, func() {
			client := newH2(t, m.agent)
			go func() { _, _ = io.Copy(io.Discard, client.Conn) }()
			_ = client.Conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			for n := range 200_000 {
				if err := send(client, n); err != nil {
					return
				}
				if n == most {
					t.Errorf("%s: the agent takes more than %d", name, most)
					return
				}
			}
		})
	}
	filler := strings.Repeat("~", 1024)
	sends("CONTINUATION", 20_000, func(c *h2, n int) error {
		if n == 0 {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(fields...)})
		}
		if n%2 == 0 {
			return c.WriteContinuation(1, false, nil)
		}
		c.text.Reset() // such that it isn't sent by its index
		_ = c.fields.WriteField(hpack.HeaderField{Name: "x-filler", Value: filler, Sensitive: true})
		return c.WriteContinuation(1, false, c.text.Bytes())
	})
	sends("reset", -1, func(c *h2, n int) error {
		stream := uint32(2*n + 1)
		if n == 20_000 {
			return errors.New("enough")
		}
		_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block(fields...), EndHeaders: true, EndStream: true})
		return c.WriteRSTStream(stream, http2.ErrCodeCancel)
	})
	sends("ping", -1, func(c *h2, n int) error {
		if n == 50_000 {
			return errors.New("enough")
		}
		return c.WritePing(false, [8]byte{})
	})
}

// Slow clients are cut: who sends a header, a body or a report by drops, and who doesn't read.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	endless := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodGet {
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	})})
	m := newMesh(t)
	// Caddy's own limits are a minute each.
	m.startCaddy(replace(t, "protocols h1 h2 h2c", "protocols h1 h2 h2c\n\t\ttimeouts {\n\t\t\tread_header 2s\n\t\t\tread_body_idle 2s\n\t\t\twrite_idle 2s\n\t\t}"))
	m.startCoreDNS()
	m.apply(documents("shop", "protocol: http", endless))
	m.untilCurrent()
	const head = "Host: h\r\nX-Ufc-Service-Name: shop\r\n"
	report := "POST /bypass?command=callback HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"
	f := func(name string, port int, limit time.Duration, begin, drop string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := raw(t, port)
			began := time.Now()
			_, _ = io.WriteString(conn, begin)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if drop != "" { // else it doesn't read
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
			for drop != "" && time.Since(began) < limit {
				select {
				case <-gone:
					t.Logf("cut after %s", time.Since(began).Round(100*time.Millisecond))
					return
				case <-time.After(300 * time.Millisecond):
					if drop != stalled {
						_, _ = io.WriteString(conn, drop)
					}
				}
			}
			if drop != "" {
				t.Errorf("not cut after %s", time.Since(began))
				return
			}
			time.Sleep(limit) // and what it finds then is an end
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			read, err := io.Copy(io.Discard, conn)
			if !isTimeout(err) {
				t.Logf("cut: %d bytes were on their way, %v", read, err)
				return
			}
			t.Errorf("not cut: %d bytes were read, and %v", read, err)
		})
	}
	f("header", m.agent, 20*time.Second, "GET / HTTP/1.1\r\n"+head, "X: y\r\n")
	f("no header", m.agent, 20*time.Second, "G", "E")
	f("body", m.agent, 20*time.Second, "POST / HTTP/1.1\r\n"+head+"Content-Length: 1000\r\n\r\nx", stalled)
	f("chunks", m.agent, 20*time.Second, "POST / HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n5\r\nhe", stalled)
	f("report by drops", m.agent, 40*time.Second, report, "x")
	f("report to the DNS by drops", m.callback, 40*time.Second, report, "x")
	f("header to the DNS", m.callback, 20*time.Second, "GET /bypass HTTP/1.1\r\nHost: h\r\n", "X: y\r\n")
	f("response", m.agent, 8*time.Second, "GET / HTTP/1.1\r\n"+head+"\r\n", "")
}

// stalled stands for a client that sends nothing more, and reads.
const stalled = "\xffstalled"

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
