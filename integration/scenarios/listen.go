package scenarios

import (
	"log/slog"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

var discard = slog.New(slog.DiscardHandler)

// listen has an agent's verdicts written to a ledger.
func listen(options *agent.Options, begun time.Time, number int, l *ledger) {
	options.Decided = func(d health.Decision) {
		switch d.Kind {
		case health.Banned, health.Relapsed:
			l.judged(time.Since(begun), number, numberOf(d.Instance), true, d.Reason)
		case health.Reopened, health.Lifted:
			l.judged(time.Since(begun), number, numberOf(d.Instance), false, d.Reason)
		}
	}
}
