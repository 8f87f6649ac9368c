package caddyufc

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/bypass"
)

func init() { caddy.RegisterModule(new(Bypass)) }

// Bypass is the handler of bypass mode over HTTP: programs get backends' addresses, talk to these themselves, and call
// back with the result; with the token, the agent's memory can be queried. Give it a path matcher. A request that has the
// header `x-ufc-service-name` goes on to the next handler, since a callee may have the same path.
type Bypass struct {
	// What the header `token` of a query must say. Empty: queries are off. Prefer a placeholder such as {env.UFC_TOKEN}:
	// configurations are printed and stored. Default: empty.
	Token string `json:"token,omitempty"`

	// What a callback may name an instance by: "backend", its address, from programs of the same machine, as is needed for
	// instances that were found by DNS; or the "id" of a hand-out only. An id may always be named. Default: backend.
	CallbackBy string `json:"callback_by,omitempty"`

	handler http.Handler
	logger  *slog.Logger
	lines   *rate.Limiter
}

// CaddyModule returns the Caddy module information.
func (*Bypass) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.ufc_bypass", New: func() caddy.Module { return new(Bypass) }}
}

// Provision finds the mesh.
func (b *Bypass) Provision(ctx caddy.Context) error {
	b.logger, b.lines = ctx.Slogger(), rate.NewLimiter(1, 20)
	if err := replace(map[string]*string{"token": &b.Token}); err != nil {
		return err
	}
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	b.CallbackBy = cmp.Or(b.CallbackBy, bypass.ByBackend)
	if err := bypass.CheckCallbackBy(b.CallbackBy); err != nil {
		return fmt.Errorf("ufc_bypass: callback_by: %w", err)
	}
	b.handler = bypass.New(app.mesh.Agent, app.mesh.Query, bypass.Options{Token: b.Token, CallbackBy: b.CallbackBy})
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (b *Bypass) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if _, through := r.Header["X-Ufc-Service-Name"]; through {
		return next.ServeHTTP(w, r)
	}
	if _, secret := r.Header["Token"]; secret {
		b.hide(r)
	}
	b.handler.ServeHTTP(w, r)
	return nil
}

// hide keeps a request out of the access log, which would write the token down: Caddy leaves out only headers that it knows
// to be secret. So who asks is logged here.
func (b *Bypass) hide(r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	if b.lines.Allow() {
		b.logger.Info("request with a token", "remote", r.RemoteAddr, "method", r.Method, "uri", r.RequestURI)
	}
}

// parseBypass reads the directive:
//
//	ufc_bypass <path>|<matcher> {
//	    token <token>
//	    callback_by backend|id
//	}
func parseBypass(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	if matchers == nil {
		h.Next() // so that the error has a line
		return nil, h.Err("ufc_bypass needs the path to answer at, such as: ufc_bypass /bypass")
	}
	handler := new(Bypass)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, handler), nil
}

// UnmarshalCaddyfile reads the directive without its matcher.
func (b *Bypass) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return options(d, "ufc_bypass", nil, map[string]func(*caddyfile.Dispenser) error{
		"token": func(d *caddyfile.Dispenser) error { return arguments(d, "TOKEN", &b.Token) },
		"callback_by": func(d *caddyfile.Dispenser) error {
			if err := arguments(d, "backend|id", &b.CallbackBy); err != nil {
				return err
			}
			if err := bypass.CheckCallbackBy(b.CallbackBy); err != nil {
				return d.Errf("callback_by: %v", err)
			}
			return nil
		},
	})
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Bypass)(nil)
	_ caddyhttp.MiddlewareHandler = (*Bypass)(nil)
	_ caddyfile.Unmarshaler       = (*Bypass)(nil)
)
