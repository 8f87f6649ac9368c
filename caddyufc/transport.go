package caddyufc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/forward"
	"github.com/ufc-mesh/ufc/shared/model"
)

func init() { caddy.RegisterModule(new(Transport)) }

// Transport puts UFC below `reverse_proxy`, for its own abilities: header operations, response handling, buffering. UFC
// chooses the instance, retries, and bans; the upstream's address, such as ufc:80, is a name that is never dialed.
// Leave `reverse_proxy`'s load balancing and health checks alone: they would see one upstream.
//
// What UFC itself answers (unknown service, no instance, no connection) is a response with the header `x-ufc-error`, not
// an error: `handle_response` sees it and `handle_errors` doesn't, and `reverse_proxy` doesn't try again what was tried
// already.
type Transport struct {
	// The callee. Required. Placeholders are replaced when the configuration is loaded.
	Service string `json:"service"`

	// The caller that requests count as. Default: unknown. Placeholders are replaced when the configuration is loaded.
	From string `json:"from,omitempty"`

	agent     *agent.Agent
	forwarder *forward.Forwarder
}

// CaddyModule returns the Caddy module information.
func (*Transport) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.ufc", New: func() caddy.Module { return new(Transport) }}
}

// Provision finds the mesh.
func (t *Transport) Provision(ctx caddy.Context) error {
	if err := replace(map[string]*string{"service": &t.Service, "from": &t.From}); err != nil {
		return err
	}
	if t.Service == "" {
		return errors.New("service: the callee is missing")
	}
	if err := checkNames(t.Service, t.From); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	t.agent, t.forwarder = app.mesh.Agent, app.shared.forwarder
	return nil
}

// checkNames checks the names of a callee and a caller where they are given.
func checkNames(names ...string) error {
	for _, name := range names {
		if name != "" {
			if err := model.CheckName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	call := &agent.Call{
		Callee: t.Service, Caller: t.From, Class: agent.DefaultClass, Attributes: forward.AttributesOf(req),
	}
	resp, err := t.forward(req, call)
	if refusal, ok := errors.AsType[*agent.Refusal](err); ok {
		call.End(refusal.Status())
		logCall(req, call, refusal)
		return answer(req, refusal), nil
	}
	if err != nil {
		call.End(statusOf(err))
		logCall(req, call, nil)
		return nil, bodyError(err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		logTunnel(req, call) // which ends on another goroutine, maybe while the entry is being written
	}
	return resp, nil
}

func (t *Transport) forward(req *http.Request, call *agent.Call) (*http.Response, error) {
	if err := t.agent.Begin(call); err != nil {
		return nil, err
	}
	return t.forwarder.RoundTrip(req, call, func(resp *http.Response) {
		call.End(resp.StatusCode)
		if resp.StatusCode != http.StatusSwitchingProtocols {
			logCall(req, call, nil)
		}
	})
}

// statusOf is what reverse_proxy answers to an error of the request itself.
func statusOf(err error) int {
	if broken, ok := errors.AsType[*forward.RequestBodyError](err); ok {
		return broken.Status()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return forward.StatusClientGone
}

// answer turns a refusal into a response.
func answer(req *http.Request, refusal *agent.Refusal) *http.Response {
	recorded := &recorder{header: http.Header{}}
	refusal.ServeHTTP(recorded, req)
	return &http.Response{
		Status: http.StatusText(recorded.status), StatusCode: recorded.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: recorded.header, Body: io.NopCloser(&recorded.body), ContentLength: int64(recorded.body.Len()), Request: req,
	}
}

// recorder is an http.ResponseWriter that keeps the response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }

// UnmarshalCaddyfile reads the transport:
//
//	transport ufc {
//	    service <service>
//	    from <caller>
//	}
func (t *Transport) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	err := options(d, "transport ufc", nil, map[string]func(*caddyfile.Dispenser) error{
		"service": nameOption("SERVICE", &t.Service), "from": nameOption("CALLER", &t.From),
	})
	if err == nil && t.Service == "" {
		return d.Err("transport ufc: the option service is missing")
	}
	return err
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Transport)(nil)
	_ http.RoundTripper     = (*Transport)(nil)
	_ caddyfile.Unmarshaler = (*Transport)(nil)
)
