package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// Logger writes a line for each decision, at most 20 a minute for a service: a collapsing one must not fill the disk. What
// was left out is told with the next line after that minute.
type Logger struct {
	logger   *slog.Logger
	mu       sync.Mutex
	services map[string]*lines
}

type lines struct {
	minute time.Time
	n      int
	left   int
}

const linesPerMinute = 20

// NewLogger returns a Logger that writes to logger.
func NewLogger(logger *slog.Logger) *Logger {
	return &Logger{logger: logger, services: map[string]*lines{}}
}

var messages = map[health.Kind]string{
	health.Banned: "instance banned", health.Extended: "ban goes on", health.Capped: "instance not banned: too many are already",
	health.HalfOpen: "instance half open", health.Reopened: "instance back", health.Relapsed: "instance banned again",
	health.Slowed: "instance is slow: weight cut", health.Lifted: "ban lifted", health.Fault: "service fault: nobody is banned for it",
	health.Panic: "panic: under half of the instances are left", health.PanicOver: "panic over",
}

// levelOf is Warn for what takes something away, and Debug for what is said again and again.
func levelOf(kind health.Kind) slog.Level {
	switch kind {
	case health.Banned, health.Relapsed, health.Capped, health.Fault, health.Panic:
		return slog.LevelWarn
	case health.Extended, health.Slowed:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Take writes the line of a decision.
func (l *Logger) Take(d *health.Decision) {
	level := levelOf(d.Kind)
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	left, ok := l.count(d)
	if left > 0 {
		l.logger.Warn("decisions not logged", "service", d.Service, "lines", left)
	}
	if !ok {
		return
	}
	fields := []any{"service", d.Service}
	add := func(name string, value any, has bool) {
		if has {
			fields = append(fields, name, value)
		}
	}
	add("instance", d.Instance.String(), d.Instance.IsValid())
	add("idc", d.IDC, d.IDC != "")
	add("reason", string(d.Reason), d.Reason != "")
	add("duration", d.Duration, d.Duration > 0)
	add("banned_for", d.BannedFor, d.BannedFor > 0)
	add("value", d.Value, d.Threshold != 0)
	add("threshold", d.Threshold, d.Threshold != 0)
	add("inputs", d.Inputs, len(d.Inputs) > 0)
	add("detail", d.Detail, d.Detail != "")
	l.logger.Log(context.Background(), level, messages[d.Kind], fields...)
}

// count tells whether a line may be written, and how many weren't in the minute that is over.
func (l *Logger) count(d *health.Decision) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.services[d.Service]
	if of == nil {
		of = &lines{}
		l.services[d.Service] = of
	}
	if d.Time.Sub(of.minute) >= time.Minute {
		left, *of = of.left, lines{minute: d.Time}
	}
	if of.n++; of.n > linesPerMinute {
		of.left++
		return left, false
	}
	return left, true
}
