package corednsufc

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

var log = clog.NewWithPlugin("ufc")

// logHandler writes what the shared packages log through CoreDNS's log, so that its format, its debug plugin and its
// listeners hold for them too. Attributes follow the message as key=value.
type logHandler struct {
	prefix string // of keys: the groups that are open, each with its dot
	attrs  string // formatted already, each with a space in front
}

func newLogHandler() *logHandler { return &logHandler{} }

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || clog.D.Value()
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, record slog.Record) error {
	var b strings.Builder
	b.WriteString(record.Message)
	b.WriteString(h.attrs)
	record.Attrs(func(attr slog.Attr) bool {
		writeAttr(&b, h.prefix, attr)
		return true
	})
	switch {
	case record.Level >= slog.LevelError:
		log.Error(b.String())
	case record.Level >= slog.LevelWarn:
		log.Warning(b.String())
	case record.Level >= slog.LevelInfo:
		log.Info(b.String())
	default:
		log.Debug(b.String())
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, attr := range attrs {
		writeAttr(&b, h.prefix, attr)
	}
	return &logHandler{prefix: h.prefix, attrs: b.String()}
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{prefix: h.prefix + name + ".", attrs: h.attrs}
}

func writeAttr(b *strings.Builder, prefix string, attr slog.Attr) {
	value := attr.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if attr.Key != "" {
			prefix += attr.Key + "."
		}
		for _, member := range value.Group() {
			writeAttr(b, prefix, member)
		}
		return
	}
	if attr.Equal(slog.Attr{}) {
		return
	}
	text := value.String()
	if text == "" || strings.ContainsFunc(text, needsQuotes) {
		text = strconv.Quote(text)
	}
	b.WriteByte(' ')
	b.WriteString(prefix + attr.Key)
	b.WriteByte('=')
	b.WriteString(text)
}

// needsQuotes keeps a value from running into the next one, or onto the next line, and from steering a terminal.
func needsQuotes(r rune) bool {
	return r <= ' ' || r == '"' || r == '=' || r == utf8.RuneError || !unicode.IsPrint(r)
}
