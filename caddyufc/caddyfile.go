package caddyufc

import (
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("ufc", parseGlobalOption)
	// Within one place the first registered stays first, and ufc_bypass must: ufc answers every request.
	httpcaddyfile.RegisterHandlerDirective("ufc", parseHandler)
	httpcaddyfile.RegisterDirective("ufc_bypass", parseBypass)
	httpcaddyfile.RegisterDirectiveOrder("ufc_bypass", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("ufc", httpcaddyfile.Before, "reverse_proxy")
}

// parseGlobalOption reads the global option:
//
//	ufc {
//	    etcd <endpoint...> | embedded <dir> [<address>]
//	    prefix <prefix>
//	    credentials <user> <password>
//	    tls <cert> <key> <ca>
//	    idc <idc>
//	    agent_id <name>
//	    snapshot <file>
//	    follow all|used|<service...>
//	    protect <percent>
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next() // so that the error has a line
		return nil, d.Err("the global option ufc is given twice")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "ufc", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the global option.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return options(d, "ufc", nil, map[string]func(*caddyfile.Dispenser) error{
		"etcd": a.Etcd.unmarshalCaddyfile,
		"credentials": func(d *caddyfile.Dispenser) error {
			return arguments(d, "USER PASSWORD", &a.Etcd.Username, &a.Etcd.Password)
		},
		"tls": func(d *caddyfile.Dispenser) error {
			a.Etcd.TLS = new(EtcdTLS)
			return arguments(d, "CERT KEY CA", &a.Etcd.TLS.Certificate, &a.Etcd.TLS.Key, &a.Etcd.TLS.CA)
		},
		"prefix": func(d *caddyfile.Dispenser) error {
			if err := arguments(d, "PREFIX", &a.Prefix); err != nil {
				return err
			}
			return check(d, a.Prefix, func() error { return (&store.Config{Prefix: a.Prefix}).Validate() })
		},
		"idc": func(d *caddyfile.Dispenser) error {
			if err := arguments(d, "IDC", &a.IDC); err != nil {
				return err
			}
			if a.IDC == "" { // as from an unset variable of the environment: unknown
				return nil
			}
			return check(d, a.IDC, func() error { return inOption("idc", model.CheckIDC(a.IDC)) })
		},
		"agent_id": func(d *caddyfile.Dispenser) error { return arguments(d, "NAME", &a.AgentID) },
		"snapshot": func(d *caddyfile.Dispenser) error { return arguments(d, "FILE", &a.Snapshot) },
		"follow": func(d *caddyfile.Dispenser) error {
			if a.Follow = d.RemainingArgs(); len(a.Follow) == 0 {
				return d.Err("follow needs all, used, or names of services")
			}
			return check(d, strings.Join(a.Follow, ""), func() error {
				return inOption("follow", mesh.CheckFollow(a.Follow))
			})
		},
		"protect": func(d *caddyfile.Dispenser) (err error) {
			var percent string
			if err := arguments(d, "PERCENT", &percent); err != nil {
				return err
			}
			if a.Protect, err = mesh.ParseProtect(percent); err != nil {
				return d.WrapErr(inOption("protect", err))
			}
			return nil
		},
	})
}

// unmarshalCaddyfile reads the arguments of the option etcd.
func (e *Etcd) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("etcd needs endpoints, such as http://127.0.0.1:2379, or: embedded DIR [ADDRESS]")
	}
	if d.Val() == "embedded" {
		if _, err := caddy.GetModule(embeddedModule); err != nil {
			return d.WrapErr(errNoEmbedded)
		}
		server, err := caddyfile.UnmarshalModule(d, embeddedModule)
		if err != nil {
			return err
		}
		e.ServerRaw = caddyconfig.JSONModuleObject(server, "module", "embedded", nil)
		return nil
	}
	for more := true; more; more = d.NextArg() {
		endpoint := d.Val()
		e.Endpoints = append(e.Endpoints, endpoint)
		validate := func() error { return (&store.Config{Endpoints: []string{endpoint}}).Validate() }
		if err := check(d, endpoint, validate); err != nil {
			return err
		}
	}
	return nil
}

// options reads a directive: positional, which is nil where the directive takes no arguments, gets those on the
// directive's own line; each line of the block is an option, given at most once. The cursor is before the directive.
func options(d *caddyfile.Dispenser, directive string, positional func(*caddyfile.Dispenser) error,
	known map[string]func(*caddyfile.Dispenser) error,
) error {
	d.Next()
	if positional != nil {
		if err := positional(d); err != nil {
			return err
		}
	}
	if d.NextArg() {
		return d.Errf("%s: unexpected argument %q", directive, d.Val())
	}
	given := map[string]int{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		parse := known[name]
		if parse == nil {
			return d.Errf("%s: unknown option %q", directive, name)
		}
		if line := given[name]; line != 0 {
			return d.Errf("%s: option %q was given in line %d already", directive, name, line)
		}
		given[name] = d.Line()
		if err := parse(d); err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("%s: option %q: unexpected argument %q", directive, name, d.Val())
		}
		if inner := d.Nesting(); d.NextBlock(inner) {
			return d.Errf("%s: option %q takes no block", directive, name)
		}
	}
	return nil
}

// arguments reads exactly the arguments that usage names.
func arguments(d *caddyfile.Dispenser, usage string, targets ...*string) error {
	name := d.Val()
	if !d.AllArgs(targets...) {
		return d.Errf("usage: %s %s", name, usage)
	}
	return nil
}

// nameOption reads an option whose argument is the name of a callee or a caller.
func nameOption(usage string, name *string) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if err := arguments(d, usage, name); err != nil {
			return err
		}
		return check(d, *name, func() error { return model.CheckName(*name) })
	}
}

// inOption adds the option's name to an error.
func inOption(name string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// check validates a value, unless it has placeholders, whose values are known only when the configuration is loaded.
func check(d *caddyfile.Dispenser, value string, validate func() error) error {
	if strings.Contains(value, "{") {
		return nil
	}
	if err := validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*App)(nil)
