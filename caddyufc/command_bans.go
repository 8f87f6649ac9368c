package caddyufc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func (c *command) banCommand() *cobra.Command {
	var reason string
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "ban <service> <host:port> [--reason <text>] [--for <duration>]",
		Short: "Bans an instance by hand, on all agents",
		Long: `
Bans an instance of a service by hand: within a second no agent sends it
anything, whatever its health, until it is lifted by unban or its time is
over. An instance that isn't registered now is banned when it comes.`,
		Args: cobra.ExactArgs(2),
		RunE: c.run(func(cmd *cobra.Command, args []string) error {
			service, address, err := instanceOf(args)
			if err != nil {
				return err
			}
			ban := &model.HandBan{By: whoami(), Reason: reason, Since: time.Now().UTC().Truncate(time.Second)}
			ending := "until it is lifted"
			if cmd.Flags().Changed("for") {
				if length < time.Second {
					return fmt.Errorf("--for: %s is under a second", length)
				}
				ban.Until = ban.Since.Add(length)
				ending = "until " + moment(ban.Until)
			}
			return c.withClient(func(client *store.Client) error {
				listed, err := client.Ban(cmd.Context(), service, address, ban)
				if err != nil {
					return err
				}
				if !listed {
					fmt.Fprintf(c.problems, "warning: service %q has no instance %s now\n", service, address)
				}
				fmt.Fprintf(c.out, "banned %s of %s %s\n", address, service, ending)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who find the ban")
	cmd.Flags().DurationVar(&length, "for", 0, "how long, such as 30m or 12h (default until it is lifted)")
	return cmd
}

func (c *command) unbanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unban <service> <host:port>",
		Short: "Lifts a ban that was made by hand",
		Long: `
Lifts a ban that was made by hand. What agents have banned by themselves they
give back by themselves.`,
		Args: cobra.ExactArgs(2),
		RunE: c.run(func(cmd *cobra.Command, args []string) error {
			return c.withClient(func(client *store.Client) error {
				// The address may be an odd one: what should not be there must go.
				if err := client.Unban(cmd.Context(), args[0], args[1]); err != nil {
					return err
				}
				fmt.Fprintf(c.out, "lifted the ban of %s of %s\n", args[1], args[0])
				return nil
			})
		}),
	}
}

// instanceOf reads the arguments SERVICE INSTANCE.
func instanceOf(args []string) (service string, address netip.AddrPort, err error) {
	if err := model.CheckName(args[0]); err != nil {
		return "", address, fmt.Errorf("service: %w", err)
	}
	if err := model.CheckAddress(args[1]); err != nil {
		return "", address, fmt.Errorf("instance: %w", err)
	}
	return args[0], netip.MustParseAddrPort(args[1]), nil
}

// whoami names the person at the keyboard for others, as USER@HOST. It is what the machine says, and proves nothing.
func whoami() string {
	name := "unknown"
	if person, err := user.Current(); err == nil {
		name = person.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// shownBan is a ban as `get bans` prints it, by hand or told by an agent.
type shownBan struct {
	Service  string     `json:"service"`
	Instance string     `json:"instance"`
	Reason   string     `json:"reason"`          // hand, or an agent's: requests, proof, …
	Host     string     `json:"host,omitempty"`  // whose agent decided it
	Agent    string     `json:"agent,omitempty"` // which one
	By       string     `json:"by,omitempty"`    // who made it by hand
	Since    *time.Time `json:"since,omitempty"`
	Until    *time.Time `json:"until,omitempty"` // absent: until it is lifted
	Detail   string     `json:"detail,omitempty"`
}

// byHand is the reason of a ban that a person made, as agents name it too.
const byHand = "hand"

// isBans tells whether people mean bans by a kind.
func isBans(kind string) bool {
	return strings.EqualFold(kind, "ban") || strings.EqualFold(kind, "bans")
}

// getBans prints the bans of a service, or of all without a name. To have none is no failure.
func (c *command) getBans(ctx context.Context, service, format string) error {
	show, known := map[string]func(io.Writer, []shownBan) error{
		"table": bansTable, "json": printJSON[[]shownBan], "yaml": printYAML[[]shownBan],
	}[format]
	if !known {
		return errFormat(format)
	}
	return c.withClient(func(client *store.Client) error {
		entries, err := client.Bans(ctx, service)
		if err != nil {
			return err
		}
		bans := make([]shownBan, 0, len(entries))
		var problems []error
		for i := range entries {
			if entries[i].Err != nil {
				problems = append(problems, entries[i].Err)
				continue
			}
			bans = append(bans, showBan(&entries[i]))
		}
		return errors.Join(show(c.out, bans), errors.Join(problems...))
	})
}

func showBan(entry *store.BanEntry) shownBan {
	shown := shownBan{Service: entry.Service, Instance: entry.Address, Host: entry.Host}
	var since, until time.Time
	if told := entry.Told; told != nil {
		shown.Reason, shown.Agent, shown.Detail = told.Reason, told.Agent, told.Detail
		since, until = told.Since, told.Until
	} else {
		shown.Reason, shown.By, shown.Detail = byHand, entry.Hand.By, entry.Hand.Reason
		since, until = entry.Hand.Since, entry.Hand.Until
	}
	if !since.IsZero() {
		shown.Since = &since
	}
	if !until.IsZero() {
		shown.Until = &until
	}
	return shown
}

func bansTable(w io.Writer, bans []shownBan) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := tableRow(table)
	row("SERVICE", "INSTANCE", "REASON", "HOST", "SINCE", "UNTIL", "DETAIL")
	for i := range bans {
		ban := &bans[i]
		detail := ban.Agent + ban.By // whose word it is; one of the two is empty
		if detail != "" && ban.Detail != "" {
			detail += ": "
		}
		row(ban.Service, ban.Instance, ban.Reason, ban.Host, optionalMoment(ban.Since), optionalMoment(ban.Until), detail+ban.Detail)
	}
	return table.Flush()
}

func printJSON[T any](w io.Writer, what T) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}

func printYAML[T any](w io.Writer, what T) error {
	value, err := json.Marshal(what)
	if err != nil {
		return err
	}
	text, err := toYAML(value)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func optionalMoment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
