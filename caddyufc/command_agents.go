package caddyufc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

// shownAgent is an agent as `get agents` prints it.
type shownAgent struct {
	ID    string `json:"agent"`
	Stale string `json:"stale,omitempty"` // why it doesn't serve by the newest configuration; absent: it does
	*model.Agent
}

// isAgents tells whether people mean agents by a kind.
func isAgents(kind string) bool {
	return strings.EqualFold(kind, "agent") || strings.EqualFold(kind, "agents")
}

// getAgents prints all agents, or the one with the id, which must be there.
func (c *command) getAgents(ctx context.Context, id, format string) error {
	show, known := map[string]func(io.Writer, []shownAgent) error{
		"table": agentsTable, "json": printJSON[[]shownAgent], "yaml": printYAML[[]shownAgent],
	}[format]
	if !known {
		return errFormat(format)
	}
	return c.withClient(func(client *store.Client) error {
		entries, err := client.Agents(ctx, id)
		if err != nil {
			return err
		}
		if id != "" && len(entries) == 0 {
			return fmt.Errorf("agents: there is no %q", id)
		}
		agents := make([]shownAgent, 0, len(entries))
		var problems []error
		for i := range entries {
			if entries[i].Err != nil {
				problems = append(problems, entries[i].Err)
				continue
			}
			agents = append(agents, shownAgent{entries[i].ID, entries[i].Stale, entries[i].Agent})
		}
		return errors.Join(show(c.out, agents), errors.Join(problems...))
	})
}

func agentsTable(w io.Writer, agents []shownAgent) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := tableRow(table)
	row("AGENT", "HOST", "IDC", "FACE", "VERSION", "REVISION", "AGE", "STARTED", "WRITTEN", "STALE")
	for _, one := range agents {
		row(one.ID, one.Host, one.IDC, one.Face, one.Version, one.Revision, one.Age, moment(one.Started), moment(one.Written), one.Stale)
	}
	return table.Flush()
}
