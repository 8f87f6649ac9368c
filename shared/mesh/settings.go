package mesh

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

// What Config.Follow may say besides names.
const (
	followAll  = "all"
	followUsed = "used"
)

// CheckFollow checks a Config's Follow: all or used alone, or names of services, each once. Empty means all.
func CheckFollow(follow []string) error {
	for n, name := range follow {
		switch {
		case (name == followAll || name == followUsed) && len(follow) > 1:
			return fmt.Errorf("%q must stand alone", name)
		case name == followAll || name == followUsed:
		case slices.Contains(follow[:n], name):
			return fmt.Errorf("%q is named twice", name)
		default:
			if err := model.CheckName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// follows is what Follow means: there is always something in it.
func (c *Config) follows() []string {
	if len(c.Follow) == 0 {
		return []string{followAll}
	}
	return c.Follow
}

// widest returns what all holds follow together. What some name and others use is everything.
func widest(holds []*Mesh) []string {
	follow := holds[0].config.follows()
	for _, m := range holds[1:] {
		other := m.config.follows()
		switch {
		case slices.Equal(follow, other):
		case slices.ContainsFunc(slices.Concat(follow, other), func(name string) bool { return name == followAll || name == followUsed }):
			return []string{followAll}
		default:
			both := slices.Sorted(slices.Values(slices.Concat(follow, other)))
			follow = slices.Compact(both)
		}
	}
	return follow
}

// strictest returns the least share that one of the holds protects; 0: none does.
func strictest(holds []*Mesh) (share float64) {
	for _, m := range holds {
		if of := m.config.Protect; of > 0 && (share == 0 || of < share) {
			share = of
		}
	}
	return share
}

// scope is what a Config's Follow means to the store.
func (a *attachment) scope(follow []string) store.Scope {
	switch {
	case len(follow) == 0 || follow[0] == followAll:
		return store.Scope{}
	case follow[0] == followUsed:
		return store.Scope{Used: true, Uses: func(service string) uint64 { return a.Agent.Uses(service) }}
	}
	return store.Scope{Names: follow}
}

// fetch is the agent's.
func (a *attachment) fetch(service string, patience time.Duration) error {
	err := a.follower.Want(service, patience)
	if errors.Is(err, store.ErrNotFollowed) {
		return agent.ErrNotFollowed
	}
	return err
}

// ParseProtect reads a Config's Protect as a percentage, 0% to 100%.
func ParseProtect(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if err != nil || !percent || !(share >= 0 && share <= 100) {
		return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
	}
	return share / 100, nil
}
