package route

import "net/http"

// Request is what routes and keys look at. Bypass mode knows the caller, its IDC and perhaps the client, and leaves the
// rest empty: then no method, path or value of a header matches, and only `present: false` holds.
type Request struct {
	Caller    string // name of the caller. Empty: unknown, which the glob * matches too
	CallerIDC string // physical IDC of the caller. Empty: unknown
	Method    string // HTTP method, in its own case
	// Path as the client sent it, escaped (URL.EscapedPath), without the query. Nobody has cleaned it: "/a/../b" and
	// "//b" are other paths than "/b". Percent-encoding is seen through, as pathTest says.
	Path     string
	RawQuery string // what follows the ? of the URL, as sent
	Host     string // the header Host, or HTTP/2's :authority; net/http keeps it apart from the others
	// Header has canonical keys, and may be nil.
	Header http.Header
	Client string // the client's address, without the port
}
