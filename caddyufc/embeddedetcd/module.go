package embeddedetcd

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/ufc-mesh/ufc/caddyufc"
)

func init() { caddy.RegisterModule(new(Server)) }

// DefaultAddress is where clients reach the server unless the configuration says otherwise.
const DefaultAddress = "127.0.0.1:2379"

// Server runs etcd within the Caddy process: a cluster of one member without a listener for peers. It outlives a reload
// of the configuration as long as the directory and the address stay the same; its data outlive the process.
//
// It has neither users nor TLS. Whoever reaches its address may change the mesh, so leave it on loopback.
type Server struct {
	// Where etcd keeps its data; made if missing, relative to the working directory. Required. Placeholders are replaced.
	Dir string `json:"dir"`

	// The IP address and port where clients reach it. A directory may change its address from one start of the process
	// to the next, but not at a reload. Default: 127.0.0.1:2379. Placeholders are replaced.
	Address string `json:"address,omitempty"`

	address netip.AddrPort
	opened  bool
}

// CaddyModule returns the Caddy module information.
func (*Server) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "ufc.etcd.embedded", New: func() caddy.Module { return new(Server) }}
}

// Provision checks the configuration and touches nothing, so that validating one is free of side effects.
func (s *Server) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	for _, field := range []struct {
		name  string
		value *string
	}{{"dir", &s.Dir}, {"address", &s.Address}} {
		replaced, err := repl.ReplaceOrErr(*field.value, true, true)
		if err != nil {
			return fmt.Errorf("embedded etcd: %s: %w", field.name, err)
		}
		*field.value = replaced
	}
	if s.Dir == "" {
		return fmt.Errorf("embedded etcd: dir is missing")
	}
	var err error
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return fmt.Errorf("embedded etcd: dir: %w", err)
	}
	s.address, err = parseAddress(s.Address)
	return err
}

// parseAddress reads IP:port, or localhost:port.
func parseAddress(address string) (netip.AddrPort, error) {
	if address == "" {
		address = DefaultAddress
	}
	text := address
	if host, port, err := net.SplitHostPort(address); err == nil && host == "localhost" {
		text = "127.0.0.1:" + port
	}
	parsed, err := netip.ParseAddrPort(text)
	if err != nil || parsed.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("embedded etcd: address: %q is not IP:port with a port of 1–65535", address)
	}
	return parsed, nil
}

// Endpoint returns the URL where this process reaches the server.
func (s *Server) Endpoint() string {
	host := s.address.Addr()
	switch {
	case host.IsUnspecified() && host.Is4():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host.IsUnspecified():
		host = netip.IPv6Loopback()
	}
	return "http://" + netip.AddrPortFrom(host, s.address.Port()).String()
}

// UnmarshalCaddyfile reads what follows "etcd" in the global option:
//
//	embedded <dir> [<address>]
func (s *Server) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.NextArg() {
		return d.Err("etcd embedded needs a directory: etcd embedded DIR [ADDRESS]")
	}
	s.Dir = d.Val()
	if d.NextArg() {
		s.Address = d.Val()
		if !strings.Contains(s.Address, "{") { // a placeholder is known at Provision only
			if _, err := parseAddress(s.Address); err != nil {
				return d.WrapErr(err)
			}
		}
	}
	if d.NextArg() {
		return d.Errf("etcd embedded takes a directory and an address; unexpected %q", d.Val())
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("etcd embedded takes no block; unexpected %q", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Server)(nil)
	_ caddyfile.Unmarshaler = (*Server)(nil)
	_ caddyufc.EtcdServer   = (*Server)(nil)
)
