package model

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// service is a document of the given lines below kind and name.
func service(lines ...string) string {
	return strings.Join(append([]string{"kind: Service", "name: shop"}, lines...), "\n") + "\n"
}

func TestReadSuccess(t *testing.T) {
	f := func(file, data string, kinds ...Kind) {
		t.Helper()
		documents, err := Read(file, []byte(data))
		if err != nil {
			t.Errorf("%q: %v", data, err)
			return
		}
		var got []Kind
		for _, d := range documents {
			got = append(got, d.Kind)
		}
		if !slices.Equal(got, kinds) {
			t.Errorf("%q: %v, want %v", data, got, kinds)
		}
	}
	f("a.yaml", "")
	f("a.yaml", "# nothing\n---\n# yet\n---\n")
	f("a.yaml", service(), KindService)
	f("a.yaml", "\ufeff"+service(), KindService)
	f("a.yaml", "%YAML 1.2\n---\n"+service()+"...\n", KindService)
	f("a.yaml", "---\n"+service()+"---\n---\nkind: Topology\n---\n", KindService, KindTopology)
	f("a.yaml", "kind: Instances\nservice: shop\ninstances: []\n", KindInstances)
	f("a.yaml", "{kind: Service, name: shop}", KindService)
	f("a.yaml", strings.ReplaceAll(service(), "\n", "\r\n"), KindService)
	f("a.yaml", `{"kind":"Service","name":"shop"}`, KindService)
	f("-", "\n\t{\"kind\":\t\"Service\",\"name\":\"shop\"}\n{\"kind\":\"Topology\"}", KindService, KindTopology)
	f("a.json", `{"kind":"Service","name":"shop","owner":"\ud83d\ude00 \/"}`, KindService)
	f("a.json", "")
	f("a.yaml", "{\"kind\":\"Service\",\"name\":\"shop\"}\n---\n{\"kind\":\"Topology\"}", KindService, KindTopology)
	f("a.yaml", service("ban:", "  bad_codes: {503: 0.5}"), KindService) // a key is text, whatever it looks like
	f("a.yaml", "kind: Service\nname: shop\n---\nkind: Service\nname: shop2\n", KindService, KindService)
	f("a.yaml", "kind: Service\nname: shop\n---\nkind: Instances\nservice: shop\ninstances: [{address: '10.0.0.1:1'}]\n", KindService, KindInstances)
}

// No word turns into a boolean, and no number into another.
func TestReadWordsStayText(t *testing.T) {
	words := []string{
		"on", "off", "yes", "no", "y", "n", "Y", "N", "On", "OFF", "Yes", "NO", "True", "TRUE", "False",
		"0o17", "017", "0x1f", "1_000", "1:30", "190:20:30", ".inf", "-.INF", ".nan", "+5", ".5", "5.", "1e", "0b11", "-",
		"2001-01-01", "2001-12-14t21:59:43.10-05:00", "=", "a<<b", "1.2.3", "- -",
	}
	for _, word := range words {
		if word == "- -" {
			word = `"- -"`
		}
		document := "kind: Instances\nservice: shop\ninstances:\n- address: 10.0.0.1:80\n  labels: {key: " + word + ", " + word + ": value}\n"
		documents, err := Read("a.yaml", []byte(document))
		if err != nil {
			t.Errorf("%s: %v", word, err)
			continue
		}
		word = strings.Trim(word, `"`)
		want := map[string]string{"key": word, word: "value"}
		if got := documents[0].Instances.Instances[0].Labels; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", word, got, want)
		}
		// Where a number is wanted, none of them is taken for one.
		if _, err := Read("a.yaml", []byte(service("level: "+word))); err == nil {
			t.Errorf("level: %s was read", word)
		}
		if _, err := Read("a.yaml", []byte(service("connections: {keepalive: "+word+"}"))); err == nil {
			t.Errorf("keepalive: %s was read", word)
		}
	}
}

func TestReadAliases(t *testing.T) {
	documents, err := Read("a.yaml", []byte(service(
		"timeouts:",
		"  normal: &limits {connect: 1s, read: 2s}",
		"  avalanche: *limits",
		"owner: &who team",
		"host: *who",
	)))
	if err != nil {
		t.Fatal(err)
	}
	s := documents[0].Service
	if s.Timeouts.Avalanche.Connect != seconds(1) || s.Timeouts.Avalanche.Write != seconds(1) || s.Host != "team" {
		t.Errorf("read %+v, host %q", s.Timeouts, s.Host)
	}
	want := `{"kind":"Service","name":"shop","timeouts":{"normal":{"connect":"1s","read":"2s"},"avalanche":{"connect":"1s","read":"2s"}},"owner":"team","host":"team"}`
	if got := string(documents[0].Value); got != want {
		t.Errorf("value %s, want %s", got, want)
	}
}

// bomb is a document whose aliases double again and again.
func bomb(levels int) string {
	b := "kind: Service\nname: shop\na0: &a0 [x, x]\n"
	for i := 1; i <= levels; i++ {
		b += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	return b
}

func TestReadFailure(t *testing.T) {
	f := func(data string, want ...string) {
		t.Helper()
		documents, err := Read("f.yaml", []byte(data))
		var problems Problems
		if !errors.As(err, &problems) || documents != nil {
			t.Errorf("%q: documents %v, error %v", data, documents, err)
			return
		}
		if got := err.Error(); got != strings.Join(want, "\n") {
			t.Errorf("%q:\ngot  %s\nwant %s", data, got, strings.Join(want, "\n     "))
		}
	}
	at := `f.yaml:3: service "shop": `

	// The text.
	f("a: b: c", "f.yaml:1: not YAML: mapping values are not allowed in this context")
	f("kind: Service\nname: shop\n  level: 3\n", "f.yaml:3: not YAML: mapping values are not allowed in this context")
	f("kind: Service\nowner: \"\xff\"", "f.yaml:2: not UTF-8")
	f("kind: Service\nowner: \"\u2028\"", "f.yaml:2: the character U+2028 must be written as an escape")
	f(service("drop: [{callers: [*-video]}]"), "f.yaml:3: not YAML: unknown anchor '-video' referenced (a text that begins with * or & must be in quotes)")
	f(service("owner: *"), "f.yaml:3: not YAML: did not find expected alphabetic or numeric character (a text that begins with * or & must be in quotes)")
	f(service("<<: {level: 1}"), "f.yaml:3: merge keys (<<) aren't supported: use an alias for a whole value")
	f(service("level: !!int \"3\""), `f.yaml:3: the tag "!!int" isn't supported: a value's type follows from its field`)
	f(service("!!str level: 3"), `f.yaml:3: the tag "!!str" isn't supported: keys are always text`)
	f(service("? [a]\n: 3"), "f.yaml:3: a key must be a text, no mapping, list or alias")
	f(service("owner: &a x\n*a : 3"), "f.yaml:4: a key must be a text, no mapping, list or alias")
	f(bomb(60), "f.yaml:5: aliases add more than 4194304 bytes")
	f(service("a: &a [*a, *a]"), "f.yaml:3: nested deeper than 32 levels")
	f(service("a: &a {x: *a}"), "f.yaml:3: nested deeper than 32 levels")
	f(service("a: "+strings.Repeat("[", 40)+strings.Repeat("]", 40)), "f.yaml:3: nested deeper than 32 levels")
	f(service("a: "+strings.Repeat("[", 20000)), "f.yaml:3: not YAML: exceeded max depth of 10000")
	f("{\"kind\":\n\"Service\",\n\"name\":\"\\ud800\"}", "f.yaml:3: half of a surrogate pair in a text")
	f("{\"kind\":\n"+strings.Repeat("[", 40)+strings.Repeat("]", 40)+"}", "f.yaml:2: nested deeper than 32 levels")
	f(strings.Repeat(" ", maxFile+1), "f.yaml: 33554433 bytes, over the limit of 33554432")

	// The document.
	f("[]", "f.yaml:1: a list is not a mapping")
	f("hello", `f.yaml:1: "hello" is not a mapping`)
	f("null", "f.yaml:1: null is not a mapping")
	f("name: shop", "f.yaml:1: kind: is missing: one of Service, Instances, Topology")
	f("name: shop\nkind: service", `f.yaml:2: kind: "service" is not one of Service, Instances, Topology`)
	f("kind: 5", "f.yaml:1: kind: 5 is not one of Service, Instances, Topology")
	f("kind: Service\nkind: Topology", "f.yaml:2: kind: given twice, first on line 1")
	f("kind: Service", `f.yaml:1: service "": name: is missing`)
	f("kind: Service\nname: 5", `f.yaml:2: service "": name: 5 is not a text: put it in quotes`)
	f("kind: Service\nname: Shop", `f.yaml:2: service "Shop": name: "Shop" is not a name of 1-62 lower-case letters, digits and inner hyphens`)
	f(service()+"---\n"+service(), `f.yaml:4: service "shop": given twice, first at f.yaml:1`)
	f("kind: Topology\n---\nkind: Topology", "f.yaml:3: topology: given twice, first at f.yaml:1")

	// The fields' types.
	f(service("level: \"3\""), at+`level: "3" is not a number`)
	f(service("level: 1_0"), at+`level: "1_0" is not a number`)
	f(service("level: 1.5"), at+`level: 1.5 is not a whole number`)
	f(service("level: 99999999999999999999"), at+`level: 99999999999999999999 is too large`)
	f(service("level: null"), at+"level: is null: give it a value, or leave it out")
	f(service("level:"), at+"level: is null: give it a value, or leave it out")
	f(service("routes:"), at+"routes: is null: give it a value, or leave it out")
	f(service("drop: [~]"), at+"drop[0]: is null: give it a value, or leave it out")
	f(service("owner: 1.10"), at+"owner: 1.10 is not a text: put it in quotes")
	f(service("owner: true"), at+"owner: true is not a text: put it in quotes")
	f(service("owner: [a]"), at+"owner: a list is not a text")
	f(service("connections: {keepalive: yes}"), at+`connections.keepalive: "yes" is not true or false`)
	f(service("connections: []"), at+"connections: a list is not a mapping")
	f(service("routes: {}"), at+"routes: a mapping is not a list")
	f(service("idc_routes: x"), at+`idc_routes: "x" is not a mapping`)
	f(service("timeouts: {normal: {read: 5}}"), at+"timeouts.normal.read: 5 is not a duration such as 300ms, 5s or 10m")
	f(service("timeouts: {normal: {read: 5 s}}"), at+`timeouts.normal.read: "5 s" is not a duration such as 300ms, 5s or 10m`)
	f(service("ban: {max_ratio: 1e999}"), at+"ban.max_ratio: 1e999 is too large")
	f(service("ban: {max_ratio: .nan}"), at+`ban.max_ratio: ".nan" is not a number`)

	// Names of fields.
	f(service("ban:", "  max_ratoi: 1"), `f.yaml:4: service "shop": ban.max_ratoi: unknown field, did you mean "max_ratio"?`)
	f(service("colour: red"), at+"colour: unknown field")
	f(service("Level: 3"), at+`Level: unknown field, did you mean "level"?`)
	f(service("ban:", "  max_ratio: 0.1", "  max_ratio: 0.2"), `f.yaml:5: service "shop": ban.max_ratio: given twice, first on line 4`)
	f(service("ban: {}", "level: 3", "ban: {max_ratio: 7}"), `f.yaml:5: service "shop": ban: given twice, first on line 3`)
	f(service("ban:", "  bad_codes: {503: 0.1, \"503\": 0.2}"), `f.yaml:4: service "shop": ban.bad_codes.503: given twice, first on line 4`)

	// All that is wrong is told, in the order of the lines.
	f(service("fuse: {floor: 2}", "level: 9", "ban:", "  max_ratio: 1.2", "  probe: {timeout: 2h}", "x: 1")+"---\nkind: Topology\ndrained: [a]\n",
		at+"fuse.floor: 2 is not between 0.0001 and 1",
		`f.yaml:4: service "shop": level: 9 is not between 1 and 5`,
		`f.yaml:6: service "shop": ban.max_ratio: 1.2 is not between 0 and 1`,
		`f.yaml:7: service "shop": ban.probe.timeout: 2h is not between 1ms and 1m`,
		`f.yaml:8: service "shop": x: unknown field`,
		`f.yaml:11: topology: drained[0]: "a" is not one of idcs`,
	)
}

func TestReadTooManyProblems(t *testing.T) {
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprintf("x%d: 1", i))
	}
	_, err := Read("f.yaml", []byte(service(lines...)+"---\nkind: Topology\ndrained: [a]\n"))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 102 {
		t.Fatalf("%d problems, want 100, one for the rest, and the topology's", len(problems))
	}
	if !slices.ContainsFunc(problems, func(p Problem) bool { return p.Document == "topology" }) {
		t.Error("one document's problems hide another's")
	}
}

func TestReadJSONFailure(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		_, err := Read("f.json", []byte(data))
		if err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", data, err, want)
		}
	}
	f("kind: Service", "f.json:1: not JSON: invalid character 'k' looking for beginning of value")
	f("{}\n{\n\"a\":}", "f.json:1: kind: is missing: one of Service, Instances, Topology\nf.json:3: not JSON: invalid character '}' looking for beginning of value")
	f("{\"kind\":\"Topology\"}\n\n[", "f.json:3: not JSON: unexpected end of JSON input")
	f("\n{\"kind\":\"Topology\",\n\"drained\":[\n\"a\"]}", "f.json:4: topology: drained[0]: \"a\" is not one of idcs")
	f("{\"kind\":\"Topology\"}\n{\"kind\":\"Service\",\n\"name\":\"a\",\"level\":7}", "f.json:3: service \"a\": level: 7 is not between 1 and 5")
	f("{\"kind\":\"Topology\"} x", "f.json:1: not JSON: invalid character 'x' looking for beginning of value")
}

func TestCheckDuplicates(t *testing.T) {
	read := func(file, data string) []Document {
		documents, err := Read(file, []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		return documents
	}
	a := read("a.yaml", service()+"---\nkind: Instances\nservice: shop\ninstances: []\n")
	b := read("b.yaml", "kind: Topology\n---\nkind: Service\nname: other\n")
	c := read("c.yaml", "kind: Topology\n---\nkind: Instances\nservice: shop\ninstances: []\n")
	if err := CheckDuplicates(slices.Concat(a, b)); err != nil {
		t.Error(err)
	}
	err := CheckDuplicates(slices.Concat(a, b, c))
	want := `c.yaml:1: topology: given twice, first at b.yaml:1` + "\n" +
		`c.yaml:3: instances of "shop": given twice, first at a.yaml:4`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// What is stored is the document as written, in its order and without defaults, and means the same.
func TestValue(t *testing.T) {
	f := func(data, want string) {
		t.Helper()
		documents, err := Read("a.yaml", []byte(data))
		if err != nil {
			t.Errorf("%q: %v", data, err)
			return
		}
		if got := string(documents[0].Value); got != want {
			t.Errorf("%q: value %s, want %s", data, got, want)
		}
	}
	f("name: shop\nowner: a <b> & \"c\"\nkind: Service\n", `{"name":"shop","owner":"a <b> & \"c\"","kind":"Service"}`)
	f(service("ban: {max_ratio: 1E-1, bad_codes: {503: 0.50}}"), `{"kind":"Service","name":"shop","ban":{"max_ratio":1E-1,"bad_codes":{"503":0.50}}}`)
	f(service("routes: []", "connections: {keepalive: true}"), `{"kind":"Service","name":"shop","routes":[],"connections":{"keepalive":true}}`)
	f(service("owner: >-", "  two", "  lines"), `{"kind":"Service","name":"shop","owner":"two lines"}`)
	for _, d := range designDocuments(t) {
		sameFromValue(t, d)
	}
}

// sameFromValue checks that what a document stores in etcd reads back as the same.
func sameFromValue(t *testing.T, d Document) {
	t.Helper()
	switch d.Kind {
	case KindService:
		back, warnings, err := ParseService(d.Name, d.Value)
		if err != nil || warnings != nil || !reflect.DeepEqual(back, d.Service) {
			t.Errorf("%s reads back as %+v, want %+v; warnings %v, error %v", d.Value, back, d.Service, warnings, err)
		}
	case KindTopology:
		back, warnings, err := ParseTopology(d.Value)
		if err != nil || warnings != nil || !reflect.DeepEqual(back, d.Topology) {
			t.Errorf("%s reads back as %+v, want %+v; warnings %v, error %v", d.Value, back, d.Topology, warnings, err)
		}
	case KindInstances:
		for i := range d.Instances.Instances {
			sameFromJSON(t, &d.Instances.Instances[i])
		}
	}
}

// sameFromJSON checks that an instance reads back from its own value as the same.
func sameFromJSON(t *testing.T, instance *Instance) {
	t.Helper()
	want := *instance
	if len(want.Labels) == 0 {
		want.Labels = nil // an empty mapping isn't written
	}
	back, warnings, err := ParseInstance(instance.Address.String(), instance.JSON())
	if err != nil || warnings != nil || !reflect.DeepEqual(*back, want) {
		t.Errorf("%s reads back as %+v, want %+v; warnings %v, error %v", instance.JSON(), back, want, warnings, err)
	}
}

func TestExampleIsTheDesigns(t *testing.T) {
	data, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// Every field of every type occurs in the example, so that none is forgotten by the tests that rest on it.
	for _, v := range []any{Service{}, Route{}, Match{}, Split{}, IDCWeight{}, Balance{}, Connections{}, Timeouts{}, TimeoutSet{},
		Retries{}, RetrySet{}, Hedge{}, Ban{}, RequestBan{}, DeviationBan{}, Probe{}, Webhook{}, Check{}, Fuse{}, Drop{},
		CallerOverride{}, TLS{}, Instances{}, Instance{}, Topology{}, IDC{}} {
		for _, name := range fieldsOf(reflect.TypeOf(v)) {
			if !strings.Contains(string(data), name+":") {
				t.Errorf("%T: the example has no %s", v, name)
			}
		}
	}
}
