// Command coredns is CoreDNS with UFC's bypass mode and the few plugins that a server of service names needs. A Corefile
// may use {$NAME:default} here, as a Caddyfile may.
package main

import (
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/acl"
	_ "github.com/coredns/coredns/plugin/any"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/bufsize"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/debug"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/tls"
	_ "github.com/coredns/coredns/plugin/whoami"

	_ "github.com/ufc-mesh/ufc/corednsufc"
)

// version is UFC's, set by the linker.
var version = "dev"

// plugins is the order in which a query passes the plugins of a server block, whatever their order in the Corefile.
// It is CoreDNS's own, shortened. ufc stands before cache, which would raise its TTL of 0 to 5 s and serve one client's
// instance to all; what ufc lets fall through is still cached.
var plugins = []string{
	"metadata", "reload", "bufsize", "bind", "debug", "ready", "health", "prometheus", "errors", "log", "any", "acl",
	"ufc",
	"cache", "tls", "template", "hosts", "file", "forward", "whoami",
}

func main() {
	dnsserver.Directives = plugins
	caddy.AppVersion = coremain.CoreVersion + "+ufc." + version
	useCorefileDefaults()
	coremain.Run()
}
