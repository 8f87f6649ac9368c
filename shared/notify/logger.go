package notify

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// Logger writes a line for each decision, at most 20 a minute for a service, and as many again for debugging: a collapsing one
// must not fill the disk. The first of a kind in the minute is written in any case, since in a collapse the cap and panic come
// after many bans. A line at the minute's end says how many were left out.
type Logger struct {
	logger *slog.Logger

	mu      sync.Mutex // of what follows
	minutes map[string]*minute
	closed  bool
}

// minute is what was written of a service since the first line that no minute before counts.
type minute struct {
	lines, debug int
	kinds        map[health.Kind]bool // written
	left         int                  // out
	end          *time.Timer
}

const linesPerMinute = 20

// NewLogger returns a Logger that writes to logger. Close it.
func NewLogger(logger *slog.Logger) *Logger {
	return &Logger{logger: logger, minutes: map[string]*minute{}}
}

var messages = map[health.Kind]string{
	health.Banned: "instance banned", health.Extended: "ban goes on", health.Capped: "instance not banned: too many are already",
	health.HalfOpen: "instance half open", health.Reopened: "instance back", health.Relapsed: "instance banned again",
	health.Slowed: "instance is slow: weight cut", health.Lifted: "ban lifted", health.Fault: "service fault: nobody is banned for it",
	health.Panic: "panic: under half of the instances are left", health.PanicOver: "panic over",
	health.Avalanche:   "avalanche: the fuse refuses the least important requests",
	health.AnotherRate: "the fuse admits another rate", health.AvalancheOver: "avalanche over",
}

// levelOf is Warn for what takes something away, and Debug for what is said again and again.
func levelOf(kind health.Kind) slog.Level {
	switch kind {
	case health.Banned, health.Relapsed, health.Capped, health.Fault, health.Panic, health.Avalanche:
		return slog.LevelWarn
	case health.Extended, health.Slowed, health.AnotherRate:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// Take writes the line of a decision. It waits for the log.
func (l *Logger) Take(d *health.Decision) {
	level := levelOf(d.Kind)
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	if !l.count(d.Service, d.Kind, level) {
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
	add("rule", d.Rule, d.Kind == health.Avalanche || d.Kind == health.AvalancheOver) // bans have a reason
	add("value", d.Value, d.Threshold != 0)
	add("threshold", d.Threshold, d.Threshold != 0)
	add("inputs", d.Inputs, len(d.Inputs) > 0)
	add("detail", d.Detail, d.Detail != "")
	l.logger.Log(context.Background(), level, messages[d.Kind], fields...)
}

// count tells whether a line may be written.
func (l *Logger) count(service string, kind health.Kind, level slog.Level) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	of := l.minutes[service]
	if of == nil {
		of = &minute{kinds: map[health.Kind]bool{}}
		of.end = time.AfterFunc(time.Minute, func() { l.over(service) })
		l.minutes[service] = of
	}
	lines := &of.lines
	if level == slog.LevelDebug {
		lines = &of.debug
	}
	if *lines >= linesPerMinute && of.kinds[kind] {
		of.left++
		return false
	}
	*lines++
	of.kinds[kind] = true
	return true
}

// over ends a service's minute.
func (l *Logger) over(service string) {
	l.mu.Lock()
	of := l.minutes[service]
	delete(l.minutes, service)
	l.mu.Unlock()
	if of != nil { // nil: Close was quicker
		l.tellLeft(service, of)
	}
}

func (l *Logger) tellLeft(service string, of *minute) {
	if of.left > 0 {
		l.logger.Warn("decisions not logged", "service", service, "lines", of.left)
	}
}

// Close ends all minutes. Nothing more is written.
func (l *Logger) Close() {
	l.mu.Lock()
	minutes := l.minutes
	l.minutes, l.closed = nil, true
	l.mu.Unlock()
	for service, of := range minutes {
		of.end.Stop()
		l.tellLeft(service, of)
	}
}
