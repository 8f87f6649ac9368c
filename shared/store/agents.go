package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// AgentEntry is one agent in etcd.
type AgentEntry struct {
	ID    string // as written in the key
	Agent *model.Agent
	Stale string // why it isn't served by the newest configuration, as it seems; empty: it is
	Err   error  // why key or value can't be read; Agent is nil then
}

const (
	// staleAge is the age of the configuration over which an agent doesn't hear etcd: it asks for a sign of life each 10 s,
	// and gives a watch up after 25 s.
	staleAge = time.Minute
	// staleSlack is by how much the clocks of two agents may differ, and how much later the one may hear of a revision.
	staleSlack = time.Minute
	// staleSilence is the time without a word after which two have been left out.
	staleSilence = 25 * time.Minute
)

// Agents returns the agents that are there, sorted by id, or the one with the id. It reads them in pages, all at one revision.
func (c *Client) Agents(ctx context.Context, id string) ([]AgentEntry, error) {
	if strings.Contains(id, "/") {
		return nil, fmt.Errorf("agent %q: an id has no slash", id)
	}
	var agents []AgentEntry
	err := c.link.readPages(ctx, c.keys.here, pageSize, func(next page) error {
		for _, kv := range next.keys {
			one := AgentEntry{}
			if one.ID, one.Err = c.keys.parseAgent(kv.Key); one.Err == nil {
				one.Agent, _, one.Err = model.ParseAgent(one.ID, kv.Value)
			}
			agents = append(agents, one)
		}
		return nil
	})
	markStale(agents, time.Now())
	if id != "" {
		agents = slices.DeleteFunc(agents, func(one AgentEntry) bool { return one.ID != id })
	}
	return agents, err
}

// markStale tells of each agent whether it is stale. One is behind if another has told of a higher revision well before: what
// the mesh's revision is now says nothing, since an agent tells each 10 minutes only.
func markStale(agents []AgentEntry, now time.Time) {
	byTime := make([]*AgentEntry, 0, len(agents))
	for i := range agents {
		if agents[i].Agent != nil {
			byTime = append(byTime, &agents[i])
		}
	}
	slices.SortFunc(byTime, func(a, b *AgentEntry) int { return a.Agent.Written.Compare(b.Agent.Written) })
	known, next := int64(0), 0 // the highest revision that was told before
	for _, one := range byTime {
		for before := one.Agent.Written.Add(-staleSlack); byTime[next].Agent.Written.Before(before); next++ {
			known = max(known, byTime[next].Agent.Revision)
		}
		one.Stale = stale(one.Agent, known, now)
	}
}

// stale tells why an agent is stale; known is a revision that it should have.
func stale(agent *model.Agent, known int64, now time.Time) string {
	switch silent := now.Sub(agent.Written); {
	case agent.Revision == 0:
		return "no configuration"
	case agent.Age.Std() > staleAge:
		return fmt.Sprintf("age %s", agent.Age.Std().Round(time.Second))
	case !agent.Synced:
		return "not synced"
	case agent.Revision < known:
		return fmt.Sprintf("%d revisions behind", known-agent.Revision)
	case silent > staleSilence:
		return fmt.Sprintf("silent for %s", silent.Round(time.Second))
	}
	return ""
}
