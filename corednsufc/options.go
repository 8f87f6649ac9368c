package corednsufc

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"

	"github.com/ufc-mesh/ufc/shared/bypass"
	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

const (
	// maxTTL is an hour. More would hide a ban from everybody who asked before it for longer than most bans last.
	maxTTL = 3600
	// maxAnswers is how many instances one answer may hold: more don't fit a UDP packet with their addresses, and a program
	// that wants all instances doesn't want a choice.
	maxAnswers = 16
)

// option is how one line of the block is read.
type option struct {
	usage    string // of the arguments
	min, max int    // how many there may be; max 0: any number
	repeat   bool
	parse    func(*config, *caddy.Controller, []string) error
}

// options are the lines of the block:
//
//	ufc {
//	    etcd ENDPOINT...
//	    prefix PREFIX
//	    credentials USER PASSWORD
//	    tls [CERT KEY] [CA]
//	    idc IDC
//	    client_idc CIDR IDC
//	    agent_id ID
//	    host NAME
//	    snapshot FILE
//	    follow all|used|SERVICE...
//	    protect PERCENT%
//	    callback HOST:PORT
//	    callback_by backend|id
//	    token TOKEN
//	    ttl SECONDS
//	    answers NUMBER
//	    fused refused|nxdomain|answer
//	    fallthrough [ZONES...]
//	}
var options = map[string]option{
	"etcd":        {usage: "ENDPOINT...", min: 1, parse: parseEtcd},
	"prefix":      {usage: "PREFIX", min: 1, max: 1, parse: parsePrefix},
	"credentials": {usage: "USER PASSWORD", min: 2, max: 2, parse: parseCredentials},
	"tls":         {usage: "[CERT KEY] [CA]", min: 1, max: 3, parse: parseTLS},
	"idc":         {usage: "IDC", min: 1, max: 1, parse: parseIDC},
	"client_idc":  {usage: "CIDR IDC", min: 2, max: 2, repeat: true, parse: parseClientIDC},
	"agent_id":    {usage: "ID", min: 1, max: 1, parse: parseAgentID},
	"host":        {usage: "NAME", min: 1, max: 1, parse: parseHost},
	"snapshot":    {usage: "FILE", min: 1, max: 1, parse: parseSnapshot},
	"follow":      {usage: "all|used|SERVICE...", min: 1, parse: parseFollow},
	"protect":     {usage: "PERCENT%", min: 1, max: 1, parse: parseProtect},
	"callback":    {usage: "HOST:PORT", min: 1, max: 1, parse: parseCallback},
	"callback_by": {usage: "backend|id", min: 1, max: 1, parse: parseCallbackBy},
	"token":       {usage: "TOKEN", min: 1, max: 1, parse: parseToken},
	"ttl":         {usage: "SECONDS", min: 1, max: 1, parse: parseTTL},
	"answers":     {usage: "NUMBER", min: 1, max: 1, parse: parseAnswers},
	"fused":       {usage: "refused|nxdomain|answer", min: 1, max: 1, parse: parseFused},
	"fallthrough": {usage: "[ZONES...]", parse: parseFallthrough},
}

func optionNames() []string {
	return slices.Sorted(maps.Keys(options))
}

func parseEtcd(cfg *config, _ *caddy.Controller, args []string) error {
	if args[0] == "embedded" {
		return errors.New("embedded: only the Caddy binary can hold an etcd; give the addresses of one")
	}
	cfg.mesh.Store.Endpoints = args
	return (&store.Config{Endpoints: slices.Clone(args)}).Validate()
}

func parsePrefix(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.mesh.Store.Prefix = args[0]
	if args[0] == "" {
		return errEmpty
	}
	return (&store.Config{Prefix: args[0]}).Validate()
}

func parseCredentials(cfg *config, _ *caddy.Controller, args []string) error {
	if args[0] == "" {
		return errEmpty
	}
	cfg.mesh.Store.Username, cfg.mesh.Store.Password = args[0], args[1]
	return (&store.Config{Username: args[0], Password: args[1]}).Validate()
}

// parseTLS takes what other plugins take too: the authority alone, the client's certificate alone, or both.
func parseTLS(cfg *config, c *caddy.Controller, args []string) error {
	for i, file := range args {
		if file == "" {
			return errEmpty
		}
		args[i] = inRoot(c, file)
	}
	s := &cfg.mesh.Store
	switch len(args) {
	case 1:
		s.CA = args[0]
	case 2:
		s.Cert, s.Key = args[0], args[1]
	case 3:
		s.Cert, s.Key, s.CA = args[0], args[1], args[2]
	}
	return nil
}

// inRoot returns a file's path as the root plugin wants relative ones.
func inRoot(c *caddy.Controller, file string) string {
	if root := dnsserver.GetConfig(c).Root; root != "" && !filepath.IsAbs(file) {
		return filepath.Join(root, file)
	}
	return file
}

func parseIDC(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.mesh.IDC = args[0]
	return model.CheckIDC(args[0])
}

func parseClientIDC(cfg *config, _ *caddy.Controller, args []string) error {
	network, err := netip.ParsePrefix(args[0])
	if err != nil {
		return fmt.Errorf("%q is not a network such as 10.1.0.0/16 or 2001:db8::/32", args[0])
	}
	if network != network.Masked() {
		return fmt.Errorf("%s has bits after its prefix: the network is %s", network, network.Masked())
	}
	for _, other := range cfg.clientIDC {
		if other.network == network {
			return fmt.Errorf("%s is %s already", network, other.idc)
		}
	}
	cfg.clientIDC = append(cfg.clientIDC, clientIDC{network, args[1]})
	return model.CheckIDC(args[1])
}

func parseAgentID(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.mesh.AgentID = args[0]
	return notEmpty(args[0])
}

func parseHost(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.mesh.Host = args[0]
	return notEmpty(args[0])
}

func parseSnapshot(cfg *config, c *caddy.Controller, args []string) error {
	cfg.mesh.Store.Snapshot = inRoot(c, args[0])
	return notEmpty(args[0])
}

func parseFollow(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.mesh.Follow = args
	return mesh.CheckFollow(args)
}

func parseProtect(cfg *config, _ *caddy.Controller, args []string) (err error) {
	cfg.mesh.Protect, err = mesh.ParseProtect(args[0])
	return err
}

func parseCallback(cfg *config, _ *caddy.Controller, args []string) error {
	host, port, err := net.SplitHostPort(args[0])
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT, such as 127.0.0.1:8889", args[0])
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Errorf("port %q is not between 1 and 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return fmt.Errorf("host %q is neither an IP address nor localhost", host)
	}
	cfg.callback = args[0]
	return nil
}

func parseCallbackBy(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.callbackBy = args[0]
	return bypass.CheckCallbackBy(args[0])
}

func parseToken(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.token = args[0] // empty, as from an unset variable of the environment: queries are off
	return nil
}

func parseTTL(cfg *config, _ *caddy.Controller, args []string) error {
	seconds, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil || seconds > maxTTL {
		return fmt.Errorf("%q is not a number of seconds between 0 and %d", args[0], maxTTL)
	}
	cfg.ttl = uint32(seconds)
	return nil
}

func parseAnswers(cfg *config, _ *caddy.Controller, args []string) error {
	number, err := strconv.Atoi(args[0])
	if err != nil || number < 1 || number > maxAnswers {
		return fmt.Errorf("%q is not a number between 1 and %d", args[0], maxAnswers)
	}
	cfg.answers = number
	return nil
}

func parseFused(cfg *config, _ *caddy.Controller, args []string) error {
	cfg.fused = args[0]
	if !slices.Contains([]string{fusedRefused, fusedNXDomain, fusedAnswer}, args[0]) {
		return fmt.Errorf("%q is not refused, nxdomain or answer", args[0])
	}
	return nil
}

func parseFallthrough(cfg *config, _ *caddy.Controller, args []string) error {
	for _, arg := range args {
		if plugin.Host(arg).NormalizeExact() == nil {
			return fmt.Errorf("%q is not a zone", arg)
		}
	}
	cfg.fall.SetZonesFromArgs(args)
	return nil
}

var errEmpty = errors.New("must not be empty")

func notEmpty(value string) error {
	if value == "" {
		return errEmpty
	}
	return nil
}
