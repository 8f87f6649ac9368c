package notify

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// Identity says who tells.
type Identity struct {
	Agent string // unique name of the agent
	Host  string // name of its machine
	IDC   string // physical IDC where it runs. Empty: unknown
}

// Options are what Webhooks need.
type Options struct {
	// Policy returns a service's ban.webhook, nil if it has none. It is asked anew before each try. Needed. It must not
	// block, nor call Webhooks.
	Policy func(service string) *model.Webhook
	// Listed tells whether an instance is in its service's list: of one that has left it nobody is told. Default: all are.
	// It must not block, nor call Webhooks.
	Listed func(service string, instance netip.AddrPort) bool
	// Identity says who tells. Default: nobody. It must not block, nor call Webhooks.
	Identity func() Identity
	// Transport carries the POSTs. Default: one of their own, as the package's comment says.
	Transport http.RoundTripper
	Logger    *slog.Logger // default slog.Default()
}

// Webhooks tell platforms of long bans and of caps reached. It is used by many goroutines at once.
type Webhooks struct {
	Options
	client *http.Client
	counts counts

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu       sync.Mutex         // of what follows, and of what is in it
	services map[string]*outbox // those of which there is something to tell or to remember
	closed   bool
	unsent   int // instances in the messages that Close broke off
}

// NewWebhooks returns Webhooks. Close them.
func NewWebhooks(options Options) *Webhooks {
	if options.Listed == nil {
		options.Listed = func(string, netip.AddrPort) bool { return true }
	}
	if options.Identity == nil {
		options.Identity = func() Identity { return Identity{} }
	}
	if options.Transport == nil {
		options.Transport = newTransport()
	}
	if options.Logger == nil {
		options.Logger = slog.Default()
	}
	w := &Webhooks{Options: options, client: newClient(options.Transport), services: map[string]*outbox{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Take takes a decision; those on one instance must come in their order. It takes a lock, and never blocks for longer. After
// Close it does nothing.
func (w *Webhooks) Take(d *health.Decision) {
	if !concerns(d) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	hook := w.Policy(d.Service)
	if w.closed || hook == nil {
		return
	}
	o := w.services[d.Service]
	if o == nil {
		if returns(d) { // of what was never banned for all we know
			return
		}
		o = newOutbox(w, d.Service)
		w.services[d.Service] = o
		w.wait.Go(o.run)
	}
	o.take(d, hook.After.Std())
}

// concerns tells whether a webhook has to do with a decision. Of a neighbour's ban he tells himself.
func concerns(d *health.Decision) bool {
	return bans(d) && d.Reason != health.ByNeighbour || returns(d) || d.Kind == health.Capped
}

// bans tells whether the instance is banned by a decision, or stays so.
func bans(d *health.Decision) bool {
	return d.Kind == health.Banned || d.Kind == health.Extended || d.Kind == health.Relapsed
}

// returns tells whether the instance is back by a decision.
func returns(d *health.Decision) bool { return d.Kind == health.Reopened || d.Kind == health.Lifted }

// Close breaks off what is under way, waits for it, and logs how many instances nobody was told of.
func (w *Webhooks) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.wait.Wait()
	w.client.CloseIdleConnections()
	w.mu.Lock()
	defer w.mu.Unlock()
	unsent := w.unsent
	for _, o := range w.services {
		unsent += len(o.bans.items) + len(o.caps.items)
	}
	clear(w.services)
	if w.unsent = 0; unsent > 0 {
		w.Logger.Warn("webhooks not delivered before the end", "instances", unsent)
	}
}
