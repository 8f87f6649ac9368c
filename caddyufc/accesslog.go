package caddyufc

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// accessLog adds UFC's fields to the entry of one request in the access log: ufc_caller, ufc_callee, ufc_attempts,
// ufc_instance and ufc_error, those of which are known.
type accessLog struct{ *caddyhttp.ExtraLogFields }

// logOf returns the request's entry in the access log; nil if the server doesn't write one.
func logOf(r *http.Request) *accessLog {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	extra, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if server == nil || server.Logs == nil || extra == nil {
		return nil
	}
	return &accessLog{extra}
}

func (l *accessLog) text(name, value string) {
	if value != "" {
		l.Set(zap.String(name, value))
	}
}

// logCall adds what the agent knows of a call that has been answered; reason: why it answered by itself.
func logCall(r *http.Request, call *agent.Call, reason string) {
	l := logOf(r)
	if l == nil {
		return
	}
	l.text("ufc_caller", call.Caller)
	l.text("ufc_callee", call.Callee)
	l.Set(zap.Int("ufc_attempts", call.Attempts()))
	if last := call.Final(); last != nil {
		l.text("ufc_instance", last.HostPort)
	}
	l.text("ufc_error", reason)
}
