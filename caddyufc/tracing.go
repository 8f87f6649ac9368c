package caddyufc

import (
	"context"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

// tracerName says in a trace where the spans come from.
const tracerName = "github.com/ufc-mesh/ufc/caddyufc"

// attemptTracer makes each attempt of a request that the directive `tracing` follows a span of its own, below the
// request's, and tells the instance of it, so that the instance's spans hang below the attempt that reached it.
type attemptTracer struct {
	propagator propagation.TextMapPropagator // writes the headers
}

// trace is a forwarder's Trace.
func (t attemptTracer) trace(ctx context.Context, call *agent.Call, attempt *agent.Attempt, header http.Header) (context.Context, func(agent.Outcome)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() { // not followed; what its headers say of a trace passes as it is
		return ctx, nil
	}
	tracer := parent.TracerProvider().Tracer(tracerName, trace.WithSchemaURL(semconv.SchemaURL))
	ctx, span := tracer.Start(ctx, call.Callee, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attemptAttributes(call, attempt)...))
	t.propagator.Inject(ctx, propagation.HeaderCarrier(header))
	return ctx, func(outcome agent.Outcome) { endSpan(span, outcome) }
}

// attemptAttributes names what is known before the attempt, by OpenTelemetry's conventions for HTTP clients where they
// have a name.
func attemptAttributes(call *agent.Call, attempt *agent.Attempt) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		semconv.ServerAddress(attempt.Address().Addr().String()), semconv.ServerPort(int(attempt.Address().Port())),
		attribute.String("ufc.callee", call.Callee),
	}
	if call.Caller != "" {
		attributes = append(attributes, attribute.String("ufc.caller", call.Caller))
	}
	if attempt.IDC != "" {
		attributes = append(attributes, attribute.String("ufc.idc", attempt.IDC))
	}
	if attempt.Number > 0 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(attempt.Number))
	}
	if attempt.Hedge {
		attributes = append(attributes, attribute.Bool("ufc.hedge", true))
	}
	return attributes
}

// endSpan ends the span of an attempt. An attempt that was canceled, as the slower one of a hedge, has not failed.
func endSpan(span trace.Span, outcome agent.Outcome) {
	result := outcome.Result.String()
	span.SetAttributes(attribute.String("ufc.result", result))
	if outcome.Code != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(outcome.Code))
	}
	switch {
	case outcome.Result.Failure():
		span.SetAttributes(semconv.ErrorTypeKey.String(result))
		span.SetStatus(codes.Error, result)
	case outcome.Result == health.OK && outcome.Code >= http.StatusBadRequest: // for clients, 4xx are errors by convention, too
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(outcome.Code)))
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
