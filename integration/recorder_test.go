package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recorder is an instance that takes HTTP/1.1 at its word, byte for byte, and no other: a lenient one would take two
// requests for what was sent as one. It notes the requests that it gets, and what is wrong with their bytes.
type recorder struct {
	t       testing.TB
	address string

	mu       sync.Mutex
	requests []recorded
}

type recorded struct {
	line   string // the request line
	header []string
	body   string
	wrong  string // what is wrong with its bytes
}

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	listener := listen(t)
	r := &recorder{t: t, address: listener.Addr().String()}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

// serve answers each request with the target of it, so that a client that gets another's answer sees that.
func (r *recorder) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := readStrictly(reader)
		if err != nil {
			request.wrong = fmt.Sprintf("%v in %q %q", err, request.line, request.header)
		}
		if request.line != "" {
			r.mu.Lock()
			r.requests = append(r.requests, request)
			r.mu.Unlock()
		}
		if err != nil {
			return
		}
		target := request.target()
		body := target
		if strings.HasPrefix(request.line, "HEAD ") {
			body = ""
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Target: %s\r\nContent-Length: %d\r\n\r\n%s", target, len(target), body)
	}
}

// of returns what was noted of requests whose targets begin like this.
func (r *recorder) of(beginning string) (requests []recorded, wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.requests {
		if strings.HasPrefix(request.target(), beginning) {
			requests = append(requests, request)
			if request.wrong != "" {
				wrong = append(wrong, request.wrong)
			}
		}
	}
	return requests, wrong
}

func (r recorded) target() string {
	_, rest, _ := strings.Cut(r.line, " ")
	target, _, _ := strings.Cut(rest, " ")
	return target
}

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ [!-~]+ HTTP/1\.1$`)
	fieldLine   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+: ?[^\x00-\x08\x0a-\x1f\x7f]*$")
	chunkLine   = regexp.MustCompile(`^[0-9a-fA-F]{1,8}$`)
)

// readStrictly reads one request of which every byte is as RFC 9112 wants it from a sender.
func readStrictly(reader *bufio.Reader) (request recorded, err error) {
	if request.line, err = readLine(reader); err != nil {
		return request, err
	}
	if !requestLine.MatchString(request.line) {
		return request, fmt.Errorf("odd request line")
	}
	once := map[string]string{}
	for {
		line, err := readLine(reader)
		if err != nil {
			return request, fmt.Errorf("head: %w", err)
		}
		if line == "" {
			break
		}
		request.header = append(request.header, line)
		if !fieldLine.MatchString(line) {
			return request, fmt.Errorf("odd header %q", line)
		}
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		if _, twice := once[name]; twice && (name == "host" || name == "content-length" || name == "transfer-encoding" || name == "x-ufc-service-name") {
			return request, fmt.Errorf("%s twice", name)
		}
		once[name] = strings.TrimSpace(value)
	}
	length, sized := once["content-length"]
	coding, chunked := once["transfer-encoding"]
	switch {
	case once["host"] == "" || sized && chunked || chunked && coding != "chunked":
		return request, fmt.Errorf("odd framing, or no host")
	case sized:
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > 1<<20 || strconv.Itoa(n) != length {
			return request, fmt.Errorf("odd length %q", length)
		}
		body := make([]byte, n)
		_, err = io.ReadFull(reader, body)
		request.body = string(body)
		return request, err
	case chunked:
		request.body, err = readChunks(reader)
	}
	return request, err
}

// readLine reads a line that ends in CR LF, and has neither elsewhere.
func readLine(reader *bufio.Reader) (string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		if line != "" {
			err = fmt.Errorf("cut off: %q", line)
		}
		return "", err
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok || strings.ContainsAny(text, "\r\x00") {
		return "", fmt.Errorf("odd end of line %q", line)
	}
	return text, nil
}

func readChunks(reader *bufio.Reader) (string, error) {
	var body bytes.Buffer
	for {
		line, err := readLine(reader)
		if err != nil {
			return body.String(), fmt.Errorf("chunk: %w", err)
		}
		if !chunkLine.MatchString(line) {
			return body.String(), fmt.Errorf("odd chunk %q", line)
		}
		size, err := strconv.ParseInt(line, 16, 32)
		if err != nil || size == 0 {
			break
		}
		if _, err := io.CopyN(&body, reader, size); err != nil {
			return body.String(), err
		}
		if end, err := readLine(reader); err != nil || end != "" {
			return body.String(), fmt.Errorf("odd end of a chunk %q, %v", end, err)
		}
	}
	for {
		line, err := readLine(reader) // trailers
		if err != nil || line == "" {
			return body.String(), err
		}
		if !fieldLine.MatchString(line) {
			return body.String(), fmt.Errorf("odd trailer %q", line)
		}
	}
}
