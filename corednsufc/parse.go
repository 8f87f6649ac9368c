package corednsufc

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"

	"github.com/ufc-mesh/ufc/shared/bypass"
	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/store"
)

// config is one ufc block of the Corefile, validated.
type config struct {
	where string // file:line, for messages about two blocks

	zones      []zone // of the server block
	mesh       mesh.Config
	clientIDC  []clientIDC // the longest prefix first
	callback   string      // host:port of the callback listener. Empty: none
	callbackBy string      // what callbacks there may name an instance by
	token      string      // of debug queries there. Empty: they are off
	ttl        uint32      // of every record, in seconds
	answers    int         // instances to an answer
	fused      string      // what questions get that the fuse, or the service's drop, refuses
	fall       fall.F

	given      map[string]int // the line of each option that was given
	unexported bool           // another block's mesh has the metrics
}

// clientIDC is the physical IDC of the clients in a network.
type clientIDC struct {
	network netip.Prefix
	idc     string
}

// The values of fused.
const (
	fusedRefused  = "refused"
	fusedNXDomain = "nxdomain"
	fusedAnswer   = "answer"
)

// parse reads a server block's ufc block. Its errors name file and line.
func parse(c *caddy.Controller) (*config, error) {
	c.Next() // ufc
	cfg := &config{
		where:      fmt.Sprintf("%s:%d", c.File(), c.Line()),
		mesh:       mesh.Config{Face: "coredns", Store: store.Config{Logger: slog.New(newLogHandler())}},
		callbackBy: bypass.ByBackend,
		answers:    1,
		fused:      fusedRefused,
		given:      map[string]int{},
	}
	for _, origin := range plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys) {
		cfg.zones = append(cfg.zones, newZone(origin))
	}
	if args := c.RemainingArgs(); len(args) > 0 {
		return nil, c.Errf("ufc %q: no argument is allowed: the zones are the server block's", strings.Join(args, " "))
	}
	for c.NextBlock() {
		if err := cfg.parseOption(c); err != nil {
			return nil, err
		}
	}
	if c.Next() {
		return nil, c.Errf("ufc: only one is allowed in a server block")
	}
	if err := cfg.mesh.Store.Validate(); err != nil { // of the options together
		return nil, fmt.Errorf("%s - Error during parsing: %w", cfg.where, err)
	}
	slices.SortStableFunc(cfg.clientIDC, func(a, b clientIDC) int { return cmp.Compare(b.network.Bits(), a.network.Bits()) })
	return cfg, nil
}

func (cfg *config) parseOption(c *caddy.Controller) error {
	name := c.Val()
	option, known := options[name]
	if !known {
		return c.Errf("unknown option %q: ufc knows %s", name, strings.Join(optionNames(), ", "))
	}
	if line, repeated := cfg.given[name]; repeated && !option.repeat {
		return c.Errf("%s: given twice, first on line %d", name, line)
	}
	cfg.given[name] = c.Line()
	args := c.RemainingArgs()
	// The arguments may be secrets: errors show what the option's own parser quotes, and no more.
	if len(args) < option.min || (option.max > 0 && len(args) > option.max) {
		return c.Errf("%s: has %d arguments: must be %s %s", name, len(args), name, option.usage)
	}
	if err := option.parse(cfg, c, args); err != nil {
		return c.Errf("%s: %v", name, err)
	}
	return nil
}
