package caddyufc

import (
	"net/netip"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// warnExposed tells where other machines can use this agent as their own: they reach every service of the mesh there, as
// whoever they say they are.
func (a *App) warnExposed() {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return // there is no site
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		var handlers []string
		forPrograms(server.Routes, &handlers)
		open := slices.DeleteFunc(slices.Clone(server.Listen), onlyFromHere)
		if len(handlers) > 0 && len(open) > 0 {
			slices.Sort(handlers)
			a.logger.Warn("a site for the programs of this machine listens for other machines: whoever reaches it gets at every "+
				"service of the mesh; bind it to 127.0.0.1, or let only those in who may",
				"handlers", slices.Compact(handlers), "addresses", open)
		}
	}
}

// forPrograms adds the handlers in routes that are for programs of this machine. A gateway's, whose callee is fixed, aren't.
func forPrograms(routes caddyhttp.RouteList, handlers *[]string) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *caddyhttp.Subroute:
				forPrograms(handler.Routes, handlers)
			case *Bypass:
				*handlers = append(*handlers, "ufc_bypass")
			case *Handler:
				if handler.Service == "" {
					*handlers = append(*handlers, "ufc")
				}
			}
		}
	}
}

// onlyFromHere tells whether only programs of this machine reach an address that a server listens at.
func onlyFromHere(listen string) bool {
	address, err := caddy.ParseNetworkAddress(listen)
	if err != nil || address.IsUnixNetwork() || address.IsFdNetwork() || address.Host == "localhost" {
		return err == nil
	}
	ip, err := netip.ParseAddr(address.Host)
	return err == nil && ip.Unmap().IsLoopback()
}
