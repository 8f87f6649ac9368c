package corednsufc

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin("ufc")

// logHandler writes what the shared packages log through CoreDNS's log, so that its format, its debug plugin and its
// listeners hold for them too. Attributes follow the message as key=value; those without a group may not be named level or msg.
type logHandler struct {
	attrs slog.Handler // writes them to out
	out   *logBuffer
}

type logBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func newLogHandler() *logHandler {
	out := &logBuffer{}
	withoutHead := func(groups []string, attr slog.Attr) slog.Attr {
		if len(groups) == 0 && (attr.Key == slog.LevelKey || attr.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return attr
	}
	return &logHandler{slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutHead}), out}
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || clog.D.Value()
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	record.Time = time.Time{} // CoreDNS's log has its own
	line := record.Message
	h.out.Lock()
	h.out.Reset()
	err := h.attrs.Handle(ctx, record)
	if attrs := bytes.TrimSpace(h.out.Bytes()); len(attrs) > 0 {
		line += " " + string(attrs)
	}
	h.out.Unlock()
	switch {
	case record.Level >= slog.LevelError:
		log.Error(line)
	case record.Level >= slog.LevelWarn:
		log.Warning(line)
	case record.Level >= slog.LevelInfo:
		log.Info(line)
	default:
		log.Debug(line)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.attrs.WithAttrs(attrs), h.out}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.attrs.WithGroup(name), h.out}
}
