package notify

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// event names what a message is about.
type event string

// The events.
const (
	longBan    event = "long_ban"    // instances have been banned for long: they had better be replaced
	capReached event = "cap_reached" // instances would be banned, had not too many been already
)

// message is the body of a POST.
type message struct {
	Event event `json:"event"`
	// ID is the idempotency key: the same in all tries to deliver a message, and another one in each other message.
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`  // when the message was made, just before it was first tried
	Agent     string    `json:"agent"` // who tells: other agents judge for themselves
	Host      string    `json:"host"`  // its machine
	IDC       string    `json:"idc"`   // its physical IDC
	Service   string    `json:"service"`
	Instances []entry   `json:"instances"` // by address
}

// entry is one instance in a message.
type entry struct {
	Instance netip.AddrPort `json:"instance"`
	Reason   health.Reason  `json:"reason"`
	Since    time.Time      `json:"since"` // when its last ban began; of a cap: when it was protected
	// BannedFor is how long it has been banned altogether without a return worth the name, until the message's time.
	BannedFor float64 `json:"banned_for_seconds"`
	// Returned is when it came back while the message waited. Absent: it is banned still.
	Returned time.Time `json:"returned,omitzero"`

	Rule      string            `json:"rule"`
	Inputs    map[string]number `json:"inputs"`
	Value     number            `json:"value"`
	Threshold number            `json:"threshold"`
	Detail    string            `json:"detail"`
}

// number is one that JSON has no word for if it isn't finite: null then, since a ratio to nothing must not lose a message.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// item is an instance that waits for a message.
type item struct {
	cause    health.Decision // what it was banned for
	detail   string
	since    time.Time
	began    time.Time // when the ban would have begun, had it had no break
	returned time.Time // zero: it hasn't
}

func (i *item) entry(now time.Time) entry {
	d := &i.cause
	until := now
	if !i.returned.IsZero() {
		until = i.returned
	}
	inputs := make(map[string]number, len(d.Inputs))
	for name, value := range d.Inputs {
		inputs[name] = number(value)
	}
	result := entry{
		Instance: d.Instance, Reason: d.Reason, Since: i.since.UTC(), Returned: i.returned.UTC(),
		Rule: d.Rule, Inputs: inputs, Value: number(d.Value), Threshold: number(d.Threshold), Detail: i.detail,
	}
	if !i.began.IsZero() {
		result.BannedFor = max(until.Sub(i.began).Seconds(), 0)
	}
	return result
}

// newMessage makes a message of what waits.
func newMessage(event event, service string, from Identity, items map[netip.AddrPort]*item, now time.Time) *message {
	m := &message{
		Event: event, ID: rand.Text(), Time: now.UTC(),
		Agent: from.Agent, Host: from.Host, IDC: from.IDC, Service: service,
	}
	for _, i := range items {
		m.Instances = append(m.Instances, i.entry(now))
	}
	slices.SortFunc(m.Instances, func(a, b entry) int { return a.Instance.Compare(b.Instance) })
	return m
}

// body is what is sent.
func (m *message) body() ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // rules have > and <, and people read them
	err := encoder.Encode(m)
	return buffer.Bytes(), err
}
