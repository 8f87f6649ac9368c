package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// example is a file of examples/ on a mesh of the test's own: its instances are the test's backends, by their place in the
// file: cart-1, cart-2.
type example struct {
	*mesh
	file  string // the copy with the backends' addresses
	steps []string
}

// exampleStep is a line of the comment at an example's head that changes the mesh.
var exampleStep = regexp.MustCompile(`(?m)^#     ((?:sed .*\| )?bin/caddy ufc apply .*)$`)

// startExample starts backends for all of the file's instances, and an agent, and applies the file as it stands.
func startExample(t *testing.T, name string) *example {
	t.Helper()
	path := filepath.Join("examples", name)
	data, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	service := regexp.MustCompile(`(?m)^name: (\S+)`).FindStringSubmatch(text)[1]
	turn := 0
	text = regexp.MustCompile(`127\.0\.0\.1:91\d\d`).ReplaceAllStringFunc(text, func(string) string {
		turn++
		return newBackend(t, fmt.Sprintf("%s-%d", service, turn)).address
	})
	topology, err := os.ReadFile(filepath.Join(top, "examples/topology.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	e := &example{mesh: startAgent(t, string(topology))}
	e.file = writeFile(t, e.folder, name, text)
	for _, found := range exampleStep.FindAllStringSubmatch(text, -1) {
		e.steps = append(e.steps, strings.ReplaceAll(found[1], path, e.file))
	}
	e.do("bin/caddy ufc apply -f " + e.file)
	return e
}

// do runs a step as the comment has it, and waits until it is in force.
func (e *example) do(command string) {
	e.t.Helper()
	mustRun(e.t, e.environment(), "", "bash", "-c", command)
	e.untilCurrent()
}

// want checks who answers, by share: in times requests, with headers, exactly the names have answered, each at least so often.
func (m *mesh) want(what, service string, times int, least map[string]int, headers ...string) {
	m.t.Helper()
	counts := m.answers(times, service, headers...)
	if !slices.Equal(slices.Sorted(maps.Keys(counts)), slices.Sorted(maps.Keys(least))) {
		m.t.Errorf("%s: answered by %v, want %v", what, counts, least)
		return
	}
	for name, count := range least {
		if counts[name] < count {
			m.t.Errorf("%s: answered by %v, want at least %v", what, counts, least)
		}
	}
}

func TestGrayRelease(t *testing.T) {
	t.Parallel()
	e := startExample(t, "gray-release.yaml")
	if len(e.steps) != 4 {
		t.Fatalf("the example has the steps %q", e.steps)
	}
	testers := func() {
		e.t.Helper()
		e.want("testers", "cart", 10, map[string]int{"cart-3": 10}, "x-user-group", "beta")
	}
	// moved are the users, of 200, who see v2. Each sees one version only.
	moved := func(least, most int) map[int]bool {
		t.Helper()
		users := map[int]bool{}
		for user := range 200 {
			header := []string{"x-user", fmt.Sprint("user-", user)}
			first := e.answers(1, "cart", header...)
			if again := e.answers(1, "cart", header...); !maps.Equal(first, again) {
				t.Errorf("user %d was answered by %v, then by %v", user, first, again)
			}
			if first["cart-3"] == 1 {
				users[user] = true
			}
		}
		if len(users) < least || len(users) > most {
			t.Errorf("%d users of 200 see v2, want %d to %d", len(users), least, most)
		}
		return users
	}
	testers()
	moved(0, 0)
	e.want("who doesn't say", "cart", 60, map[string]int{"cart-1": 1, "cart-2": 1})
	e.do(e.steps[0])
	few := moved(2, 30)
	testers()
	e.do(e.steps[1])
	half := moved(60, 140)
	for user := range few {
		if !half[user] {
			t.Errorf("user %d has lost v2 by a raised percent", user)
		}
	}
	e.do(e.steps[2])
	moved(200, 200)
	e.do(e.steps[3])
	moved(0, 0)
	testers()
}

// Without an instance of v2 its users get v1.
func TestGrayReleaseSpills(t *testing.T) {
	t.Parallel()
	e := startExample(t, "gray-release.yaml")
	e.do(fmt.Sprintf("sed 's/labels: {version: v2}}/labels: {version: v2}, state: down}/' %s | bin/caddy ufc apply -f -", e.file))
	e.want("testers", "cart", 60, map[string]int{"cart-1": 1, "cart-2": 1}, "x-user-group", "beta")
}

func TestTrafficMigration(t *testing.T) {
	t.Parallel()
	e := startExample(t, "traffic-migration.yaml")
	if len(e.steps) != 5 {
		t.Fatalf("the example has the steps %q", e.steps)
	}
	old, fresh := map[string]int{"album-1": 20, "album-2": 20}, map[string]int{"album-3": 20, "album-4": 20}
	e.want("at first", "album", 40, old)
	e.do(e.steps[0])
	// 20 of 400; that fewer than 3, or more than 60, come of it is one chance in millions.
	if counts := e.answers(400, "album"); counts["album-3"]+counts["album-4"] < 3 || counts["album-3"]+counts["album-4"] > 60 {
		t.Errorf("at 5 percent: %v of 400", counts)
	}
	e.do(e.steps[1])
	e.want("at half", "album", 200, map[string]int{"album-1": 20, "album-2": 20, "album-3": 20, "album-4": 20})
	e.do(e.steps[2])
	e.want("at the end", "album", 40, fresh)
	e.do(e.steps[3])
	e.want("drained", "album", 40, fresh)
	e.do(e.steps[4])
	e.want("back", "album", 40, old)
}

// What weight 0 and drain are: a reserve, and none.
func TestTrafficMigrationReserve(t *testing.T) {
	t.Parallel()
	e := startExample(t, "traffic-migration.yaml")
	newDown := func(step string) string {
		return strings.Replace(step, "| bin/caddy", "| sed 's/new}, state: up/new}, state: down/' | bin/caddy", 1)
	}
	e.do(newDown(e.steps[2]))
	e.want("the reserve", "album", 40, map[string]int{"album-1": 20, "album-2": 20})
	e.do(newDown(e.steps[3]))
	e.ask("album", "/").must(t, 503, "no_instance")
}
