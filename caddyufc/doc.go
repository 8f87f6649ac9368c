// Package caddyufc is UFC's face to Caddy. It parses, hands over and translates errors; what is decided is decided in
// the packages below shared.
//
//   - ufc, the app and the global option: attaches the process to a mesh.
//   - ufc, the handler directive: through mode.
//   - transport ufc, of reverse_proxy: through mode below reverse_proxy's own abilities.
//   - ufc_bypass, the handler directive: bypass mode over HTTP.
//   - caddy ufc, the command: reads and writes the mesh's documents.
//   - ufc/ADDRESS, the network: listeners whose reload drops no connection.
//
// The package is compiled into Caddy by importing it. The embedded etcd is a package of its own, embeddedetcd.
package caddyufc
