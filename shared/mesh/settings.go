package mesh

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
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

// ParseProtect reads a Config's Protect as a percentage, 0% to 100%.
func ParseProtect(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if err != nil || !percent || !(share >= 0 && share <= 100) {
		return 0, fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
	}
	return share / 100, nil
}

// NotInForce names the settings that were given and change nothing in this version, for a warning.
func (c *Config) NotInForce() []string {
	var idle []string
	if len(c.Follow) > 0 && c.Follow[0] != followAll {
		idle = append(idle, "follow "+strings.Join(c.Follow, " "))
	}
	return idle
}
