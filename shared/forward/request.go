package forward

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// prepareRequest makes the request for the instances out of the client's, of which it shares URL and header values.
func (x *relay) prepareRequest() {
	x.out = http.Request{
		Method: x.r.Method, URL: x.r.URL, Host: x.r.Host, Header: x.requestHeader(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if x.r.ContentLength == 0 && len(x.r.Trailer) == 0 || x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	x.out.ContentLength, x.out.TransferEncoding = x.r.ContentLength, x.r.TransferEncoding
	x.sent = clientBody{ReadCloser: x.r.Body}
	if x.r.ContentLength < 0 || len(x.r.Trailer) > 0 {
		// Trailers need chunks. The map's keys are announced to the instance; values come when the body has been read.
		x.out.ContentLength = -1
		x.out.Trailer = make(http.Header, len(x.r.Trailer))
		for name := range x.r.Trailer {
			x.out.Trailer[name] = nil
		}
		x.sent.from, x.sent.to = x.r, x.out.Trailer
	}
	x.out.Body = &x.sent
}

// requestHeader makes the header for the instance.
func (x *relay) requestHeader() http.Header {
	in := x.r.Header
	header := x.header
	for name, values := range in {
		if isHopByHop(name) || isUFC(name) && (x.Service != "" || forAgent(name)) {
			continue
		}
		header[name] = values
	}
	dropNamed(header, in["Connection"])
	if hasToken(in["Te"], "trailers") {
		header["Te"] = []string{"trailers"}
	}
	if upgrade := x.upgrade(); upgrade != "" {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
		renameWebSocket(header)
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = none // else the standard library puts its own
	}
	if x.r.TLS != nil && !x.r.TLS.HandshakeComplete {
		header["Early-Data"] = []string{"1"} // RFC 8470 §5.1: it may be a replay
	}
	x.setForwarded(header, x.Trusted != nil && x.Trusted(x.r))
	x.addVia(header, x.r.ProtoMajor, x.r.ProtoMinor)
	x.setNames(header)
	x.headers = len(header)
	return header
}

// upgrade returns the protocol that the client wants to switch to, if that may be passed on; else the request goes on
// without, which RFC 9110 §7.8 lets every server do. Not with a body, which the server would go on reading while the
// tunnel does; and not h2c, given up by RFC 9113, since whatever a client asks for in such a tunnel goes unseen.
func (x *relay) upgrade() string {
	if x.r.ProtoMajor != 1 || x.r.ContentLength != 0 {
		return ""
	}
	upgrade := upgradeType(x.r.Header)
	if strings.Contains(upgrade, "h2c") { // in a list, or with a version
		return ""
	}
	return upgrade
}

// none is the value of a header that isn't sent, and one shows that it isn't forgotten.
var none = []string{""}

// clientBody is the body of a client's request. It is never closed here: the server does that, after it has sent the
// response. Closing reads what is left, so that a client which waits for the response first would wait for ever.
type clientBody struct {
	io.ReadCloser
	from  *http.Request // where the server puts the trailers at the body's end
	to    http.Header   // where the wire expects them
	ended atomic.Bool
}

// Read implements io.Reader.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.ended.Swap(true) && b.from != nil {
		for name, values := range b.from.Trailer {
			if values != nil && !isHopByHop(name) && !isUFC(name) && name != "Content-Length" {
				b.to[name] = slices.Clone(values)
			}
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *clientBody) Close() error { return nil }

// closeUnread makes the server close an HTTP/1 connection after the response if the request's body hasn't ended by then. What
// is left of it would be taken for the next request otherwise: smuggling. The library's server would see to that by itself,
// but not in full duplex, where it reads up to 256 KiB of the rest after the handler, and takes what comes next for a
// request even if that reading has failed, since the client was too slow. A body has nearly always ended: an instance
// answers when it has all of it.
func (x *relay) closeUnread() {
	if x.sent.ReadCloser == nil || x.r.ProtoMajor != 1 || x.sent.ended.Load() {
		return
	}
	x.w.Header()["Connection"] = []string{"close"}
	x.unread = true
}

// lingering is how long a client may go on sending after the response, before the connection is closed. One that is closed
// while something arrives is reset, and the response may be lost with it (RFC 9112 §9.6). The library's server waits as
// long.
const lingering = 500 * time.Millisecond

// linger drops what comes of a body that nobody reads, for a while.
func (x *relay) linger() {
	controller := http.NewResponseController(x.w)
	if controller.Flush() == nil && controller.SetReadDeadline(time.Now().Add(lingering)) == nil {
		x.upload.drain()
	}
}
