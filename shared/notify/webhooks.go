package notify

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Identity says who sends.
type Identity struct {
	Agent string `json:"agent"`
	Host  string `json:"host"`
	IDC   string `json:"idc,omitempty"`
}

// Webhooks tell platforms of instances that have been banned for long (ban.webhook of a Service), so that they are migrated,
// and of instances that deserve a ban and don't get one for the cap. At most one message a minute is sent for a service; what
// comes in between is gathered into the next one, so that nothing is lost. A message is sent until it is taken (status 2xx),
// with the same id each time, first after 1 s, at last each 5 min. One that is refused (4xx, but for 408, 425 and 429) is
// given up, and logged: a wrong URL doesn't become right.
//
// What is held is bounded by the number of instances: of each, the newest event. It is lost with the process.
type Webhooks struct {
	policy   func(service string) *model.Webhook
	identity func() Identity
	logger   *slog.Logger
	client   *http.Client
	ctx      context.Context
	cancel   context.CancelFunc
	sent     *outcomes

	mu      sync.Mutex // of what follows
	boxes   map[string]*outbox
	closed  bool
	running sync.WaitGroup
}

// outbox is what a service has to tell.
type outbox struct {
	service string
	bans    map[netip.AddrPort]*longBan
	pending map[subject]Event
	sending bool
	last    time.Time // when a message was sent last
}

// subject is what the newest event is kept of.
type subject struct {
	event    string
	instance netip.AddrPort
}

// longBan is a ban that may become a long one.
type longBan struct {
	decision health.Decision // that began it
	timer    *time.Timer
}

// Event is one event in a message.
type Event struct {
	Event    string             `json:"event"` // long_ban or cap_reached
	Instance string             `json:"instance"`
	Time     time.Time          `json:"time"`
	Reason   health.Reason      `json:"reason"`
	Since    time.Time          `json:"since,omitzero"` // of the ban
	Banned   float64            `json:"banned_for_seconds,omitempty"`
	Rule     string             `json:"rule,omitempty"`
	Inputs   map[string]float64 `json:"inputs,omitempty"`
	Detail   string             `json:"detail,omitempty"`
}

// Message is the body of a request.
type Message struct {
	ID   string    `json:"id"` // also in the header Idempotency-Key; the same each time that it is sent
	Time time.Time `json:"time"`
	Identity
	Service string  `json:"service"`
	Events  []Event `json:"events"`
}

const (
	longBanEvent    = "long_ban"
	capReachedEvent = "cap_reached"
)

// NewWebhooks returns what sends by the policies of services; nil is none. The requests go through the proxy that the
// environment names, as outbound requests do. Close it.
func NewWebhooks(policy func(service string) *model.Webhook, identity func() Identity, logger *slog.Logger) *Webhooks {
	ctx, cancel := context.WithCancel(context.Background())
	return &Webhooks{
		policy: policy, identity: identity, logger: logger, ctx: ctx, cancel: cancel, boxes: map[string]*outbox{}, sent: &outcomes{},
		client: &http.Client{
			Timeout: 10 * time.Second,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
				IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 2,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Close ends the sending, and waits for it. What wasn't taken is lost.
func (w *Webhooks) Close() {
	w.mu.Lock()
	w.closed = true
	for _, box := range w.boxes {
		for _, ban := range box.bans {
			ban.timer.Stop()
		}
	}
	w.mu.Unlock()
	w.cancel()
	w.running.Wait()
	w.client.CloseIdleConnections()
}

// Take takes a decision. It doesn't block.
func (w *Webhooks) Take(d *health.Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	policy := w.policy(d.Service)
	if w.closed || policy == nil && w.boxes[d.Service] == nil {
		return
	}
	box := w.boxes[d.Service]
	if box == nil {
		box = &outbox{service: d.Service, bans: map[netip.AddrPort]*longBan{}, pending: map[subject]Event{}}
		w.boxes[d.Service] = box
	}
	switch d.Kind {
	case health.Banned, health.Relapsed:
		w.watch(box, policy, d)
	case health.Reopened, health.Lifted:
		if ban := box.bans[d.Instance]; ban != nil {
			ban.timer.Stop()
			delete(box.bans, d.Instance)
		}
	case health.Capped:
		w.add(box, Event{
			Event: capReachedEvent, Instance: d.Instance.String(), Time: d.Time.UTC(), Reason: d.Reason, Rule: d.Rule, Inputs: d.Inputs,
			Detail: d.Detail,
		}, d.Instance)
	}
}

// watch waits until a ban is a long one. The lock is held.
func (w *Webhooks) watch(box *outbox, policy *model.Webhook, d *health.Decision) {
	if policy == nil || box.bans[d.Instance] != nil || d.Reason == health.ByNeighbour { // he tells himself
		return
	}
	ban := &longBan{decision: *d}
	ban.timer = time.AfterFunc(max(policy.After.Std()-d.BannedFor, 0), func() { w.long(box, ban) })
	box.bans[d.Instance] = ban
}

// long tells of a ban that has become a long one.
func (w *Webhooks) long(box *outbox, ban *longBan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := &ban.decision
	if w.closed || box.bans[d.Instance] != ban {
		return
	}
	w.add(box, Event{
		Event: longBanEvent, Instance: d.Instance.String(), Time: time.Now().UTC(), Reason: d.Reason, Since: d.Time.UTC(),
		Banned: (d.BannedFor + time.Since(d.Time)).Seconds(), Rule: d.Rule, Inputs: d.Inputs, Detail: d.Detail,
	}, d.Instance)
}

// add puts an event into the next message. The lock is held.
func (w *Webhooks) add(box *outbox, event Event, of netip.AddrPort) {
	box.pending[subject{event.Event, of}] = event
	if !box.sending {
		box.sending = true
		w.running.Go(func() { w.send(box) })
	}
}

// id returns an unguessable name for a message.
func id() string { return rand.Text() }
