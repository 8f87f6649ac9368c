package caddyufc_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	v1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// receiver is an OTLP receiver, as OpenTelemetry's collector is.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracepb.Span
}

// Export implements collector.TraceServiceServer.
func (r *receiver) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// receive starts a receiver, and sets the environment so that `tracing` sends to it.
func receive(t *testing.T) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, server := new(receiver), grpc.NewServer()
	collector.RegisterTraceServiceServer(server, r)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"+listener.Addr().String())
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	return r
}

// ended stops Caddy, which sends what spans are left, and returns them in the order in which they began.
func (r *receiver) ended(t *testing.T) []*tracepb.Span {
	t.Helper()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortFunc(r.spans, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return r.spans
}

// describe is a span's name, kind, status and attributes, those of the server's span aside.
func describe(span *tracepb.Span) string {
	text := fmt.Sprintf("%s %s %s", span.Name, span.Kind, span.Status.GetCode())
	attributes := map[string]*v1.AnyValue{}
	for _, attribute := range span.Attributes {
		attributes[attribute.Key] = attribute.Value
	}
	for _, key := range []string{
		"server.address", "http.request.resend_count", "http.response.status_code", "error.type",
		"ufc.callee", "ufc.caller", "ufc.idc", "ufc.hedge", "ufc.result",
	} {
		switch value := attributes[key].GetValue().(type) {
		case *v1.AnyValue_StringValue:
			text += fmt.Sprintf(" %s=%s", key, value.StringValue)
		case *v1.AnyValue_IntValue:
			text += fmt.Sprintf(" %s=%d", key, value.IntValue)
		case *v1.AnyValue_BoolValue:
			text += fmt.Sprintf(" %s=%t", key, value.BoolValue)
		}
	}
	return text
}

func portOf(span *tracepb.Span) string {
	for _, attribute := range span.Attributes {
		if attribute.Key == "server.port" {
			return fmt.Sprint(attribute.Value.GetIntValue())
		}
	}
	return ""
}

func TestTracing(t *testing.T) {
	for name, directive := range map[string]string{
		"handler":   "ufc web {\n\t\tfrom edge\n\t}",
		"transport": "reverse_proxy ufc:80 {\n\t\ttransport ufc {\n\t\t\tservice web\n\t\t\tfrom edge\n\t\t}\n\t}",
	} {
		t.Run(name, func(t *testing.T) { traceRetry(t, directive) })
	}
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

// traceRetry makes a call whose first instance refuses the connection.
func traceRetry(t *testing.T, directive string) {
	spans, prefix, agent := receive(t), newPrefix(), freeAddress(t)
	seen := make(chan http.Header, 1)
	dead, live := freeAddress(t), backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.WriteHeader(http.StatusNotFound)
	})
	// The dead one has nearly all of the weight: the first attempt is on it.
	apply(t, prefix, fmt.Sprintf("kind: Instances\nservice: web\ninstances: [{address: %q, idc: bj-a, weight: 10000}, {address: %q, idc: bj-b, weight: 1}]\n", dead, live))
	load(t, ufcOption(prefix, ""), site(agent, "tracing {\n\t\tspan request\n\t}\n\t"+directive))
	eventually(t, func() error {
		if answer := ask(t, "GET", "http://"+agent, "", "traceparent: 00-"+traceID+"-"+spanID+"-01", "tracestate: v=1", "baggage: k=v",
			"x-ufc-trace-id: mine"); answer.StatusCode != http.StatusNotFound {
			return fmt.Errorf("answered %s", answer.Status)
		}
		return nil
	})
	var family []*tracepb.Span
	for _, span := range spans.ended(t) {
		if hex.EncodeToString(span.TraceId) == traceID {
			family = append(family, span)
		}
	}
	if len(family) < 3 {
		t.Fatalf("%d spans: %v", len(family), family)
	}
	family = family[len(family)-3:] // before them are requests that came before etcd's answer
	request, first, second := family[0], family[1], family[2]
	f := func(span *tracepb.Span, parent, want string) {
		t.Helper()
		if got := describe(span); got != want || hex.EncodeToString(span.ParentSpanId) != parent {
			t.Errorf("below %x: %s\nwant below %s: %s", span.ParentSpanId, got, parent, want)
		}
	}
	f(request, spanID, "request SPAN_KIND_SERVER STATUS_CODE_UNSET server.address=127.0.0.1 http.response.status_code=404")
	parent := hex.EncodeToString(request.SpanId)
	f(first, parent, "web SPAN_KIND_CLIENT STATUS_CODE_ERROR server.address=127.0.0.1 error.type=connect_error "+
		"ufc.callee=web ufc.caller=edge ufc.idc=bj-a ufc.result=connect_error")
	f(second, parent, "web SPAN_KIND_CLIENT STATUS_CODE_ERROR server.address=127.0.0.1 http.request.resend_count=1 "+
		"http.response.status_code=404 error.type=404 ufc.callee=web ufc.caller=edge ufc.idc=bj-b ufc.result=ok")
	if portOf(first) != port(dead) || portOf(second) != port(live) {
		t.Errorf("ports %s and %s, not those of %s and %s", portOf(first), portOf(second), dead, live)
	}
	got := <-seen
	if want := fmt.Sprintf("00-%s-%x-01", traceID, second.SpanId); !strings.EqualFold(got.Get("Traceparent"), want) ||
		got.Get("Tracestate") != "v=1" || got.Get("Baggage") != "k=v" {
		t.Errorf("the instance got %v, not the traceparent %s", got, want)
	}
}

// TestTracingHedge checks that the slower one of two attempts has not failed.
func TestTracingHedge(t *testing.T) {
	spans, prefix, agent, log := receive(t), newPrefix(), freeAddress(t), filepath.Join(t.TempDir(), "access.log")
	instance := func(slow bool) string {
		return backend(t, func(_ http.ResponseWriter, r *http.Request) {
			if slow && r.URL.Path == "/slow" {
				<-r.Context().Done()
			}
		})
	}
	slow, quick := instance(true), instance(false)
	apply(t, prefix, "kind: Service\nname: web\nhedge: {percentile: 0.9, budget: 0.5}\n"+instances("web", slow, quick))
	load(t, ufcOption(prefix, "")+logTo(log), site(agent, "log\n\ttracing\n\tufc web"))
	answers(t, "http://"+agent, http.StatusOK)
	for range 40 { // until enough is known of the latency
		ask(t, "GET", "http://"+agent, "")
	}
	const headers = "traceparent: 00-" + traceID + "-" + spanID + "-01"
	for range 8 { // one half is hedged
		if answer := ask(t, "GET", "http://"+agent+"/slow", "", headers); answer.StatusCode != http.StatusOK {
			t.Errorf("answered %s", answer.Status)
		}
	}
	entries, lost, won := accessLog(t, log), 0, 0
	for _, span := range spans.ended(t) {
		switch describe(span) {
		case "web SPAN_KIND_CLIENT STATUS_CODE_UNSET server.address=127.0.0.1 ufc.callee=web ufc.result=canceled":
			lost++
		case "web SPAN_KIND_CLIENT STATUS_CODE_UNSET server.address=127.0.0.1 http.request.resend_count=1 " +
			"http.response.status_code=200 ufc.callee=web ufc.hedge=true ufc.result=ok":
			won++
		}
	}
	logged, names := 0, map[string]string{slow: "SLOW", quick: "QUICK"}
	for _, entry := range entries["/slow"] {
		if entry.named(names) == "200 >web@ route - [SLOW@ canceled 0] [QUICK@ ok 200 hedge] by QUICK@" {
			logged++
		}
	}
	// On a busy machine the quick one may be late too, and then it is hedged by the slow one: not all are alike.
	if won == 0 || lost == 0 || logged == 0 {
		t.Errorf("%d attempts lost, %d won, %d log entries tell of it", lost, won, logged)
	}
}

// TestTraceHeadersPass checks that, without `tracing`, what a program says of its trace reaches the callee.
func TestTraceHeadersPass(t *testing.T) {
	prefix, agent := newPrefix(), freeAddress(t)
	seen := make(chan http.Header, 10)
	apply(t, prefix, instances("web", backend(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })))
	load(t, ufcOption(prefix, ""), site(agent, "ufc"))
	headers := map[string]string{
		"Traceparent": "00-" + traceID + "-" + spanID + "-01", "Tracestate": "v=1,w=2", "Baggage": "k=v", "X-Ufc-Trace-Id": "mine",
		"X-Ufc-Trace-Span": "7",
	}
	sent := []string{"x-ufc-service-name: web"}
	for name, value := range headers {
		sent = append(sent, name+": "+value)
	}
	answers(t, "http://"+agent, http.StatusOK, sent...)
	got := <-seen
	for name, value := range headers {
		if values := got[name]; len(values) != 1 || values[0] != value {
			t.Errorf("%s: %v, not %s", name, values, value)
		}
	}
}
