package mesh

import (
	"slices"
	"strings"
	"testing"
)

func TestCheckFollow(t *testing.T) {
	f := func(follow, contains string) {
		t.Helper()
		err := CheckFollow(strings.Fields(follow))
		if (err == nil) != (contains == "") || (err != nil && !strings.Contains(err.Error(), contains)) {
			t.Errorf("%q: %v, want %q", follow, err, contains)
		}
	}
	f("", "")
	f("all", "")
	f("used", "")
	f("shop cart", "")
	f("all shop", `"all" must stand alone`)
	f("shop used", `"used" must stand alone`)
	f("shop shop", `"shop" is named twice`)
	f("Shop", `"Shop"`)
}

func TestParseProtect(t *testing.T) {
	f := func(text string, want float64, ok bool) {
		t.Helper()
		if got, err := ParseProtect(text); (err == nil) != ok || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	f("0%", 0, true)
	f("12.5%", 0.125, true)
	f("100%", 1, true)
	f("50", 0, false)
	f("101%", 0, false)
	f("-1%", 0, false)
	f("NaN%", 0, false)
	f("%", 0, false)
}

// While a configuration is tried, everything is followed that the one in force wants, too.
func TestWidest(t *testing.T) {
	f := func(want string, holds ...string) {
		t.Helper()
		var all []*Mesh
		for _, follow := range holds {
			all = append(all, &Mesh{config: Config{Follow: strings.Fields(follow)}})
		}
		if got := strings.Join(widest(all), " "); got != want {
			t.Errorf("%q together follow %q, want %q", holds, got, want)
		}
	}
	f("all", "")
	f("used", "used")
	f("shop cart", "shop cart")
	f("cart hat shop", "shop cart", "hat shop")
	f("all", "shop", "")
	f("all", "", "shop")
	f("used", "used", "used")
	f("all", "used", "shop")
	f("all", "shop", "cart", "used")
}

func TestScope(t *testing.T) {
	f := func(follow string, names []string, used bool, shown string) {
		t.Helper()
		config := Config{Follow: strings.Fields(follow)}
		scope := (&attachment{}).scope(config.Follow)
		if !slices.Equal(scope.Names, names) || scope.Used != used || used != (scope.Uses != nil) {
			t.Errorf("%q: %+v", follow, scope)
		}
		if got := strings.Join(config.follows(), " "); got != shown {
			t.Errorf("%q is shown as %q", follow, got)
		}
	}
	f("", nil, false, "all")
	f("all", nil, false, "all")
	f("used", nil, true, "used")
	f("shop cart", []string{"shop", "cart"}, false, "shop cart")
}
