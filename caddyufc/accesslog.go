package caddyufc

import (
	"errors"
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

// call adds what the agent knows of a call that has been answered, or refused with an error.
func (l *accessLog) call(call *agent.Call, err error) {
	l.text("ufc_caller", call.Caller)
	l.text("ufc_callee", call.Callee)
	l.Set(zap.Int("ufc_attempts", call.Attempts()))
	if refusal := new(agent.Refusal); errors.As(err, &refusal) {
		l.text("ufc_error", refusal.Reason)
	}
}

// exchange adds what the headers of a request and its response tell.
func (l *accessLog) exchange(h *Handler, w http.ResponseWriter, r *http.Request) {
	caller, callee := h.From, h.Service
	if callee == "" { // a gateway's clients have no say
		callee = r.Header.Get("X-Ufc-Service-Name")
		if caller == "" {
			caller = r.Header.Get("X-Ufc-Self-Service-Name")
		}
	}
	l.text("ufc_caller", caller)
	l.text("ufc_callee", callee)
	l.text("ufc_instance", w.Header().Get("X-Ufc-Backend"))
	l.text("ufc_error", w.Header().Get("X-Ufc-Error"))
}
