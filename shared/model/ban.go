package model

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// HandBan is a ban that a person made: nobody sends the instance anything while it stands, whatever its health. It is one
// key of etcd, config/bans/<service>/<host:port>. Every field may be left out.
type HandBan struct {
	// By is who made it, free text, up to 1024 bytes.
	By string `json:"by,omitempty"`
	// Reason is why, free text, up to 1024 bytes.
	Reason string `json:"reason,omitempty"`
	// Since is when it was made. Zero: unknown.
	Since time.Time `json:"since,omitzero"`
	// Until is when it ends by itself. Zero: when it is lifted. It is the clock of whoever asks that counts.
	Until time.Time `json:"until,omitzero"`
}

// ToldBan is a ban that an agent decided by itself, as it tells it to the other agents of its host and to operators. It is
// one key of etcd, bans/<host>/<service>/<host:port>, under the agent's lease.
type ToldBan struct {
	// Agent is the agent_id of who decided it, 1–1024 bytes.
	Agent string `json:"agent"`
	// Reason is a word of package health's, such as requests or proof. Up to 1024 bytes.
	Reason string `json:"reason,omitempty"`
	// Since is when the instance was banned first. Zero: unknown.
	Since time.Time `json:"since,omitzero"`
	// Until is when its trial begins at the earliest. The ban isn't over then: it is when its key is gone.
	Until time.Time `json:"until"`
	// Detail is for people, up to 1024 bytes.
	Detail string `json:"detail,omitempty"`
}

// InForce tells whether the ban stands at a time.
func (b *HandBan) InForce(now time.Time) bool { return b.Until.IsZero() || now.Before(b.Until) }

// ParseBan reads the value of a ban made by hand; service and address are of its key, which must be canonical. Warnings
// and errors are as with ParseService.
func ParseBan(service, address string, value []byte) (*HandBan, []Problem, error) {
	ban := &HandBan{}
	warnings, err := parseBan(service, address, value, ban, ban.check)
	if err != nil {
		return nil, warnings, err
	}
	return ban, warnings, nil
}

// ParseToldBan reads the value of a ban that an agent told, as ParseBan does.
func ParseToldBan(service, address string, value []byte) (*ToldBan, []Problem, error) {
	ban := &ToldBan{}
	warnings, err := parseBan(service, address, value, ban, ban.check)
	if err != nil {
		return nil, warnings, err
	}
	return ban, warnings, nil
}

func parseBan(service, address string, value []byte, out any, check func(checker)) ([]Problem, error) {
	return parse(parser{document: banLabel(service, address), kind: KindBan, limit: maxBan, out: out, check: check}, value)
}

// CheckAddress tells whether the text is the address of an instance as keys and documents write it: IP:PORT, canonical.
func CheckAddress(text string) error {
	_, err := parseAddress(text)
	return err
}

// JSON returns the value of the ban's key in etcd.
func (b *HandBan) JSON() []byte { return mustJSON(b) }

// JSON returns the value of the ban's key in etcd.
func (b *ToldBan) JSON() []byte { return mustJSON(b) }

// Valid tells what is wrong with a ban before it is written; nil: nothing. The error names the field.
func (b *HandBan) Valid(service string, address netip.AddrPort) error {
	_, _, err := ParseBan(service, address.String(), b.JSON())
	return err
}

// Tidy returns the ban as it can be written: texts cut to their limits, control characters replaced by spaces, times in UTC
// and in whole milliseconds. Two tidy bans that mean the same are equal.
func (b ToldBan) Tidy() ToldBan {
	return ToldBan{
		Agent: tidy(b.Agent), Reason: tidy(b.Reason), Detail: tidy(b.Detail),
		Since: b.Since.UTC().Truncate(time.Millisecond), Until: b.Until.UTC().Truncate(time.Millisecond),
	}
}

func tidy(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	cut := min(len(clean), maxText)
	for cut > 0 && cut < len(clean) && !utf8.RuneStart(clean[cut]) {
		cut--
	}
	return clean[:cut]
}

// maxBan is the largest value of a ban: three texts, every byte of them escaped.
const maxBan = 32 << 10

func banLabel(service, address string) string {
	return fmt.Sprintf("ban of %s of service %s", quote(address), quote(service))
}

// check validates a decoded HandBan.
func (b *HandBan) check(c checker) {
	c.must("by", checkText(b.By, maxText))
	c.must("reason", checkText(b.Reason, maxText))
	checkPeriod(c, b.Since, b.Until)
}

// check validates a decoded ToldBan.
func (b *ToldBan) check(c checker) {
	if b.Agent == "" {
		c.fail("agent", missing)
	}
	c.must("agent", checkText(b.Agent, maxText))
	c.must("reason", checkText(b.Reason, maxText))
	c.must("detail", checkText(b.Detail, maxText))
	if b.Until.IsZero() {
		c.fail("until", missing)
	}
	checkPeriod(c, b.Since, b.Until)
}

// checkPeriod wants an end that doesn't lie before the beginning, where both are known.
func checkPeriod(c checker, since, until time.Time) {
	if !since.IsZero() && !until.IsZero() && until.Before(since) {
		c.fail("until", "%s is before since, %s", until.Format(time.RFC3339Nano), since.Format(time.RFC3339Nano))
	}
}

// moment reads a point in time. It has a zone, since an agent's own means something else on every machine.
func (d *decoder) moment(n *node, line int, out reflect.Value) {
	parsed, err := time.Parse(time.RFC3339Nano, n.text)
	if n.shape != text || err != nil {
		d.fail(line, "%v is not a time such as 2026-01-02T15:04:05Z", n)
		return
	}
	parsed = parsed.UTC()
	if year := parsed.Year(); year < 1970 || year > 9999 { // the zero time means another thing, and JSON has four digits
		d.fail(line, "%v is not between the years 1970 and 9999", n)
		return
	}
	out.Set(reflect.ValueOf(parsed))
}

// mustJSON encodes what can't fail.
func mustJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil { // only a year over 9999 can't be encoded; neither a clock nor the parser gives one
		panic(fmt.Sprintf("model: encoding a %T: %v", value, err))
	}
	return text
}
