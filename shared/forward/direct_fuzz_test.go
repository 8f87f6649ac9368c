package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

// unkept is the policy of the fuzz targets: each request has a new connection, but doesn't say so.
var unkept = model.Connections{KeepAlive: true}

// script is what an instance does with a connection.
type script func(*net.TCPConn, *bufio.Reader)

// scripted is an instance that handles each connection as it was told when the connection was opened: what is left of an
// earlier request, that failed, doesn't meet the script of a later one.
type scripted struct {
	address          string
	direct, standard wire
	next             script
	scripts          sync.Map // client's address → chan script
}

func newScripted(t testing.TB) *scripted {
	s := &scripted{}
	s.address = rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		told := <-s.of(conn.RemoteAddr())
		s.scripts.Delete(conn.RemoteAddr().String())
		told(conn, reader)
	})
	direct, standard := newDirect(unkept), newStandard(unkept)
	dial := direct.dial
	direct.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		next := s.next
		conn, err := dial(ctx, network, address)
		if err == nil {
			s.of(conn.LocalAddr()) <- next
		}
		return conn, err
	}
	standard.transport.DialContext = direct.dial
	s.direct, s.standard = direct, standard
	return s
}

func (s *scripted) of(client net.Addr) chan script {
	told, _ := s.scripts.LoadOrStore(client.String(), make(chan script, 1))
	return told.(chan script)
}

// heard is all that a wire tells of a response.
type heard struct {
	Failed        bool
	Status        string
	Proto         string
	Header        http.Header
	Trailer       http.Header
	Length        int64
	Encoding      []string
	Close         bool
	Body          string
	Broken        bool // the body ended with an error
	Short         bool // io.ErrUnexpectedEOF
	Informational []string
}

func hear(w wire, x *exchange) (h heard) {
	x.ctx = httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		h.Informational = append(h.Informational, fmt.Sprint(code, header))
		return nil
	}})
	resp, err := w.RoundTrip(x)
	if err != nil {
		h.Failed = true
		return h
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	h.Status, h.Proto, h.Header, h.Length = resp.Status, resp.Proto, resp.Header, resp.ContentLength
	h.Encoding, h.Close, h.Body = resp.TransferEncoding, resp.Close, string(body)
	h.Broken, h.Short = err != nil, errors.Is(err, io.ErrUnexpectedEOF)
	if !h.Broken {
		h.Trailer = resp.Trailer
	}
	return h
}

// FuzzDirectResponse has both wires read the same bytes: all at once, and in two pieces. They must tell the same.
//
// They differ on purpose in this: direct refuses a 101, of which nothing it sends can be the reason, and more than
// maxInformational 1xx responses; standard starts to count the head's bytes anew after a 1xx (inputs are too short for that).
func FuzzDirectResponse(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\n\nok", "HTTP/1.0 200 OK\n\nok", "HTTP/1.1 204 No Content\n\n",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-A\n\n2\nok\n0\nX-A: 1\nX-B: 2\n\n", "HTTP/1.1 304 x\nContent-Length: 3\n\n",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nContent-Length: 3\n\n2;a=b\nok\n0\n\nmore", "HTTP/1.1 200 OK\nContent-Length: 1\n\nok",
		"HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok", "HTTP/1.1 200 OK\nContent-Length: 3\n\nok", "HTTP/1.1 100 x\n\n",
		"HTTP/1.1 103 x\nLink: a\n\nHTTP/1.1 100 y\n\nHTTP/1.1 200 OK\nContent-Length: 0\n\n", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\n",
		"HTTP/1.1 101 x\nConnection: Upgrade\nUpgrade: x\n\nabc", "HTTP/1.1 099 x\n\n", "HTTP/1.1 200\nConnection: close\n\n", "HTTP/2.0 200 OK\n\n",
		"HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK\n folded: x\n\n", "HTTP/1.1 200 OK\nX Y: z\n\n", "",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\nffffffffffffffff\nok", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok0\n\n", "\n\n\n",
		"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: Content-Length\n\n0\n\n", "HTTP/1.1 200 OK\nContent-Length: -1\n\n", "HTTP/1.1 x\n",
	} {
		f.Add([]byte(lines(text)), uint16(len(text)/2))
		f.Add([]byte(text), uint16(3))
	}
	instance := newScripted(f)
	f.Fuzz(func(t *testing.T, response []byte, split uint16) {
		at := int(split) % (len(response) + 1)
		for _, method := range []string{"GET", "HEAD"} {
			for _, pieces := range [][][]byte{{response}, {response[:at], response[at:]}} {
				ask := func(w wire) heard {
					instance.next = func(conn *net.TCPConn, reader *bufio.Reader) {
						if _, err := http.ReadRequest(reader); err == nil {
							for _, piece := range pieces {
								conn.Write(piece)
							}
						}
					}
					return hear(w, exchangeWith(instance.address, method, nil))
				}
				got, want := ask(instance.direct), ask(instance.standard)
				switch {
				case strings.HasPrefix(want.Status, "101"), len(want.Informational) > maxInformational:
					if !got.Failed {
						t.Fatalf("not refused: %+v", got)
					}
				case !reflect.DeepEqual(got, want):
					t.Fatalf("%s %q:\ngot  %+v\nwant %+v", method, pieces, got, want)
				}
			}
		}
	})
}

// FuzzDirectRequest has both wires send the same request. The instance must get the same, headers' order aside.
func FuzzDirectRequest(f *testing.F) {
	f.Add("GET", "h", "/p?q", "X-A: 1\nAccept: */*", []byte(""), uint8(0), int8(0))
	f.Add("POST", "h:80", "/", "User-Agent: ", []byte("body"), uint8(1), int8(0))
	f.Add("PUT", "", "*", "Expect: 100-continue", []byte("body"), uint8(2), int8(-1))
	f.Add("DELETE", "[::1%25eth0]", "/%zz", "Connection: close\nTrailer: X", bytes.Repeat([]byte("x"), 10_000), uint8(255), int8(-1))
	f.Add("GET", "h h", "/a b", "X: a\x00\nX: b", []byte("body of a GET"), uint8(3), int8(1))
	f.Add("G T", "ü", "\x7f", "X Y: 1\nContent-Length: 9\nTransfer-Encoding: x\nHost: y", []byte("body"), uint8(0), int8(1))
	f.Add("PATCH", "h", "//x", "x: \t y \r\nTe: trailers", []byte("12345"), uint8(2), int8(2))
	instance := newScripted(f)
	f.Fuzz(func(t *testing.T, method, host, path, headers string, body []byte, piece uint8, length int8) {
		if method == http.MethodConnect {
			return // no wire is asked for tunnels
		}
		request := func() *exchange {
			x := exchangeWith(instance.address, method, nil)
			x.request.Host, x.request.Header = host, http.Header{}
			x.request.URL = &url.URL{Scheme: "http", Host: instance.address, Path: path}
			for line := range strings.SplitSeq(headers, "\n") {
				if name, value, ok := strings.Cut(line, ":"); ok {
					name = http.CanonicalHeaderKey(name)
					x.request.Header[name] = append(x.request.Header[name], strings.TrimSpace(value))
				}
			}
			addBody(x.request, body, int(piece)+1, length)
			return x
		}
		ask := func(w wire, buffered bool) sent {
			done := make(chan struct{})
			var received sent
			instance.next = func(conn *net.TCPConn, reader *bufio.Reader) {
				defer close(done)
				received = receive(conn, reader)
			}
			x := request()
			x.buffered = buffered
			resp, err := w.RoundTrip(x)
			if err != nil {
				return sent{Failed: true}
			}
			resp.Body.Close()
			<-done
			return received
		}
		want := ask(instance.standard, false)
		for _, buffered := range []bool{true, false} {
			got := ask(instance.direct, buffered)
			if length == 1 && (got.Broken || want.Broken) {
				continue // either the instance refuses it first, or the body breaks off
			}
			if !got.equal(want) {
				t.Fatalf("buffered %t:\ngot  %+v\nwant %+v", buffered, got, want)
			}
		}
	})
}

// addBody gives the request a body that comes in pieces. Of lengths, 0 is the true one, negative ones are unknown, 1 is too
// much by one, 2 is unknown and has a trailer.
func addBody(req *http.Request, body []byte, piece int, length int8) {
	if len(body) == 0 {
		return
	}
	left := body
	req.Body = io.NopCloser(readerFunc(func(p []byte) (int, error) {
		n := copy(p, left[:min(piece, len(left))])
		left = left[n:]
		if n > 0 {
			return n, nil
		}
		if req.Trailer != nil {
			req.Trailer["X-Sum"] = []string{fmt.Sprint(len(body))}
		}
		return 0, io.EOF
	}))
	req.ContentLength = -1
	switch {
	case length == 0:
		req.ContentLength = int64(len(body))
	case length == 1:
		req.ContentLength = int64(len(body)) + 1
	case length > 1:
		req.Trailer = http.Header{"X-Sum": nil}
	}
}

// sent is a request as the instance got it.
type sent struct {
	Failed  bool // the wire has refused it
	Broken  bool // it is no request to the instance
	Request string
	Header  http.Header
	Trailer http.Header
	Body    string
}

func (s sent) equal(other sent) bool {
	if s.Failed || other.Failed || s.Broken || other.Broken {
		return s.Failed == other.Failed && s.Broken == other.Broken
	}
	return reflect.DeepEqual(s, other)
}

func receive(conn *net.TCPConn, reader *bufio.Reader) sent {
	req, err := http.ReadRequest(reader)
	if err != nil {
		io.WriteString(conn, lines("HTTP/1.1 400 Bad\nConnection: close\n\n"))
		conn.CloseWrite()
		io.Copy(io.Discard, reader)
		return sent{Broken: true}
	}
	if req.Header.Get("Expect") != "" {
		io.WriteString(conn, lines("HTTP/1.1 100 Continue\n\n"))
	}
	body, err := io.ReadAll(req.Body)
	if err == nil {
		io.WriteString(conn, okResponse)
	}
	return sent{
		Request: fmt.Sprintf("%s %s %s %s %d %q", req.Method, req.RequestURI, req.Host, req.Proto, req.ContentLength, req.TransferEncoding),
		Header:  req.Header, Trailer: req.Trailer, Body: string(body),
	}
}
