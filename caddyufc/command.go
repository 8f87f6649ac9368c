package caddyufc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "ufc",
		Usage: "<command>",
		Short: "Reads and writes the documents of the service mesh",
		Long: `
Reads and writes the documents of the service mesh (Service, Instances,
Topology), bans of instances and confirmations of removals, which are in etcd.
Agents follow them within a second.

A file holds YAML or JSON, several documents if need be; - is the standard
input, and a directory stands for its *.yaml, *.yml and *.json files.`,
		CobraFunc: addCommands,
	})
}

// The environment's defaults for flags.
const (
	envEtcd     = "UFC_ETCD"          // --etcd
	envUser     = "UFC_ETCD_USER"     // --user
	envPassword = "UFC_ETCD_PASSWORD" // of a user without one; arguments are seen by whoever lists processes
)

// command is one run of a subcommand.
type command struct {
	in       io.Reader
	out      io.Writer // what was asked for
	problems io.Writer // what went wrong, one on a line

	endpoints     []string
	prefix        string
	user          string
	cert, key, ca string
}

// addCommands makes cmd the parent of all subcommands.
func addCommands(cmd *cobra.Command) {
	c := new(command)
	flags := cmd.PersistentFlags()
	flags.StringSliceVar(&c.endpoints, "etcd", nil,
		"etcd's endpoints, the first that works is used; repeat it or separate by commas (default $"+envEtcd+", or "+store.DefaultEndpoint+")")
	flags.StringVar(&c.prefix, "prefix", "", "what the keys begin with (default "+store.DefaultPrefix+")")
	flags.StringVar(&c.user, "user", "", "etcd's user, as USER with the password in $"+envPassword+", or as USER:PASSWORD (default $"+envUser+")")
	flags.StringVar(&c.cert, "cert", "", "PEM file of the client certificate; goes with --key")
	flags.StringVar(&c.key, "key", "", "PEM file of the client certificate's key")
	flags.StringVar(&c.ca, "cacert", "", "PEM file of the authorities that etcd is trusted by (default the system's)")
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q; run %s --help", args[0], cmd.CommandPath())
		}
		return cmd.Help()
	}
	cmd.AddCommand(c.applyCommand(), c.validateCommand(), c.getCommand(), c.deleteCommand(), c.exportCommand(),
		c.banCommand(), c.unbanCommand(), c.confirmCommand())
}

// run makes a cobra function out of one that reports all problems in one error, a line each. They go to the standard
// error as they are, so that editors find FILE:LINE at the beginning; Caddy's logger would make one line of them.
func (c *command) run(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.in, c.out, c.problems = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
		err := f(cmd, args)
		if err != nil {
			cmd.SilenceErrors = true
			fmt.Fprintln(c.problems, err)
		}
		return err
	}
}

// connect opens a client of etcd. It is closed by the caller.
func (c *command) connect() (*store.Client, error) {
	config := store.Config{Endpoints: c.endpoints, Prefix: c.prefix, Cert: c.cert, Key: c.key, CA: c.ca}
	if len(config.Endpoints) == 0 {
		config.Endpoints = strings.FieldsFunc(os.Getenv(envEtcd), func(r rune) bool { return r == ',' || r == ' ' })
	}
	user := c.user
	if user == "" {
		user = os.Getenv(envUser)
	}
	if user != "" {
		var ok bool
		if config.Username, config.Password, ok = strings.Cut(user, ":"); !ok {
			config.Password = os.Getenv(envPassword)
		}
		if config.Password == "" {
			return nil, errors.New("etcd user: the password is missing; set $" + envPassword + ", or write USER:PASSWORD")
		}
	}
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return store.NewClient(config)
}

// withClient connects for the time of f.
func (c *command) withClient(f func(*store.Client) error) error {
	client, err := c.connect()
	if err != nil {
		return err
	}
	defer client.Close()
	return f(client)
}

// parseKind reads a kind as people type it: in any case, singular or plural.
func parseKind(text string) (model.Kind, error) {
	switch strings.ToLower(text) {
	case "service", "services":
		return model.KindService, nil
	case "instance", "instances":
		return model.KindInstances, nil
	case "topology", "topologies":
		return model.KindTopology, nil
	}
	return "", fmt.Errorf("kind: %q is not one of services, instances, topology", text)
}

// target reads the arguments KIND [NAME].
func target(args []string) (kind model.Kind, name string, err error) {
	if kind, err = parseKind(args[0]); err != nil || len(args) == 1 {
		return kind, "", err
	}
	if kind == model.KindTopology {
		return kind, "", fmt.Errorf("topology: there is one for the mesh, it has no name; unexpected %q", args[1])
	}
	return kind, args[1], nil // an odd name too: what should not be there must be found to be deleted
}
