package currentlog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/ufc-mesh/ufc/caddyufc/internal/currentlog"
)

// TestFollowsTheDefaultLog writes with loggers that are older than the configuration whose log they write to.
func TestFollowsTheDefaultLog(t *testing.T) {
	t.Cleanup(func() { _ = caddy.Stop() })
	load := func(level string) (file string) {
		t.Helper()
		file = filepath.Join(t.TempDir(), "log")
		config := fmt.Sprintf(`{"admin": {"disabled": true, "config": {"persist": false}}, "logging": {"logs": {"default": {"level": %q,
			"writer": {"output": "file", "filename": %q}, "encoder": {"format": "json"}}}}}`, level, file)
		if err := caddy.Load([]byte(config), true); err != nil {
			t.Fatal(err)
		}
		return file
	}
	structured := currentlog.Slog("test.slog").With("with", "attribute")
	level := zap.NewAtomicLevelAt(zap.WarnLevel)
	named := currentlog.Zap("test.zap", level).With(zap.String("with", "field"))

	first := load("INFO")
	structured.Info("one")
	structured.Debug("too low for the log")
	named.Info("too low for the logger")
	second := load("DEBUG")
	structured.Debug("two")
	named.Warn("three")
	level.SetLevel(zap.ErrorLevel)
	named.Warn("too low by now")

	f := func(file string, wants ...string) {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, `"with"`) {
				lines = append(lines, line)
			}
		}
		if len(lines) != len(wants) {
			t.Fatalf("lines: %q", lines)
		}
		for i, want := range wants {
			for part := range strings.SplitSeq(want, " ") {
				if !strings.Contains(lines[i], part) {
					t.Errorf("line %q has no %s", lines[i], part)
				}
			}
		}
	}
	f(first, `"info" "test.slog" "one" "attribute"`)
	f(second, `"debug" "test.slog" "two" "attribute"`, `"warn" "test.zap" "three" "field"`)
}
