package scenarios

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

var discard = slog.New(slog.DiscardHandler)

// listen has an agent's verdicts written to a ledger. This is the only place that knows how they are learnt: from its log,
// since that tells them at their moment, and polling would have to be done at each event.
func listen(options *agent.Options, begun time.Time, number int, l *ledger) {
	decided := func(d health.Decision) {
		switch d.Kind {
		case health.Banned, health.Relapsed:
			l.judged(time.Since(begun), number, numberOf(d.Instance), true, d.Reason)
		case health.Reopened, health.Lifted:
			l.judged(time.Since(begun), number, numberOf(d.Instance), false, d.Reason)
		}
	}
	options.Logger = slog.New(logged(decided))
}

// logged makes decisions of an agent's log lines.
type logged func(health.Decision)

// Enabled implements slog.Handler.
func (logged) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (h logged) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h logged) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h logged) Handle(_ context.Context, record slog.Record) error {
	decision := health.Decision{Kind: map[string]health.Kind{
		"instance banned": health.Banned, "instance back": health.Reopened,
	}[record.Message]}
	record.Attrs(func(attribute slog.Attr) bool {
		switch attribute.Key {
		case "instance":
			decision.Instance = netip.MustParseAddrPort(attribute.Value.String())
		case "reason":
			decision.Reason = health.Reason(attribute.Value.String())
		}
		return true
	})
	h(decision)
	return nil
}
