package caddyufc

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// accessLog adds UFC's fields to the entry of one request in the access log, those of which are known:
//
//   - ufc_caller, ufc_callee, and ufc_idc, the caller's physical IDC.
//   - ufc_route: the index of the callee's route that the request took.
//   - ufc_attempts: all attempts in their order, each with instance, idc, at_ms (when it began, from the call's beginning), ms
//     (until the response's head, or the failure), result, status (of the response), hedge, panic.
//   - ufc_instance and ufc_instance_idc: whose response it is, or who failed last.
//   - ufc_error: why the agent itself answered. ufc_degrade: how far the client was asked to shed load.
//
// With the entry's own time, client and status this is one hop of a trace: who called whom, when, whom the agent tried,
// how long each took and what it answered.
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

// maxLogged bounds what a stranger can put into a field.
const maxLogged = 64

func (l *accessLog) text(name, value string) {
	if value != "" {
		l.Set(zap.String(name, value[:min(len(value), maxLogged)]))
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
	l.text("ufc_idc", call.IDC)
	if route := call.Route(); route >= 0 {
		l.Set(zap.Int("ufc_route", route))
	}
	if final := call.Final(); final != nil {
		l.Set(zap.Array("ufc_attempts", attemptsOf(call)))
		l.text("ufc_instance", final.HostPort)
		l.text("ufc_instance_idc", final.IDC)
	}
	l.text("ufc_error", reason)
	l.text("ufc_degrade", r.Header.Get("X-Ufc-Degrade"))
}

// attempt is one attempt in the access log.
type attempt struct {
	instance, idc string
	at            time.Duration
	outcome       agent.Outcome
	hedge, panic  bool
}

type attempts []attempt

// attemptsOf copies the attempts: the entry is written later than the call may be remembered.
func attemptsOf(call *agent.Call) attempts {
	all := make(attempts, call.Attempts())
	n := len(all)
	for a := call.Newest(); a != nil && n > 0; a = a.Before() {
		n--
		all[n] = attempt{a.HostPort, a.IDC, a.Offset(), a.Outcome(), a.Hedge, a.Panic}
	}
	return all[n:]
}

// MarshalLogArray implements zapcore.ArrayMarshaler.
func (a attempts) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for n := range a {
		if err := to.AppendObject(&a[n]); err != nil {
			return err
		}
	}
	return nil
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (a *attempt) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("instance", a.instance)
	if a.idc != "" {
		to.AddString("idc", a.idc)
	}
	to.AddFloat64("at_ms", milliseconds(a.at))
	to.AddFloat64("ms", milliseconds(a.outcome.Latency))
	to.AddString("result", a.outcome.Result.String())
	if a.outcome.Code != 0 {
		to.AddInt("status", a.outcome.Code)
	}
	if a.hedge {
		to.AddBool("hedge", true)
	}
	if a.panic {
		to.AddBool("panic", true)
	}
	return nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// Interface guards
var (
	_ zapcore.ArrayMarshaler  = attempts(nil)
	_ zapcore.ObjectMarshaler = (*attempt)(nil)
)
