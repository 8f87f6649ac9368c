package caddyufc_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// streams is what scenes share: a handler for instances, and what they tell.
type streams struct {
	next    chan struct{} // lets /events go on
	arrived chan struct{} // a request has come
	gone    chan struct{} // its client has gone
}

func newStreams() *streams {
	return &streams{next: make(chan struct{}), arrived: make(chan struct{}, 1), gone: make(chan struct{}, 1)}
}

// serve answers by the path. Bodies of what is below /unread are its own to read.
func (s *streams) serve(w http.ResponseWriter, r *http.Request) {
	controller := http.NewResponseController(w)
	switch r.URL.Path {
	case "/events", "/incremental", "/unsized":
		switch r.URL.Path {
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		case "/incremental":
			w.Header().Set("Incremental", "?1")
			w.Header().Set("Content-Length", "24")
		}
		for n := range 3 {
			fmt.Fprintf(w, "part %d\n\n", n)
			_ = controller.Flush()
			<-s.next
		}
	case "/wait":
		s.arrived <- struct{}{}
		<-r.Context().Done()
		s.gone <- struct{}{}
	case "/wait-in-body":
		w.Header().Set("Content-Type", "text/event-stream")
		_ = controller.Flush()
		<-r.Context().Done()
		s.gone <- struct{}{}
	case "/break":
		w.Header().Set("Content-Length", "100")
		fallthrough
	case "/break-unsized":
		_, _ = io.WriteString(w, "not all")
		_ = controller.Flush()
		panic(http.ErrAbortHandler)
	case "/break-early":
		panic(http.ErrAbortHandler)
	case "/large":
		for n := range 300 {
			_, _ = io.WriteString(w, strings.Repeat(string(rune('a'+n%26)), 10_000))
		}
	case "/talk":
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "answer")
		w.Header().Set("X-Sum", "6")
		w.Header().Set(http.TrailerPrefix+"X-Late", "7")
	case "/unread/sink":
		s.sink(w, r)
	case "/unread/refuse":
		http.Error(w, "no", http.StatusForbidden)
	case "/unread/echo":
		_ = controller.EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = controller.Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); _ = controller.Flush() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
		}
	}
}

// sink tells what it read.
func (s *streams) sink(w http.ResponseWriter, r *http.Request) {
	first := make([]byte, 1)
	_, err := io.ReadFull(r.Body, first)
	s.arrived <- struct{}{}
	sum := sha256.New()
	sum.Write(first)
	n, second := io.Copy(sum, r.Body)
	if err = errors.Join(err, second); err != nil {
		s.gone <- struct{}{}
		return
	}
	fmt.Fprintf(w, "%d bytes, %x, length %d, %v", n+1, sum.Sum(nil), r.ContentLength, r.TransferEncoding)
}

// scene plays something between a client and a side, and returns what the client saw.
type scene func(t *testing.T, s *streams, client *http.Client, side side) string

func get(ctx context.Context, client *http.Client, side side, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+side.address+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// comes waits for what must come.
func comes(t *testing.T, what string, from <-chan struct{}) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(timeLimit):
		t.Error(what + " never came")
	}
}

// inTurn lets client and instance wait for each other: whatever is held back in between stops both.
func inTurn(path string) scene {
	return func(t *testing.T, s *streams, client *http.Client, side side) (text string) {
		resp, err := get(t.Context(), client, side, path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for range 3 {
			line, err := lines.ReadString('\n')
			text += fmt.Sprintf("%q %v\n", line, err)
			_, _ = lines.ReadString('\n')
			s.next <- struct{}{}
		}
		rest, err := io.ReadAll(lines)
		return fmt.Sprintf("%s%q %v %d %v %s", text, rest, err, resp.ContentLength, resp.TransferEncoding, resp.Header.Get("Content-Type"))
	}
}

// wholeOf reads a response to its end.
func wholeOf(path string) scene {
	return func(t *testing.T, _ *streams, client *http.Client, side side) string {
		resp, err := get(t.Context(), client, side, path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode >= 500 {
			body = nil // how a refusal is put is UFC's own
		}
		return fmt.Sprintf("%s %d bytes, %x, whole: %t", resp.Status, len(body), sha256.Sum256(body), err == nil)
	}
}

// upload sends a large body, of a length that is told or not.
func upload(path string, sized bool) scene {
	return func(t *testing.T, s *streams, client *http.Client, side side) string {
		body := io.Reader(strings.NewReader(strings.Repeat("0123456789abcdef", 200_000)))
		if !sized {
			body = struct{ io.Reader }{body}
		}
		resp, err := client.Post("http://"+side.address+path, "text/plain", body)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		select {
		case <-s.arrived:
		default:
		}
		return fmt.Sprintf("%s %s %v", resp.Status, answer, err)
	}
}

// leave lets the client go while it waits for the head, or within the body.
func leave(path string) scene {
	return func(t *testing.T, s *streams, client *http.Client, side side) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			if path == "/wait" {
				<-s.arrived
				cancel()
			}
		}()
		resp, err := get(ctx, client, side, path)
		if err == nil {
			cancel()
			resp.Body.Close()
		}
		comes(t, "the end of the instance's request", s.gone)
		return fmt.Sprintf("response: %t", err == nil)
	}
}

// leaveUpload lets the client go within its own body.
func leaveUpload(t *testing.T, s *streams, client *http.Client, side side) string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, writer := io.Pipe()
	defer writer.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+side.address+"/unread/sink", body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(writer, "some")
		<-s.arrived
		cancel()
		writer.CloseWithError(context.Canceled) // the library waits for it
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		return resp.Status
	}
	comes(t, "the end of the instance's upload", s.gone)
	return "gone"
}

// talk sends and gets all that a message may have: 1xx, trailers announced and not.
func talk(t *testing.T, _ *streams, client *http.Client, side side) (text string) {
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			text += fmt.Sprintf("%d %q\n", code, header["Link"])
			return nil
		},
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+side.address+"/talk", struct{ io.Reader }{strings.NewReader("question")})
	if err != nil {
		t.Fatal(err)
	}
	req.Host, req.Trailer = "example.test", http.Header{"X-Mine": {"8"}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%s%s\n%s %q %v %v %v %v", text, <-side.backend, resp.Status, body, err, resp.Header, resp.Trailer, resp.TransferEncoding)
}

// converse reads what the instance says to each line before it sends the next.
func converse(t *testing.T, _ *streams, client *http.Client, side side) (text string) {
	body, writer := io.Pipe()
	defer writer.Close()
	defer time.AfterFunc(timeLimit, func() { writer.Close() }).Stop() // the library waits for it
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+side.address+"/unread/echo", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for n := range 3 {
		fmt.Fprintf(writer, "line %d\n", n)
		line, err := lines.ReadString('\n')
		text += fmt.Sprintf("%q %v\n", line, err)
	}
	writer.Close()
	rest, err := io.ReadAll(lines)
	return fmt.Sprintf("%s%q %v", text, rest, err)
}

// scenes are played on both sides, and the client must see a part of what is told here.
var scenes = map[string]struct {
	scene scene
	sees  string
}{
	"events":                  {inTurn("/events"), `"part 2\n" <nil>`},
	"incremental":             {inTurn("/incremental"), `"part 2\n" <nil>`},
	"unsized":                 {inTurn("/unsized"), `"part 2\n" <nil>`},
	"large":                   {wholeOf("/large"), "200 OK 3000000 bytes"},
	"breaks off":              {wholeOf("/break"), "200 OK 7 bytes"},
	"breaks off, unsized":     {wholeOf("/break-unsized"), "whole: false"},
	"breaks off early":        {wholeOf("/break-early"), "502 "},
	"upload":                  {upload("/unread/sink", true), "200 OK 3200000 bytes"},
	"unsized upload":          {upload("/unread/sink", false), "200 OK 3200000 bytes"},
	"client leaves":           {leave("/wait"), "response: false"},
	"client leaves body":      {leave("/wait-in-body"), "response: true"},
	"client leaves upload":    {leaveUpload, "gone"},
	"all that a message has":  {talk, `200 OK "answer"`},
	"in turn, both streaming": {converse, `"heard line 2\n" <nil>`}, // not over HTTP/1.1: see TestUnlikeReverseProxy
}

// clientOf returns a client that speaks HTTP/1.1 or HTTP/2.
func clientOf(t *testing.T, version string) *http.Client {
	transport := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(version == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(version == "HTTP/2")
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: timeLimit}
}

// withHTTP2 is the global option that lets clients speak HTTP/2 without TLS.
const withHTTP2 = "servers {\n\t\tprotocols h1 h2 h2c\n\t}\n"

// TestStreamsLikeReverseProxy plays scenes through ufc and reverse_proxy, for clients and instances of each protocol.
func TestStreamsLikeReverseProxy(t *testing.T) {
	for _, protocol := range protocols {
		s := newStreams()
		sides := sideBySide(t, protocol, withHTTP2, "", s.serve)
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			client := clientOf(t, version)
			for name, play := range scenes {
				if version == "HTTP/1.1" && name == "in turn, both streaming" {
					continue
				}
				t.Run(fmt.Sprintf("%s to %s/%s", version, protocol, name), func(t *testing.T) {
					sides[0].forget()
					sides[1].forget()
					saw := play.scene(t, s, client, sides[0])
					if !strings.Contains(saw, play.sees) {
						t.Errorf("the client saw\n%s\n\nwithout %s", saw, play.sees)
					}
					if name == "client leaves upload" && protocol != "http" {
						return // two of reverse_proxy's goroutines race for the body of a request to HTTP/2
					}
					if theirs := play.scene(t, s, client, sides[1]); saw != theirs {
						t.Errorf("the client of ufc saw\n%s\n\nthat of reverse_proxy\n%s", saw, theirs)
					}
				})
			}
		}
	}
}
