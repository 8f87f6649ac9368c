package caddyufc

import (
	"context"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/trace"
)

// TestUntracedIsFree gives what would need a call none.
func TestUntracedIsFree(t *testing.T) {
	header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}}
	unsampled := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1},
	}))
	for _, ctx := range []context.Context{t.Context(), unsampled} {
		if got, end := (attemptTracer{}).trace(ctx, nil, nil, header); got != ctx || end != nil {
			t.Errorf("%v is traced", ctx)
		}
	}
}

// BenchmarkUntraced is what each attempt pays where `tracing` isn't in use, with a context as deep as Caddy's.
func BenchmarkUntraced(b *testing.B) {
	ctx := b.Context()
	for n := range 10 {
		ctx = context.WithValue(ctx, caddy.CtxKey(rune('a'+n)), n)
	}
	tracer := attemptTracer{autoprop.NewTextMapPropagator()}
	b.ReportAllocs()
	for b.Loop() {
		tracer.trace(ctx, nil, nil, nil)
	}
}
