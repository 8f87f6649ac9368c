package caddyufc

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

func TestAttemptLog(t *testing.T) {
	f := func(a attemptLog, want string) {
		t.Helper()
		to := zapcore.NewMapObjectEncoder()
		if err := a.MarshalLogObject(to); err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(to.Fields); err != nil || string(got) != want {
			t.Errorf("%s, not %s (%v)", got, want, err)
		}
	}
	f(attemptLog{instance: "10.0.0.1:80", Outcome: agent.Outcome{Result: health.ConnectTimeout, Latency: 1234567}},
		`{"at_ms":0,"instance":"10.0.0.1:80","ms":1.235,"result":"connect_timeout"}`)
	f(attemptLog{
		instance: "10.0.0.1:80", idc: "bj-a", after: 300 * time.Millisecond, hedge: true, panic: true,
		Outcome: agent.Outcome{Code: 503, Latency: time.Second},
	}, `{"at_ms":300,"hedge":true,"idc":"bj-a","instance":"10.0.0.1:80","ms":1000,"panic":true,"result":"ok","status":503}`)
}

// TestNoLogNoWork gives what would need a call none: a server that writes no access log doesn't look at it.
func TestNoLogNoWork(t *testing.T) {
	ctx := context.WithValue(t.Context(), caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields))
	for _, server := range []*caddyhttp.Server{nil, {}} {
		r, err := http.NewRequestWithContext(context.WithValue(ctx, caddyhttp.ServerCtxKey, server), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		logCall(r, nil, nil)
		logTunnel(r, nil)
	}
}
