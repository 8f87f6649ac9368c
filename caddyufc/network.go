package caddyufc

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/ufc-mesh/ufc/caddyufc/internal/sharedsocket"
)

// The network ufc is listeners whose reload drops no connection:
//
//	bind ufc/127.0.0.1
//
// It is for HTTP/1.1 and HTTP/2 over TCP: with TLS, say so by "protocols h1 h2", since it can't listen for HTTP/3. What a
// client sends on an idle connection just while the old server closes that is lost as with any server; clients send it
// again.
func init() { caddy.RegisterNetwork("ufc", sharedsocket.Listen) }
