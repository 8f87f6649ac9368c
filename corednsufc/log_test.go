package corednsufc

import (
	"bytes"
	"errors"
	stdlog "log"
	"log/slog"
	"strings"
	"testing"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// capture returns what is logged until the test's end.
func capture(t *testing.T) *bytes.Buffer {
	t.Helper()
	var buffer bytes.Buffer
	output, flags := stdlog.Writer(), stdlog.Flags()
	stdlog.SetOutput(&buffer)
	stdlog.SetFlags(0)
	t.Cleanup(func() {
		stdlog.SetOutput(output)
		stdlog.SetFlags(flags)
	})
	return &buffer
}

func TestLogHandler(t *testing.T) {
	buffer := capture(t)
	f := func(want string, write func(*slog.Logger)) {
		t.Helper()
		buffer.Reset()
		write(slog.New(newLogHandler()))
		if got := buffer.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("[INFO] plugin/ufc: followed revision=7\n", func(l *slog.Logger) { l.Info("followed", "revision", 7) })
	f("[WARNING] plugin/ufc: banned for=10s why=\"no route\" empty=\"\"\n", func(l *slog.Logger) {
		l.Warn("banned", "for", 10*time.Second, "why", errors.New("no route"), "empty", "")
	})
	f("[ERROR] plugin/ufc: lost a=1 g.b=2 g.c.d=\"x\\ny\"\n", func(l *slog.Logger) {
		l.With("a", 1).WithGroup("g").With("b", 2).Error("lost", slog.Group("c", "d", "x\ny"))
	})
	f("[INFO] plugin/ufc: odd a=\"\\x1b[2J\" b=\"\\u009b2J\" c=\"\\xff\" d=é\n", func(l *slog.Logger) {
		l.Info("odd", "a", "\x1b[2J", "b", "\u009b2J", "c", "\xff", "d", "é")
	})
	f("", func(l *slog.Logger) { l.Debug("not heard", "a", 1) })
	clog.D.Set()
	defer clog.D.Clear()
	f("[DEBUG] plugin/ufc: heard a=1\n", func(l *slog.Logger) { l.Debug("heard", "a", 1) })
}

func TestLogLinesStayLines(t *testing.T) {
	buffer := capture(t)
	slog.New(newLogHandler()).Info("record refused", "name", "x\n[ERROR] plugin/ufc: forged")
	if lines := strings.Count(buffer.String(), "\n"); lines != 1 {
		t.Errorf("one record became %d lines: %q", lines, buffer.String())
	}
}
