package corednsufc

import (
	"fmt"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

// pluginName is the directive in the Corefile.
const pluginName = "ufc"

func init() { plugin.Register(pluginName, setup) }

// setup reads one server block's ufc. It takes nothing: a setup that turns out to be for a Corefile with a mistake further
// down is forgotten without a word. What is needed is taken when the server starts.
func setup(c *caddy.Controller) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	u := &UFC{config: cfg}
	g := generationOf(c)
	if err := g.add(u); err != nil {
		return plugin.Error(pluginName, fmt.Errorf("%s - Error during parsing: %w", cfg.where, err))
	}
	c.OnStartup(func() error {
		u.canWriteRaw.Store(canWriteRaw(c))
		return g.start(u)
	})
	c.OnRestartFailed(u.restore)
	c.OnShutdown(func() error { g.end(u); return nil })

	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		u.Next = next
		return u
	})
	return nil
}
