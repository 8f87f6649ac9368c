package notify

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// logRig returns a logger in virtual time, what it writes, and a function that takes a decision.
func logRig(t *testing.T) (*Logger, *buffer, func(kind health.Kind, service string)) {
	var out buffer
	l := NewLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(l.Close)
	return l, &out, func(kind health.Kind, service string) {
		l.Take(&health.Decision{
			Time: time.Now(), Kind: kind, Service: service, Instance: address("1"), Reason: health.ByProof,
			Inputs: map[string]float64{"failures": 3}, Value: 2, Threshold: 1, Duration: time.Minute, Detail: "refused",
		})
	}
}

func TestLogger(t *testing.T) {
	f := func(kind health.Kind, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			_, out, take := logRig(t)
			take(kind, "shop")
			want += ` service=shop instance=10.0.0.1:80 reason=proof duration=1m0s value=2 threshold=1 inputs=map[failures:3] detail=refused` + "\n"
			if !strings.HasSuffix(out.String(), want) {
				t.Errorf("%s, not %s", out, want)
			}
		})
	}
	f(health.Banned, `level=WARN msg="instance banned"`)
	f(health.Relapsed, `level=WARN msg="instance banned again"`)
	f(health.Capped, `level=WARN msg="instance not banned: too many are already"`)
	f(health.Fault, `level=WARN msg="service fault: nobody is banned for it"`)
	f(health.Panic, `level=WARN msg="panic: under half of the instances are left"`)
	f(health.Reopened, `level=INFO msg="instance back"`)
	f(health.HalfOpen, `level=INFO msg="instance half open"`)
	f(health.Lifted, `level=INFO msg="ban lifted"`)
	f(health.PanicOver, `level=INFO msg="panic over"`)
	f(health.Extended, `level=DEBUG msg="ban goes on"`)
	f(health.Slowed, `level=DEBUG msg="instance is slow: weight cut"`)
}

func TestLoggerTellsOfTheFuse(t *testing.T) {
	f := func(kind health.Kind, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l, out, _ := logRig(t)
			l.Take(&health.Decision{
				Kind: kind, Service: "shop", Rule: "a < b", Inputs: map[string]float64{"a": 1}, Value: 1, Threshold: 2,
			})
			if !strings.HasSuffix(out.String(), want+" value=1 threshold=2 inputs=map[a:1]\n") {
				t.Errorf("%s, not %s", out, want)
			}
		})
	}
	f(health.Avalanche, `level=WARN msg="avalanche: the fuse refuses the least important requests" service=shop rule="a < b"`)
	f(health.AnotherRate, `level=DEBUG msg="the fuse admits another rate" service=shop`)
	f(health.AvalancheOver, `level=INFO msg="avalanche over" service=shop rule="a < b"`)
}

// The rate changes several times a second: who debugs must not miss the bans for it.
func TestDebuggingHidesNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, out, take := logRig(t)
		for range 100 {
			take(health.AnotherRate, "shop")
		}
		for range 100 {
			take(health.Banned, "shop")
		}
		if text := out.String(); strings.Count(text, "another rate") != linesPerMinute || strings.Count(text, "instance banned") != linesPerMinute {
			t.Errorf("the log:\n%s", text)
		}
	})
}

func TestLoggerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, take := logRig(t)
		lines := func() int {
			synctest.Wait()
			return strings.Count(out.String(), "\n")
		}
		for range 1000 {
			take(health.Banned, "shop")
		}
		take(health.Banned, "other")
		if n := lines(); n != linesPerMinute+1 {
			t.Errorf("%d lines for a storm", n)
		}
		time.Sleep(time.Minute) // and nothing more comes
		if n := lines(); n != linesPerMinute+2 || !strings.Contains(out.String(), `msg="decisions not logged" service=shop lines=980`) {
			t.Errorf("%d lines: %s", n, out)
		}
		l.mu.Lock()
		if len(l.minutes) != 0 {
			t.Errorf("%d services are remembered", len(l.minutes))
		}
		l.mu.Unlock()
		for range 31 {
			take(health.Banned, "shop")
		}
		l.Close()
		if n := lines(); n != 2*linesPerMinute+3 || !strings.HasSuffix(out.String(), "service=shop lines=11\n") {
			t.Errorf("%d lines: the end loses what was left out", n)
		}
		take(health.Banned, "shop")
		if n := lines(); n != 2*linesPerMinute+3 {
			t.Errorf("%d lines after all", n)
		}
	})
}

// In a collapse the line that matters most comes after the bans: that the cap is reached, or panic.
func TestAStormHidesNoOtherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, out, take := logRig(t)
		for range 100 {
			take(health.Banned, "shop")
		}
		for range 100 {
			take(health.Capped, "shop")
			take(health.Panic, "shop")
		}
		text := out.String()
		if strings.Count(text, "too many are already") != 1 || strings.Count(text, "panic") != 1 {
			t.Errorf("the log:\n%s", text)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if text := out.String(); !strings.Contains(text, "lines=278") {
			t.Errorf("the log:\n%s", text)
		}
	})
}
