package model

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Lengths, in bytes, of what people type. They keep labels of metrics, log lines and keys of etcd sane.
const (
	maxName  = 62   // one octet under a DNS label, for the "_" that SRV and debugging names put before it
	maxLabel = 63   // a key or a value of an instance's labels
	maxText  = 1024 // anything else
)

// CheckName tells whether name can be a service's: 1–62 lower-case letters, digits and inner hyphens, and not "i", which
// the DNS reserves for the names of instances.
func CheckName(name string) error {
	if name == "i" {
		return errors.New(`"i" is reserved for the names of instances`)
	}
	return CheckIDC(name)
}

// CheckIDC is CheckName's rule for the names of IDCs (and labels of the like), of which none is reserved.
func CheckIDC(name string) error {
	if name == "" {
		return errors.New("is missing")
	}
	ok := len(name) <= maxName && name[0] != '-' && name[len(name)-1] != '-'
	for i := 0; i < len(name) && ok; i++ {
		c := name[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
	}
	if !ok {
		return fmt.Errorf("%s is not a name of 1-%d lower-case letters, digits and inner hyphens", quote(name), maxName)
	}
	return nil
}

// parseAddress reads the address of an instance. There is exactly one way to write each, since it is a key of etcd and
// the identity that health is kept under: canonical, no zone, no IPv4 in IPv6. Only what one machine can have is allowed.
func parseAddress(address string) (netip.AddrPort, error) {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is not an address such as 10.0.0.1:8080 or [2001:db8::1]:8080", quote(address))
	}
	addr := parsed.Addr()
	var buffer [64]byte
	switch {
	case parsed.Port() == 0:
		return netip.AddrPort{}, fmt.Errorf("%s: port 0 is not between 1 and 65535", quote(address))
	case addr.Zone() != "":
		return netip.AddrPort{}, fmt.Errorf("%s has a zone, which means something else on every machine", quote(address))
	case addr.Is4In6():
		return netip.AddrPort{}, fmt.Errorf("%s must be written as IPv4, %s:%d", quote(address), addr.Unmap(), parsed.Port())
	case addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast:
		return netip.AddrPort{}, fmt.Errorf("%s is not the address of one machine", quote(address))
	case string(parsed.AppendTo(buffer[:0])) != address:
		return netip.AddrPort{}, fmt.Errorf("%s must be written as %q", quote(address), parsed)
	}
	return parsed, nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// checkText refuses control characters, which break logs and protocols, and what is longer than limit.
func checkText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s is longer than %d bytes", quote(s), limit)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("%s holds a control character", quote(s))
		}
	}
	return nil
}

// checkLabel is the rule for keys and values of labels.
func checkLabel(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	return checkText(s, maxLabel)
}

// checkGlob is the rule for patterns over names, in the syntax of path.Match.
func checkGlob(glob string) error {
	if glob == "" {
		return errors.New("is empty")
	}
	if _, err := path.Match(glob, ""); err != nil {
		return fmt.Errorf("%s is not a glob such as video-*", quote(glob))
	}
	return checkText(glob, maxText)
}

// checkRegex is the rule for regular expressions.
func checkRegex(expression string) error {
	if err := checkText(expression, maxText); err != nil {
		return err
	}
	if _, err := regexp.Compile(expression); err != nil {
		return fmt.Errorf("%s is not a regular expression: %v", quote(expression), err)
	}
	return nil
}

// checkToken is the rule for names of headers and cookies: a token of RFC 9110, section 5.6.2.
func checkToken(s string) error {
	ok := s != "" && len(s) <= maxText
	for i := 0; i < len(s) && ok; i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
	if !ok {
		return fmt.Errorf("%s is not a name of letters, digits and hyphens", quote(s))
	}
	return nil
}

// checkMethod is the rule for HTTP methods. They are case-sensitive, and a lower-case one is a slip.
func checkMethod(s string) error {
	if checkToken(s) != nil || strings.ToUpper(s) != s {
		return fmt.Errorf("%s is not a method in upper case such as GET", quote(s))
	}
	return nil
}

// checkPath is the rule for a path to match: exact, or a prefix with * at its end.
func checkPath(s string) error {
	switch {
	case s[0] != '/':
		return fmt.Errorf("%s does not begin with /", quote(s))
	case strings.Contains(s[:len(s)-1], "*"):
		return fmt.Errorf("%s has a * that is not at its end", quote(s))
	case strings.ContainsAny(s, "?# "):
		return fmt.Errorf("%s holds what no path has: a space, ? or #", quote(s))
	}
	return checkText(s, maxText)
}

// checkHost is the rule for a Host header: a name, an IPv4 address or an IPv6 address in brackets, and maybe a port.
func checkHost(s string) error {
	name, port := s, "1"
	if colon := strings.LastIndexByte(s, ':'); colon > strings.LastIndexByte(s, ']') {
		name, port = s[:colon], s[colon+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 && port[0] != '+' && hostName(name) {
		return nil
	}
	return fmt.Errorf("%s is not a host such as www.example.test or [2001:db8::1]:8080", quote(s))
}

// hostName tells whether s is what may stand before a port. Underscores are no part of host names by the letter of
// RFC 1123, but in use.
func hostName(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && addr.Is6() && addr.Zone() == "" && strings.HasSuffix(inner, "]")
	}
	if strings.Trim(s, "0123456789.") == "" {
		_, err := netip.ParseAddr(s)
		return err == nil
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return len(s) <= 253
}

// checkURL is the rule for a URL that is called.
func checkURL(s string) error {
	if err := checkText(s, 2*maxText); err != nil {
		return err
	}
	parsed, err := url.Parse(s)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "" {
		return fmt.Errorf("%s is not a URL that begins with http:// or https://", quote(s))
	}
	return nil
}

// checkHash is the rule for what consistent_hash hashes.
func checkHash(s string) error {
	source, name, named := strings.Cut(s, ":")
	ok := false
	switch source {
	case "header", "cookie":
		ok = checkToken(name) == nil
	case "query":
		ok = name != "" && checkText(name, maxText) == nil
	case "path", "client":
		ok = !named
	}
	if !ok {
		return fmt.Errorf("%s is not one of header:NAME, query:NAME, cookie:NAME, path, client", quote(s))
	}
	return nil
}

// checkStatus is the rule for an HTTP status as a key.
func checkStatus(s string) error {
	if n, err := strconv.Atoi(s); err != nil || len(s) != 3 || n < 100 || n > 599 {
		return fmt.Errorf("%s is not an HTTP status between 100 and 599", quote(s))
	}
	return nil
}
