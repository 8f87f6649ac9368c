package mesh

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// logHandler writes to the logger of the configuration in force: a host's reload closes the old configuration's log, and
// the attachment outlives it.
type logHandler struct {
	target atomic.Pointer[slog.Handler]
}

func (h *logHandler) use(logger *slog.Logger) {
	if logger == nil {
		logger = slog.Default()
	}
	target := logger.Handler()
	h.target.Store(&target)
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.target.Load()).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	return (*h.target.Load()).Handle(ctx, record)
}

// WithAttrs implements slog.Handler. What it returns stays with the target of the moment: nothing that lives as long as
// an attachment may use it.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return (*h.target.Load()).WithAttrs(attrs)
}

// WithGroup implements slog.Handler, as WithAttrs.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return (*h.target.Load()).WithGroup(name)
}
