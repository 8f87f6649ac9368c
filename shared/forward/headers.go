package forward

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
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
	return name == headerError || name == headerPanic || name == headerInstance || name == headerDegrade
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
func (x *relay) setForwarded(header http.Header, trusted bool) {
	peer, has := clientAddress(x.r)
	if !has && !(x.r.RemoteAddr == "@" && trusted) { // a trusted Unix socket has no address to add
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
		header["X-Forwarded-For"] = x.value(valueFor, chain)
		if chain == "" {
			delete(header, "X-Forwarded-For")
		}
	}
	scheme := "http"
	if x.r.TLS != nil {
		scheme = "https"
	}
	header["X-Forwarded-Proto"] = x.orTrusted(header, "X-Forwarded-Proto", valueProto, scheme, trusted)
	header["X-Forwarded-Host"] = x.orTrusted(header, "X-Forwarded-Host", valueHost, x.r.Host, trusted)
}

// orTrusted returns the values for a header: the given one, unless a trusted client has said it already.
func (x *relay) orTrusted(header http.Header, name string, place int, value string, trusted bool) []string {
	prior, present := header[name]
	if present && prior == nil {
		return nil
	}
	if trusted && len(prior) > 0 && prior[len(prior)-1] != "" {
		value = prior[len(prior)-1]
	}
	return x.value(place, value)
}

// The places of relay.values.
const (
	valueFor = iota
	valueProto
	valueHost
	valueService
	valueSelf
	valueCount
)

// value returns the values of a header of the request that has one. They are in the relay's memory, and must not be put
// into a response, which others may look at later.
func (x *relay) value(place int, value string) []string {
	x.values[place] = value
	return x.values[place : place+1 : place+1]
}

// addVia appends to Via without touching the array of a header that others hold.
func (p *Proxy) addVia(header http.Header, major, minor int) {
	via := p.via(major, minor)
	if prior := header["Via"]; len(prior) > 0 {
		via = append(slices.Clip(prior), via...)
	}
	header["Via"] = via
}

// via returns what stands in Via for a message that came by some version of HTTP. Nobody changes the values of a header in
// place, so that messages share it.
func (p *Proxy) via(major, minor int) []string {
	place := major*2 + minor
	if place < 0 || place >= len(p.vias) {
		return p.newVia(major, minor)
	}
	if made := p.vias[place].Load(); made != nil {
		return *made
	}
	made := p.newVia(major, minor)
	p.vias[place].Store(&made)
	return made
}

func (p *Proxy) newVia(major, minor int) []string {
	name := p.Via
	if name == "" {
		name = "ufc"
	}
	return []string{strconv.Itoa(major) + "." + strconv.Itoa(minor) + " " + name}
}

// setNames tells the callee by which name it was called, and by whom.
func (x *relay) setNames(header http.Header) {
	if given := header[headerService]; len(given) != 1 || given[0] != x.call.Callee {
		header[headerService] = x.value(valueService, x.call.Callee)
	}
	switch given := header[headerSelf]; {
	case x.call.Caller == "":
		delete(header, headerSelf)
	case len(given) != 1 || given[0] != x.call.Caller:
		header[headerSelf] = x.value(valueSelf, x.call.Caller)
	}
}

// cleanResponse takes out what only the agent may say, so that nothing an instance copies or makes up is mistaken for the
// agent's own answer, and says it. What an instance says in x-ufc-degrade is what it heard of a callee of its own.
func cleanResponse(header http.Header, x *exchange) {
	delete(header, headerError)
	delete(header, headerPanic)
	delete(header, headerInstance)
	delete(header, headerDegrade)
	if x.attempt.Panic {
		header[headerPanic] = []string{"1"}
	}
	if x.degrade > 0 {
		header[headerDegrade] = number(x.degrade)
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
