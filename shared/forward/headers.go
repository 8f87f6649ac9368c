package forward

import (
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// The headers of UFC, in the form in which they are keys of an http.Header.
const (
	prefixUFC      = "X-Ufc-"
	headerService  = "X-Ufc-Service-Name"
	headerSelf     = "X-Ufc-Self-Service-Name"
	headerIDC      = "X-Ufc-Idc"
	headerClass    = "X-Ufc-Class"
	headerAttempt  = "X-Ufc-Attempt"
	headerTimeout  = "X-Ufc-Timeout-Ms"
	headerDegrade  = "X-Ufc-Degrade"
	headerConnect  = "X-Ufc-Connect-Timeout-Ms"
	headerRead     = "X-Ufc-Read-Timeout-Ms"
	headerWrite    = "X-Ufc-Write-Timeout-Ms"
	headerError    = "X-Ufc-Error"
	headerPanic    = "X-Ufc-Panic"
	headerInstance = "X-Ufc-Backend"
)

func isUFC(name string) bool { return strings.HasPrefix(name, prefixUFC) }

// forAgent tells whether a request header speaks to the agent alone. A program that copies the headers of what it was
// asked into what it asks would pass them on with another meaning: its own IDC is not its caller's.
func forAgent(name string) bool {
	switch name {
	case headerIDC, headerConnect, headerRead, headerWrite, headerDegrade:
		return true
	}
	return false
}

// byAgent tells whether a response header is the agent's alone to set.
func byAgent(name string) bool {
	return name == headerError || name == headerPanic || name == headerInstance
}

// isHopByHop tells whether a header belongs to one connection (RFC 9110 §7.6.1, and what is older). reverse_proxy counts
// Alt-Svc among them: it describes the instance's server, which the client doesn't talk to.
func isHopByHop(name string) bool {
	switch name {
	case "Alt-Svc", "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
		"Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// tokens calls f with each element of a comma-separated list, until f returns false.
func tokens(values []string, f func(token string) bool) {
	for _, value := range values {
		for token := range strings.SplitSeq(value, ",") {
			if token = textproto.TrimString(token); token != "" && !f(token) {
				return
			}
		}
	}
}

// hasToken tells whether a list has the token, in any case.
func hasToken(values []string, token string) (found bool) {
	tokens(values, func(t string) bool {
		found = strings.EqualFold(t, token)
		return !found
	})
	return found
}

// dropNamed deletes the headers that Connection names.
func dropNamed(header http.Header, connection []string) {
	tokens(connection, func(token string) bool {
		header.Del(token)
		return true
	})
}

// upgradeType returns the protocol that a message's sender switches to; empty if it doesn't, or if the name is not plain
// ASCII.
func upgradeType(header http.Header) string {
	upgrade := header["Upgrade"]
	if len(upgrade) == 0 || !hasToken(header["Connection"], "upgrade") {
		return ""
	}
	for i := range len(upgrade[0]) {
		if c := upgrade[0][i]; c < ' ' || c > '~' {
			return ""
		}
	}
	return strings.ToLower(upgrade[0])
}

// webSocketNames gives the WebSocket headers the case of RFC 6455, which some servers insist on.
var webSocketNames = map[string]string{
	"Sec-Websocket-Accept":     "Sec-WebSocket-Accept",
	"Sec-Websocket-Extensions": "Sec-WebSocket-Extensions",
	"Sec-Websocket-Key":        "Sec-WebSocket-Key",
	"Sec-Websocket-Protocol":   "Sec-WebSocket-Protocol",
	"Sec-Websocket-Version":    "Sec-WebSocket-Version",
}

func renameWebSocket(header http.Header) {
	for canonical, name := range webSocketNames {
		if values, ok := header[canonical]; ok {
			delete(header, canonical)
			header[name] = values
		}
	}
}

// setForwarded sets X-Forwarded-For, -Proto and -Host. What the client says of itself counts only if it is trusted. A
// header that is there without any value was put there by an earlier handler so that it be omitted.
func setForwarded(header http.Header, r *http.Request, trusted bool) {
	peer := ""
	switch host, _, err := net.SplitHostPort(r.RemoteAddr); {
	case err == nil:
		peer, _, _ = strings.Cut(host, "%")
	case r.RemoteAddr == "@" && trusted: // a Unix socket has no address to add
	default:
		delete(header, "X-Forwarded-For")
		delete(header, "X-Forwarded-Proto")
		delete(header, "X-Forwarded-Host")
		return
	}
	if prior, present := header["X-Forwarded-For"]; !present || prior != nil {
		chain := ""
		if trusted {
			chain = strings.Join(prior, ", ")
		}
		switch {
		case chain == "":
			chain = peer
		case peer != "":
			chain += ", " + peer
		}
		header["X-Forwarded-For"] = []string{chain}
		if chain == "" {
			delete(header, "X-Forwarded-For")
		}
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	setOrTrust(header, "X-Forwarded-Proto", scheme, trusted)
	setOrTrust(header, "X-Forwarded-Host", r.Host, trusted)
}

// setOrTrust sets a header, unless a trusted client has said it already.
func setOrTrust(header http.Header, name, value string, trusted bool) {
	prior, present := header[name]
	if present && prior == nil {
		return
	}
	if trusted && len(prior) > 0 && prior[len(prior)-1] != "" {
		value = prior[len(prior)-1]
	}
	header[name] = []string{value}
}

// addVia appends to Via without touching the array of a header that others hold.
func addVia(header http.Header, major, minor int, name string) {
	via := strconv.Itoa(major) + "." + strconv.Itoa(minor) + " " + name
	header["Via"] = append(slices.Clip(header["Via"]), via)
}

// setNames tells the callee by which name it was called, and by whom.
func setNames(header http.Header, call *agent.Call) {
	header[headerService] = []string{call.Callee}
	if call.Caller == "" {
		delete(header, headerSelf)
		return
	}
	header[headerSelf] = []string{call.Caller}
}

// cleanResponse takes out what only the agent may say, so that nothing an instance copies or makes up is mistaken for the
// agent's own answer, and says it.
func cleanResponse(header http.Header, attempt *agent.Attempt) {
	delete(header, headerError)
	delete(header, headerPanic)
	delete(header, headerInstance)
	if attempt.Panic {
		header[headerPanic] = []string{"1"}
	}
}

// maxClaimed bounds what a program may say of its attempts; beyond it is nonsense.
const maxClaimed = 99

// claimedAttempts is how often the program says that it has sent the request before. Nonsense counts as not said.
func claimedAttempts(header http.Header) int {
	values := header[headerAttempt]
	if len(values) != 1 {
		return 0
	}
	claimed, err := strconv.ParseUint(values[0], 10, 8)
	if err != nil || claimed > maxClaimed {
		return 0
	}
	return int(claimed)
}

// numbers spares an allocation per request. Nobody changes the values of a header in place.
var numbers = [...][]string{{"0"}, {"1"}, {"2"}, {"3"}}

func number(n int) []string {
	if n < len(numbers) {
		return numbers[n]
	}
	return []string{strconv.Itoa(n)}
}
