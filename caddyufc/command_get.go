package caddyufc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func (c *command) getCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "get <services|instances|topology|bans|agents> [<service>|<agent>] [-o table|json|yaml]",
		Short: "Prints documents, bans or agents as they are in etcd",
		Long: `
Prints documents as they are in etcd, or the bans that were made by hand and
those that the agents of all hosts have decided and told.

Of agents it prints how each stood when it told so last, which is each ten
minutes, and whether it is stale: doesn't hear etcd, is behind what others had
before, or has been silent for long. One that died is gone within five minutes.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: c.run(func(cmd *cobra.Command, args []string) error {
			if isBans(args[0]) {
				return c.getBans(cmd.Context(), strings.Join(args[1:], ""), format)
			}
			if isAgents(args[0]) {
				return c.getAgents(cmd.Context(), strings.Join(args[1:], ""), format)
			}
			kind, name, err := target(args)
			if err != nil {
				return err
			}
			show, known := map[string]func(io.Writer, model.Kind, []store.Entry) error{
				"table": writeTable, "json": writeJSON, "yaml": writeYAML,
			}[format]
			if !known {
				return errFormat(format)
			}
			return c.withClient(func(client *store.Client) error {
				entries, err := client.Get(cmd.Context(), kind, name)
				if err != nil {
					return err
				}
				if name != "" && len(entries) == 0 {
					return fmt.Errorf("%s: none of service %q", strings.ToLower(string(kind)), name)
				}
				return show(c.out, kind, entries)
			})
		}),
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func errFormat(format string) error {
	return fmt.Errorf("-o: %q is not one of table, json, yaml", format)
}

func (c *command) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete <service|instances|topology> [<service>]",
		Short: "Deletes a document from etcd",
		Long: `
Deletes a document from etcd. Without its Service document, a service that has
instances goes on with all defaults.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: c.run(func(cmd *cobra.Command, args []string) error {
			kind, name, err := target(args)
			if err != nil {
				return err
			}
			what := strings.ToLower(string(kind))
			if kind != model.KindTopology {
				if name == "" {
					return fmt.Errorf("delete %s: of which service?", what)
				}
				what += " of " + name
			}
			return c.withClient(func(client *store.Client) error {
				deleted, err := client.Delete(cmd.Context(), kind, name)
				if deleted > 0 {
					fmt.Fprintf(c.out, "deleted %s: %s\n", what, count(deleted, "key"))
				}
				if deleted == 0 && err == nil {
					return fmt.Errorf("delete %s: there is nothing", what)
				}
				return err
			})
		}),
	}
}

func (c *command) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Prints all documents as YAML, for apply",
		Long: `
Prints all documents as YAML, for apply. Instances that registered themselves
under a lease are left out: they aren't anybody's to write.`,
		Args: cobra.NoArgs,
		RunE: c.run(func(cmd *cobra.Command, _ []string) error {
			return c.withClient(func(client *store.Client) error {
				var problems []error
				for _, kind := range []model.Kind{model.KindTopology, model.KindService, model.KindInstances} {
					entries, err := client.Get(cmd.Context(), kind, "")
					if err != nil {
						return err
					}
					entries = slices.DeleteFunc(entries, func(e store.Entry) bool { return e.Leased })
					problems = append(problems, writeYAML(c.out, kind, entries))
				}
				return errors.Join(problems...)
			})
		}),
	}
}

// document is one document put together from entries.
type document struct {
	kind  model.Kind
	value json.RawMessage
}

// assemble turns the entries of one kind into documents. Those whose values can't be read, since something else wrote
// them, are left out and reported, a problem each.
func assemble(kind model.Kind, entries []store.Entry) ([]document, error) {
	var documents []document
	var problems []error
	services := map[string][]json.RawMessage{}
	for _, entry := range entries {
		if _, err := parseEntry(entry); err != nil {
			problems = append(problems, err)
			continue
		}
		if kind == model.KindInstances {
			services[entry.Name] = append(services[entry.Name], entry.Value)
			continue
		}
		documents = append(documents, document{kind, entry.Value})
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		value, err := json.Marshal(struct {
			Kind      model.Kind        `json:"kind"`
			Service   string            `json:"service"`
			Instances []json.RawMessage `json:"instances"`
		}{kind, name, services[name]})
		if err != nil {
			return nil, err
		}
		documents = append(documents, document{kind, value})
	}
	return documents, errors.Join(problems...)
}

// parseEntry reads an entry's value: a *model.Service, *model.Instance or *model.Topology.
func parseEntry(entry store.Entry) (parsed any, err error) {
	switch entry.Kind {
	case model.KindService:
		parsed, _, err = model.ParseService(entry.Name, entry.Value)
	case model.KindInstances:
		parsed, _, err = model.ParseInstance(entry.Address, entry.Value)
		var problems model.Problems
		if errors.As(err, &problems) { // an instance doesn't know whose it is
			for i := range problems {
				problems[i].Document = fmt.Sprintf("service %q: %s", entry.Name, problems[i].Document)
			}
		}
	default:
		parsed, _, err = model.ParseTopology(entry.Value)
	}
	return parsed, err
}

// writeJSON prints documents as a JSON list.
func writeJSON(w io.Writer, kind model.Kind, entries []store.Entry) error {
	documents, problems := assemble(kind, entries)
	values := make([]json.RawMessage, len(documents))
	for i, document := range documents {
		values[i] = document.value
	}
	compact, err := json.Marshal(values)
	if err != nil {
		return err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, compact, "", "  "); err != nil {
		return err
	}
	fmt.Fprintln(w, indented.String())
	return problems
}

// writeYAML prints documents so that apply reads them again.
func writeYAML(w io.Writer, kind model.Kind, entries []store.Entry) error {
	documents, problems := assemble(kind, entries)
	for _, document := range documents {
		text, err := toYAML(document.value)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "---\n%s", text)
	}
	return problems
}

// writeTable prints what people look for first.
func writeTable(w io.Writer, kind model.Kind, entries []store.Entry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := tableRow(table)
	row(map[model.Kind][]any{
		model.KindService:   {"NAME", "PROTOCOL", "LEVEL", "WORKLOAD", "BALANCE", "OWNER", "REVISION"},
		model.KindInstances: {"SERVICE", "ADDRESS", "IDC", "WEIGHT", "STATE", "LABELS", "LEASE", "REVISION"},
		model.KindTopology:  {"IDC", "LOGICAL", "STATE", "ROUTES", "REVISION"},
	}[kind]...)
	var problems []error
	for _, entry := range entries {
		parsed, err := parseEntry(entry)
		switch parsed := parsed.(type) {
		case *model.Service:
			row(parsed.Name, parsed.Protocol, parsed.Level, parsed.Workload, parsed.Balance.Policy, parsed.Owner, entry.Revision)
		case *model.Instance:
			row(entry.Name, parsed.Address, parsed.IDC, parsed.Weight, parsed.State, labels(parsed.Labels), yesNo(entry.Leased),
				entry.Revision)
		case *model.Topology:
			topologyRows(row, parsed, entry.Revision)
		}
		problems = append(problems, err)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return errors.Join(problems...)
}

// tableRow returns what prints a row of a table.
func tableRow(table io.Writer) func(cells ...any) {
	return func(cells ...any) {
		text := make([]string, len(cells))
		for i, cell := range cells {
			if text[i] = fmt.Sprint(cell); text[i] == "" {
				text[i] = "-" // so that columns can be cut
			}
		}
		fmt.Fprintln(table, strings.Join(text, "\t"))
	}
}

// topologyRows prints a line for each IDC.
func topologyRows(row func(...any), topology *model.Topology, revision int64) {
	for _, name := range slices.Sorted(maps.Keys(topology.IDCs)) {
		state := "up"
		if slices.Contains(topology.Drained, name) {
			state = "drained"
		}
		logical := topology.IDCs[name].Logical
		var routes []string
		for _, route := range topology.Routes[logical] {
			routes = append(routes, fmt.Sprintf("%s:%d", route.To, route.Weight))
		}
		row(name, logical, state, strings.Join(routes, ","), revision)
	}
}

func labels(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return strings.Join(pairs, ",")
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
