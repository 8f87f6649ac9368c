package forward

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// respond sends an instance's response to the client.
func (x *relay) respond(resp *http.Response, attempt *agent.Attempt) {
	header := x.w.Header()
	delete(header, "Server") // it is the instance's to name; this one stands in Via
	x.addVia(header, resp.ProtoMajor, resp.ProtoMinor)
	copyResponseHeader(header, resp.Header, false)
	if x.Debug {
		header[headerInstance] = []string{attempt.HostPort}
	}
	announced := announce(header, resp.Trailer)
	x.closeUnread()
	x.status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)

	if resp.Body != http.NoBody {
		if err := x.copyBody(resp); err != nil {
			x.abort(err, resp, attempt)
		}
	}
	x.sendTrailers(resp.Trailer, announced)
	x.complete = true
}

// abort ends a response that has begun, such that the client sees that it isn't whole.
func (x *relay) abort(err error, resp *http.Response, attempt *agent.Attempt) {
	resp.Body.Close()
	var writing *clientError
	if errors.As(err, &writing) || x.r.Context().Err() != nil {
		x.status = StatusClientGone
	} else {
		x.Forwarder.logger.Warn("response broke off", "service", attempt.Callee(), "instance", attempt.HostPort, "error", err)
	}
	_ = http.NewResponseController(x.w).Flush() // what came so far may be of use
	panic(http.ErrAbortHandler)
}

// copyResponseHeader adds the headers of an instance's response to the client's. Values are shared.
func copyResponseHeader(to, from http.Header, informational bool) {
	connection := from["Connection"]
	if len(connection) > 0 {
		dropNamed(from, connection)
	}
	for name, values := range from {
		if isHopByHop(name) || informational && byAgent(name) {
			continue
		}
		if prior := to[name]; len(prior) > 0 {
			values = append(slices.Clip(prior), values...)
		}
		to[name] = values
	}
}

// announce puts the names of the trailers to come into the header, and returns them.
func announce(header, trailer http.Header) (names []string) {
	for name := range trailer {
		if mayTrail(name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		header["Trailer"] = []string{strings.Join(names, ", ")}
	}
	return names
}

// mayTrail tells whether a trailer is passed on.
func mayTrail(name string) bool {
	return !isHopByHop(name) && !byAgent(name) && name != "Content-Length"
}

// sendTrailers sends the trailers, those too that were not announced. A response that may have some is in chunks, and its
// head, without a length, is on its way already.
func (x *relay) sendTrailers(trailer http.Header, announced []string) {
	header := x.w.Header()
	for name, values := range trailer {
		switch {
		case slices.Contains(announced, name):
			header[name] = values
		case mayTrail(name):
			header[http.TrailerPrefix+name] = values
		}
	}
}

// streams tells whether a response is a stream: whoever reads it waits for each part. Others are sent as the server's
// buffers fill.
func streams(resp *http.Response) bool {
	if resp.ContentLength < 0 || resp.Header.Get("Incremental") == "?1" { // RFC 10036
		return true
	}
	const events = "text/event-stream"
	kind := strings.TrimLeft(resp.Header.Get("Content-Type"), " ")
	if len(kind) < len(events) || !strings.EqualFold(kind[:len(events)], events) {
		return false // fast path
	}
	media, _, err := mime.ParseMediaType(kind)
	return err == nil && media == events
}

// clientError is an error of writing to the client, to tell it from one of reading from the instance.
type clientError struct{ error }

// Unwrap returns what Write returned.
func (e *clientError) Unwrap() error { return e.error }

// buffers for copying. 32 KiB is what io.Copy takes, too.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyBody copies the body of a response to the client.
func (x *relay) copyBody(resp *http.Response) error {
	flush := func() {}
	if streams(resp) {
		controller := http.NewResponseController(x.w)
		flush = func() { _ = controller.Flush() } // an error shows at the next Write
		flush()                                   // the head, as the first part may be late
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := resp.Body.Read(buffer[:])
		if n > 0 {
			if _, failed := x.w.Write(buffer[:n]); failed != nil {
				return &clientError{failed}
			}
			flush()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
