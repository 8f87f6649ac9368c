package corednsufc

import (
	"net/netip"
	"strconv"
	"strings"
)

// kind says what a name within a zone is, before anybody looks whether its service exists.
type kind uint8

const (
	kindMissing     kind = iota // can't exist, whatever the catalog holds
	kindApex                    // ZONE
	kindNonTerminal             // _tcp.ZONE and i.ZONE: they exist because names below them may, and hold nothing
	kindNameServer              // ns.i.ZONE: this server
	kindService                 // S.ZONE and C.S.ZONE
	kindServiceSRV              // _S._tcp.ZONE, _any._tcp.S.ZONE and _any._tcp.C.S.ZONE: SRV alone
	kindBelow                   // i.S.ZONE, _tcp.S.ZONE and _tcp.C.S.ZONE: as kindNonTerminal, if S exists
	kindInstance                // <hex address>-<port>.i.S.ZONE
	kindDebug                   // _debug.S.ZONE
)

// name is a question's name, read.
type name struct {
	kind     kind
	service  string         // S
	caller   string         // C, empty if none was given
	address  netip.AddrPort // of an instance
	srvLabel bool           // S stands in _S: S.ZONE is no part of the name
}

// nameServerLabel stands before i.ZONE in the name of the zone's server. It is below the reserved label i, so that it takes
// no name away from services.
const nameServerLabel = "ns"

// maxNameLength is the longest name of a service or a caller: a label of 63 octets less the underscore of _S._tcp.
const maxNameLength = 62

// parseName reads what stands before the zone, in lower case, with its last dot; empty for the zone itself. It allocates nothing, and
// looks nothing up.
func parseName(labels string) name {
	var l [4]string // from the right, where the service stands
	count := splitRight(labels, &l)
	switch {
	case count > len(l) || strings.IndexByte(labels, '\\') >= 0:
		return name{} // no name of ours is so long, or has an escape; an escaped dot would be taken for a real one
	case count == 0:
		return name{kind: kindApex}

	case count == 1 && (l[0] == "_tcp" || l[0] == "i"):
		return name{kind: kindNonTerminal}
	case count == 2 && l[0] == "i" && l[1] == nameServerLabel:
		return name{kind: kindNameServer}
	case count == 2 && l[0] == "_tcp" && underscored(l[1]):
		return name{kind: kindServiceSRV, service: l[1][1:], srvLabel: true}
	case l[0] == "_tcp" || l[0] == "i":
		return name{}

	case count == 1:
		return name{kind: kindService, service: l[0]}
	case count == 2 && (l[1] == "_tcp" || l[1] == "i"):
		return name{kind: kindBelow, service: l[0]}
	case count == 2 && l[1] == "_debug":
		return name{kind: kindDebug, service: l[0]}
	case count == 3 && l[1] == "_tcp" && underscored(l[2]):
		return name{kind: kindServiceSRV, service: l[0]}
	case count == 3 && l[1] == "i":
		if address, ok := parseInstanceLabel(l[2]); ok {
			return name{kind: kindInstance, service: l[0], address: address}
		}

	case !isName(l[1]):
		return name{}
	case count == 2:
		return name{kind: kindService, service: l[0], caller: l[1]}
	case count == 3 && l[2] == "_tcp":
		return name{kind: kindBelow, service: l[0], caller: l[1]}
	case count == 4 && l[2] == "_tcp" && underscored(l[3]):
		return name{kind: kindServiceSRV, service: l[0], caller: l[1]}
	}
	return name{}
}

// splitRight splits labels, all of which end in a dot, from the right, and returns how many there are: one more than fit, if they
// are more.
func splitRight(labels string, into *[4]string) (count int) {
	for ; labels != "" && count < len(into); count++ {
		labels = labels[:len(labels)-1]
		dot := strings.LastIndexByte(labels, '.')
		labels, into[count] = labels[:dot+1], labels[dot+1:]
	}
	if labels != "" {
		count++
	}
	return count
}

func underscored(label string) bool { return len(label) > 1 && label[0] == '_' }

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
