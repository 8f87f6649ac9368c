// Package currentlog gives loggers to what outlives a configuration: the shared state of a mesh and the embedded etcd.
// A logger that Caddy hands to a module belongs to the module's configuration, and may write into a closed file after a
// reload. These write to whatever is Caddy's default log at the time of the entry.
package currentlog

import (
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
)

// Zap returns a logger with a name, for entries that level lets pass.
func Zap(name string, level zapcore.LevelEnabler) *zap.Logger {
	return zap.New(core{level: level}).Named(name)
}

// Slog is Zap for packages that know log/slog only. What is written depends on the default log's level alone.
func Slog(name string) *slog.Logger {
	// Stack traces are for faults of the program; an error here is one of the network.
	noTraces := zapslog.AddStacktraceAt(slog.Level(127))
	return slog.New(zapslog.NewHandler(core{level: zapcore.DebugLevel}, zapslog.WithName(name), noTraces))
}

// core is a zapcore.Core that looks its target up at every entry.
type core struct {
	level  zapcore.LevelEnabler
	fields []zapcore.Field
}

func (c core) Enabled(level zapcore.Level) bool {
	return c.level.Enabled(level) && caddy.Log().Core().Enabled(level)
}

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{level: c.level, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check lets the target decide, since it may filter by the entry's name; what it adds to checked is what will be written.
func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	return caddy.Log().Core().With(c.fields).Check(entry, checked)
}

// Write is for callers that skip Check.
func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	return caddy.Log().Core().With(c.fields).Write(entry, fields)
}

func (c core) Sync() error { return caddy.Log().Core().Sync() }

var _ zapcore.Core = core{}
