package caddyufc

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func (c *command) confirmCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "confirm [<service>] [--dry-run]",
		Short: "Confirms removals that agents hold back",
		Long: `
Confirms that what was removed from etcd until now, of a service or of all, is
meant, and prints what is left. Agents with the option protect hold back what
goes over their share; they let go of it within a second. What is removed later
they judge anew. What an agent holds, its query sync_info tells.`,
		Args: cobra.MaximumNArgs(1),
		RunE: c.run(func(cmd *cobra.Command, args []string) error {
			service := strings.Join(args, "")
			return c.withClient(func(client *store.Client) error {
				remaining, err := client.Remaining(cmd.Context(), service)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.out, remainder(service, remaining))
				if dryRun {
					fmt.Fprintln(c.out, "nothing was written: dry run")
					return nil
				}
				if err := client.Confirm(cmd.Context(), service, whoami(), remaining); err != nil {
					return err
				}
				fmt.Fprintf(c.out, "confirmed all that was removed up to revision %d\n", remaining.Revision)
				return nil
			})
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what is left, and write nothing")
	return cmd
}

// remainder says what a confirmation takes for meant.
func remainder(service string, remaining *model.Confirmation) string {
	text := fmt.Sprintf("at revision %d etcd has %s and %s", remaining.Revision,
		count(remaining.Services, "Service document"), count(remaining.Instances, "instance"))
	if service != "" {
		text += " of " + service
	}
	return text
}
