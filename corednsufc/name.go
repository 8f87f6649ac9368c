package corednsufc

import (
	"net/netip"
	"strconv"
	"strings"
)

// kind says what a name within a zone is, before anybody looks whether its service exists.
type kind uint8

const (
	missing     kind = iota // can't exist, whatever the catalog holds
	apex                    // ZONE
	nonTerminal             // _tcp.ZONE and i.ZONE: they exist because names below them may, and hold nothing
	nameServer              // ns.i.ZONE: this server
	service                 // S.ZONE and C.S.ZONE
	serviceSRV              // _S._tcp.ZONE, _any._tcp.S.ZONE and _any._tcp.C.S.ZONE: SRV alone
	below                   // i.S.ZONE, _tcp.S.ZONE and _tcp.C.S.ZONE: as nonTerminal, if S exists
	instance                // <hex address>-<port>.i.S.ZONE
	debug                   // _debug.S.ZONE
)

// name is a question's name, read.
type name struct {
	kind    kind
	service string         // S
	caller  string         // C, empty if none was given
	address netip.AddrPort // of an instance
	apart   bool           // S stands in _S: S.ZONE is no part of the name
}

// nameServerLabel stands before i.ZONE in the name of the zone's server. It is below the reserved label i, so that it takes
// no name away from services.
const nameServerLabel = "ns"

// maxNameLength is the longest name of a service or a caller: a label of 63 octets less the underscore of _S._tcp.
const maxNameLength = 62

// parseName reads what stands before the zone, in lower case, with its last dot; empty for the zone itself. It goes from
// the right, where the service stands, allocates nothing, and looks nothing up.
func parseName(labels string) name {
	if labels == "" {
		return name{kind: apex}
	}
	if strings.IndexByte(labels, '\\') >= 0 {
		return name{} // an escaped octet is in no name of ours, and an escaped dot would be taken for a real one
	}
	rest, last := cutLabel(labels)
	switch last {
	case "_tcp":
		return parseProtocolFirst(rest)
	case "i":
		return parseReserved(rest)
	}
	n := name{service: last}
	if rest == "" {
		return n.as(service)
	}
	rest, last = cutLabel(rest)
	switch last {
	case "i":
		return n.instance(rest)
	case "_tcp":
		return n.protocol(rest)
	case "_debug":
		return n.asIf(rest == "", debug)
	}
	if !isName(last) {
		return name{}
	}
	n.caller = last
	if rest == "" {
		return n.as(service)
	}
	if rest, last = cutLabel(rest); last == "_tcp" {
		return n.protocol(rest)
	}
	return name{}
}

// parseProtocolFirst reads _S of _S._tcp.ZONE.
func parseProtocolFirst(labels string) name {
	if labels == "" {
		return name{kind: nonTerminal}
	}
	rest, label := cutLabel(labels)
	if rest != "" || len(label) < 2 || label[0] != '_' {
		return name{}
	}
	return name{kind: serviceSRV, service: label[1:], apart: true}
}

// parseReserved reads what stands before i.ZONE.
func parseReserved(labels string) name {
	switch labels {
	case "":
		return name{kind: nonTerminal}
	case nameServerLabel + ".":
		return name{kind: nameServer}
	}
	return name{}
}

// protocol reads _any of _any._tcp.S.ZONE and _any._tcp.C.S.ZONE.
func (n name) protocol(labels string) name {
	if labels == "" {
		return n.as(below)
	}
	rest, label := cutLabel(labels)
	return n.asIf(rest == "" && len(label) > 1 && label[0] == '_', serviceSRV)
}

// instance reads <hex address>-<port> of <hex address>-<port>.i.S.ZONE.
func (n name) instance(labels string) name {
	if labels == "" {
		return n.as(below)
	}
	rest, label := cutLabel(labels)
	address, ok := parseInstanceLabel(label)
	n.address = address
	return n.asIf(ok && rest == "", instance)
}

func (n name) as(k kind) name {
	n.kind = k
	return n
}

func (n name) asIf(holds bool, k kind) name {
	if !holds {
		return name{}
	}
	return n.as(k)
}

// cutLabel takes the last label off labels, all of which end in a dot.
func cutLabel(labels string) (rest, label string) {
	labels = labels[:len(labels)-1]
	dot := strings.LastIndexByte(labels, '.')
	return labels[:dot+1], labels[dot+1:]
}

// isName tells whether a label may be the name of a caller. A caller needs no document, so that its form is all there is
// to check. A service is looked up instead.
func isName(label string) bool {
	if label == "" || len(label) > maxNameLength || label == "i" || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// appendInstanceLabel writes the label that names an instance within its service: the address in hex, 8 digits for IPv4
// and 32 for IPv6, a hyphen and the port.
func appendInstanceLabel(b []byte, address netip.AddrPort) []byte {
	const digits = "0123456789abcdef"
	octets := address.Addr().As16()
	from := 0
	if address.Addr().Is4() {
		from = 12
	}
	for _, octet := range octets[from:] {
		b = append(b, digits[octet>>4], digits[octet&15])
	}
	b = append(b, '-')
	return strconv.AppendUint(b, uint64(address.Port()), 10)
}

// parseInstanceLabel reads what appendInstanceLabel writes, and nothing else, so that an instance has one name.
func parseInstanceLabel(label string) (netip.AddrPort, bool) {
	hyphen := strings.IndexByte(label, '-')
	if hyphen != 8 && hyphen != 32 {
		return netip.AddrPort{}, false
	}
	var octets [16]byte
	for i := range hyphen {
		digit, ok := hexDigit(label[i])
		if !ok {
			return netip.AddrPort{}, false
		}
		octets[i/2] = octets[i/2]<<4 | digit
	}
	port, err := strconv.ParseUint(label[hyphen+1:], 10, 16)
	if err != nil || port == 0 || label[hyphen+1] == '0' {
		return netip.AddrPort{}, false
	}
	address := netip.AddrFrom16(octets)
	if hyphen == 8 {
		address = netip.AddrFrom4([4]byte(octets[:4]))
	}
	return netip.AddrPortFrom(address, uint16(port)), true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// zone is one zone of the server block, with the names in its SOA.
type zone struct {
	name    string // lower case, with its last dot
	server  string // ns.i.ZONE
	mailbox string // hostmaster.ZONE
}

func newZone(name string) zone {
	below := name
	if name == "." {
		below = ""
	}
	return zone{name: name, server: nameServerLabel + ".i." + below, mailbox: "hostmaster." + below}
}

// matchZone returns the longest of zones that a question's name, in lower case, is in, and its offset in the name: before it
// stand the labels that parseName reads. nil: in none.
func matchZone(zones []zone, qname string) (longest *zone, offset int) {
	for i := range zones {
		suffix := zones[i].name
		if suffix == "." && qname != "." {
			suffix = "" // the root's dot ends the last label of every other name
		}
		at := len(qname) - len(suffix)
		if (longest != nil && at >= offset) || !strings.HasSuffix(qname, suffix) || !labelEnds(qname[:at]) {
			continue
		}
		longest, offset = &zones[i], at
	}
	return longest, offset
}

// labelEnds tells whether a name ends where a label ends: at its begin, or with a dot that is no part of a label.
func labelEnds(before string) bool {
	if before == "" {
		return true
	}
	if before[len(before)-1] != '.' {
		return false
	}
	escapes := 0
	for i := len(before) - 2; i >= 0 && before[i] == '\\'; i-- {
		escapes++
	}
	return escapes%2 == 0
}

// toLower is strings.ToLower for a name in a message: of ASCII letters alone, so that an offset holds in both.
func toLower(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			return lowered(s, i)
		}
	}
	return s
}

func lowered(s string, from int) string {
	b := []byte(s)
	for i := from; i < len(b); i++ {
		if c := b[i]; c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
