package notify

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

func TestLoggerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := NewLogger(slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			l.Take(&health.Decision{Kind: health.Banned, Service: "shop", Instance: address("1"), Time: time.Now()})
		}
		if n := strings.Count(out.String(), "\n"); n != linesPerMinute {
			t.Errorf("%d lines for a storm", n)
		}
		time.Sleep(time.Minute)
		l.Take(&health.Decision{Kind: health.Reopened, Service: "shop", Instance: address("1"), Time: time.Now()})
		if text := out.String(); !strings.Contains(text, "lines=980") || !strings.Contains(text, `msg="instance back" service=shop instance=10.0.0.1:80`) {
			t.Error(text[max(0, len(text)-400):])
		}
	})
}
