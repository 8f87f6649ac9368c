package caddyufc

import (
	"math"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

// callLog is what the access log says of a call, enough to rebuild it: who called whom, which instances were tried, when,
// for how long, and what came of each. It is a copy, since the entry is written when the call is gone.
type callLog struct {
	caller, callee string
	idc            string // of the caller
	route          int    // −1: none matched
	attempts       []attemptLog
	final          int            // index of the attempt that decided the call; −1: there was none
	refusal        *agent.Refusal // why UFC itself answered; nil: it didn't
	degrade        int            // x-ufc-degrade as callee and caller got it; 0: they didn't
}

// attemptLog is one attempt.
type attemptLog struct {
	instance, idc string
	after         time.Duration // since the call began
	hedge, panic  bool
	agent.Outcome
}

// logCall adds what the agent knows of a call that has been answered to the request's entry in the access log; refusal: why
// UFC itself answered. If a request makes several calls, the last one stands.
func logCall(r *http.Request, call *agent.Call, refusal *agent.Refusal) {
	if entry := entryOf(r); entry != nil {
		entry.Set(zap.Inline(newCallLog(call, refusal))) // one field, so that nothing of an earlier call is left
	}
}

// logTunnel is logCall for a tunnel that has been opened: the attempt stands well so far.
func logTunnel(r *http.Request, call *agent.Call) {
	if entry := entryOf(r); entry != nil {
		l := newCallLog(call, nil)
		final := &l.attempts[l.final]
		final.Result, final.Code = health.OK, http.StatusSwitchingProtocols
		entry.Set(zap.Inline(l))
	}
}

// entryOf returns the request's entry in the access log; nil if the server writes none.
func entryOf(r *http.Request) *caddyhttp.ExtraLogFields {
	if server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); server == nil || server.Logs == nil {
		return nil
	}
	entry, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	return entry
}

func newCallLog(call *agent.Call, refusal *agent.Refusal) *callLog {
	l := &callLog{
		caller: call.Caller, callee: call.Callee, idc: call.IDC, route: call.Route(), final: -1, refusal: refusal,
		attempts: make([]attemptLog, call.Attempts()), degrade: call.Degrade,
	}
	n := len(l.attempts)
	for attempt := call.Newest(); attempt != nil; attempt = attempt.Before() {
		n--
		l.attempts[n] = attemptLog{
			instance: attempt.HostPort, idc: attempt.IDC, after: attempt.After(), hedge: attempt.Hedge, panic: attempt.Panic,
			Outcome: attempt.Settled(),
		}
		if attempt == call.Final() {
			l.final = n
		}
	}
	return l
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (l *callLog) MarshalLogObject(to zapcore.ObjectEncoder) error {
	text(to, "ufc_caller", l.caller)
	text(to, "ufc_callee", l.callee)
	text(to, "ufc_idc", l.idc)
	if l.route >= 0 {
		to.AddInt("ufc_route", l.route)
	}
	err := to.AddArray("ufc_attempts", zapcore.ArrayMarshalerFunc(l.marshalAttempts))
	if l.final >= 0 && l.attempts[l.final].Code != 0 {
		text(to, "ufc_instance", l.attempts[l.final].instance)
		text(to, "ufc_instance_idc", l.attempts[l.final].idc)
	}
	if l.refusal != nil {
		text(to, "ufc_error", l.refusal.Reason)
		text(to, "ufc_detail", l.refusal.Detail)
	}
	if l.degrade > 0 {
		to.AddInt("ufc_degrade", l.degrade)
	}
	return err
}

func (l *callLog) marshalAttempts(to zapcore.ArrayEncoder) error {
	for n := range l.attempts {
		if err := to.AppendObject(&l.attempts[n]); err != nil {
			return err
		}
	}
	return nil
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (a *attemptLog) MarshalLogObject(to zapcore.ObjectEncoder) error {
	text(to, "instance", a.instance)
	text(to, "idc", a.idc)
	to.AddFloat64("at_ms", milliseconds(a.after))
	to.AddFloat64("ms", milliseconds(a.Latency))
	to.AddString("result", a.Result.String())
	if a.Code != 0 {
		to.AddInt("status", a.Code)
	}
	if a.hedge {
		to.AddBool("hedge", true)
	}
	if a.panic {
		to.AddBool("panic", true)
	}
	return nil
}

// maxText bounds a text in the log, in bytes. Names are shorter; what a stranger sends as one may not be.
const maxText = 256

// text adds a text that is known.
func text(to zapcore.ObjectEncoder, name, value string) {
	if len(value) > maxText {
		value = value[:maxText] + "…"
	}
	if value != "" {
		to.AddString(name, value)
	}
}

// milliseconds returns a time in milliseconds, to the microsecond.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// Interface guards
var (
	_ zapcore.ObjectMarshaler = (*callLog)(nil)
	_ zapcore.ObjectMarshaler = (*attemptLog)(nil)
)
