// Command caddy is Caddy with its standard modules and UFC's through mode, with an etcd that it can run in its own
// process. A build without etcd's server leaves out the import of embeddedetcd.
package main

import (
	_ "time/tzdata" // containers often have no time zones

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/ufc-mesh/ufc/caddyufc"
	_ "github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
)

func main() { caddycmd.Main() }
