package caddyufc

import (
	"context"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ufc-mesh/ufc/shared/agent"
)

// propagator writes an attempt's span into the request for the instance, as W3C Trace Context and Baggage have it.
var propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// traceAttempt begins the span of an attempt where the request has one, as Caddy's directive tracing gives it. It is a
// forward.Forwarder's Trace. Without one, what the client says in traceparent passes on.
func traceAttempt(ctx context.Context, call *agent.Call, attempt *agent.Attempt, header http.Header) (context.Context, func(agent.Outcome)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, nil
	}
	ctx, span := parent.TracerProvider().Tracer("github.com/ufc-mesh/ufc").Start(ctx, call.Callee,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("server.address", attempt.Address.Addr().String()),
			attribute.Int("server.port", int(attempt.Address.Port())),
			attribute.Int("http.request.resend_count", attempt.Number),
			attribute.String("ufc.callee", call.Callee), attribute.String("ufc.caller", call.Caller),
			attribute.String("ufc.idc", attempt.IDC), attribute.Bool("ufc.hedge", attempt.Hedge),
		))
	propagator.Inject(ctx, propagation.HeaderCarrier(header))
	return ctx, func(outcome agent.Outcome) {
		switch {
		case outcome.Result.Failure():
			span.SetAttributes(attribute.String("error.type", outcome.Result.String()))
			span.SetStatus(codes.Error, outcome.Result.String())
		case outcome.Code >= 400: // the semantic conventions of a client's span
			span.SetAttributes(attribute.String("error.type", strconv.Itoa(outcome.Code)))
			span.SetStatus(codes.Error, "")
		}
		if outcome.Code != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", outcome.Code))
		}
		span.End()
	}
}
