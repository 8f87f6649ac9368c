package caddyufc

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/ufc-mesh/ufc/shared/forward"
	"github.com/ufc-mesh/ufc/shared/model"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler is the handler of through mode: it sends each request to an instance of its callee. Without a service, programs
// on this machine name the callee in the header `x-ufc-service-name`; bind such a site to loopback. With one, Caddy is a
// gateway to that callee, and a client's own `x-ufc-*` headers are removed.
//
// Hop-by-hop headers, `X-Forwarded-*` and `Via` are as `reverse_proxy` has them, and so is whom to trust with them:
// `trusted_proxies` of the server.
type Handler struct {
	// The callee of all requests. Default: what each request's `x-ufc-service-name` says. Placeholders are replaced when
	// the configuration is loaded.
	Service string `json:"service,omitempty"`

	// The caller that requests count as, whatever their `x-ufc-self-service-name` says. Default: what that says, or
	// unknown with a fixed callee. Placeholders are replaced when the configuration is loaded.
	From string `json:"from,omitempty"`

	// Name the instance in the response's header `x-ufc-backend`. Leave it off where strangers see responses: it shows
	// addresses of your network. Default: off.
	Debug bool `json:"debug,omitempty"`

	proxy *forward.Proxy
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.ufc", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the mesh.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := replace(map[string]*string{"service": &h.Service, "from": &h.From}); err != nil {
		return err
	}
	if err := checkNames(h.Service, h.From); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	h.proxy = &forward.Proxy{
		Forwarder: app.shared.forwarder, Service: h.Service, From: h.From, Debug: h.Debug, Trusted: isTrusted,
		Via:   "Caddy", // as reverse_proxy
		Ended: logCall,
	}
	return nil
}

// isTrusted tells whether the server trusts the peer to say for whom it forwards.
func isTrusted(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	return bodyError(h.proxy.ServeHTTP(w, r))
}

// bodyError gives the error of a client's body its status, and leaves others as they are.
func bodyError(err error) error {
	if broken, ok := errors.AsType[*forward.RequestBodyError](err); ok {
		return caddyhttp.Error(broken.Status(), err)
	}
	return err
}

// parseHandler reads the directive:
//
//	ufc [<matcher>] [<service>] {
//	    from <caller>
//	    debug
//	}
func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive without its matcher.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	service := func(d *caddyfile.Dispenser) error {
		if !d.NextArg() {
			return nil
		}
		h.Service = d.Val()
		return check(d, h.Service, func() error { return model.CheckName(h.Service) })
	}
	return options(d, "ufc", service, map[string]func(*caddyfile.Dispenser) error{
		"from":  nameOption("CALLER", &h.From),
		"debug": func(*caddyfile.Dispenser) error { h.Debug = true; return nil },
	})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddyfile.Unmarshaler       = (*Handler)(nil)
)
