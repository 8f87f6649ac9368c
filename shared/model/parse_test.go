package model

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

func TestParseInstance(t *testing.T) {
	const address = "10.0.0.1:8080"
	f := func(value string, want Instance) {
		t.Helper()
		want.Address = netip.MustParseAddrPort(address)
		got, warnings, err := ParseInstance(address, []byte(value))
		if err != nil || warnings != nil {
			t.Errorf("%s: warnings %v, error %v", value, warnings, err)
			return
		}
		equal(t, *got, want)
		strict, _, err := strictInstance(address, []byte(value))
		if err != nil || !reflect.DeepEqual(got, strict) {
			t.Errorf("%s: the strict decoder reads %+v, error %v", value, strict, err)
		}
	}
	f(`{"address":"10.0.0.1:8080"}`, Instance{Weight: 100, State: Up})
	f(`{"address":"10.0.0.1:8080","weight":0}`, Instance{State: Up})
	f(` { "state" : "drain" , "address" : "10.0.0.1:8080" , "weight" : 1000000 } `+"\n", Instance{Weight: 1000000, State: Drain})
	f(`{"address":"10.0.0.1:8080","idc":"bj-a","labels":{"version":"v1","zone":"}"},"state":"down"}`,
		Instance{IDC: "bj-a", Weight: 100, Labels: map[string]string{"version": "v1", "zone": "}"}, State: Down})
	f(`{"address":"10.0.0.1:8080","labels":{}}`, Instance{Weight: 100, Labels: map[string]string{}, State: Up})
	// What only the strict decoder reads.
	f(`{"address":"10.0.0.1:8\u003080","labels":{"a":"\ud83d\ude00","\"":"ä"}}`,
		Instance{Weight: 100, Labels: map[string]string{"a": "😀", `"`: "ä"}, State: Up})
	f(`{"address":"10.0.0.1:8080","weight":-0}`, Instance{State: Up})
}

func TestParseInstanceWarnings(t *testing.T) {
	got, warnings, err := ParseInstance("10.0.0.1:80", []byte(`{"address":"10.0.0.1:80","wieght":5,"zone":{"a":[1]}}`))
	if err != nil || got.Weight != 100 {
		t.Fatalf("read %+v, error %v", got, err)
	}
	want := []string{
		`instance "10.0.0.1:80": wieght: unknown field, did you mean "weight"?`,
		`instance "10.0.0.1:80": zone: unknown field`,
	}
	if len(warnings) != 2 || warnings[0].Error() != want[0] || warnings[1].Error() != want[1] {
		t.Errorf("warnings %v, want %v", warnings, want)
	}
}

func TestParseInstanceRefused(t *testing.T) {
	f := func(value string, want ...string) {
		t.Helper()
		got, _, err := ParseInstance("10.0.0.1:80", []byte(value))
		if got != nil {
			t.Errorf("%s is read as %+v", value, got)
		}
		if got := lines(t, err, `instance "10.0.0.1:80": `); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", value, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	const here = `"address":"10.0.0.1:80"`
	f(``, "not JSON: unexpected end of JSON input")
	f(`{`+here+`}}`, "not JSON: invalid character '}' after top-level value")
	f(`{`+here+`} {}`, "not JSON: invalid character '{' after top-level value")
	f(`{`+here+`,}`, "not JSON: invalid character '}' looking for beginning of object key string")
	f(`{`+here+`,"weight":01}`, "not JSON: invalid character '1' after object key:value pair")
	f(`{`+here+`,"weight":NaN}`, "not JSON: invalid character 'N' looking for beginning of value")
	f("{"+here+",\"idc\":\"a\nb\"}", `not JSON: invalid character '\n' in string literal`)
	f("{"+here+",\"idc\":\"\xc3\"}", "not UTF-8")
	f(`{`+here+`,"labels":{"a":"\ud83d"}}`, "half of a surrogate pair in a text")
	f(`{`+here+`,"labels":{"a":"\ud83d\\ude00"}}`, "half of a surrogate pair in a text")
	f(`{`+here+`,"labels":{"a":"\uDE00\uD83D"}}`, "half of a surrogate pair in a text")
	f(`[]`, "a list is not a mapping")
	f(`null`, "null is not a mapping")
	f(`{}`, "address: is missing")
	f(`{"address":"10.0.0.1:81"}`, `address: "10.0.0.1:81" is not the address in the key, "10.0.0.1:80"`)
	f(`{"Address":"10.0.0.1:80"}`, "address: is missing")
	f(`{`+here+`,`+here+`}`, "address: given twice, first on line 1")
	f(`{`+here+`,"labels":{"a":"b","\u0061":"c"}}`, "labels.a: given twice, first on line 1")
	f(`{`+here+`,"labels":null}`, "labels: is null: give it a value, or leave it out")
	f(`{`+here+`,"labels":{"a":null}}`, "labels.a: is null: give it a value, or leave it out")
	f(`{`+here+`,"labels":{"a":1}}`, "labels.a: 1 is not a text: put it in quotes")
	f(`{`+here+`,"weight":1.0}`, "weight: 1.0 is not a whole number")
	f(`{`+here+`,"weight":1e2}`, "weight: 1e2 is not a whole number")
	f(`{`+here+`,"weight":1000001}`, "weight: 1000001 is not between 0 and 1000000")
	f(`{`+here+`,"weight":"100"}`, `weight: "100" is not a number`)
	f(`{`+here+`,"state":"UP"}`, `state: "UP" is not one of up, drain, down`)
	f(`{`+here+`,"state":""}`, `state: "" is not one of up, drain, down`)
	f(`{`+here+`}`+strings.Repeat(" ", maxInstance), "65561 bytes, over the limit of 65536")
	f(`{"x":`+strings.Repeat("[", 32)+strings.Repeat("]", 32)+`}`, "nested deeper than 32 levels")

	var labels []string
	for i := range 65 {
		labels = append(labels, `"`+strings.Repeat("k", i+1)[:min(i+1, 63)]+string(rune('a'+i%26))+`":"v"`)
	}
	f(`{`+here+`,"labels":{`+strings.Join(labels[:61], ",")+`,"1":"1","2":"2","3":"3","4":"4"}}`, "labels: 65 labels are over the limit of 64")

	// A key that no instance can have is refused, though its value agrees.
	if _, _, err := ParseInstance("10.0.0.1:080", []byte(`{"address":"10.0.0.1:080"}`)); err == nil {
		t.Error("the key 10.0.0.1:080 is accepted")
	}
}

func TestParseService(t *testing.T) {
	f := func(name, value string, want ...string) {
		t.Helper()
		got, _, err := ParseService(name, []byte(value))
		if (got == nil) != (err != nil) {
			t.Errorf("%s: service %+v, error %v", value, got, err)
		}
		if got := lines(t, err, "service "+quote(name)+": "); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", value, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	f("shop", `{"kind":"Service","name":"shop"}`)
	f("shop", `{"name":"shop"}`, "kind: is missing: one of Service, Instances, Topology")
	f("shop", `{"kind":"Topology","name":"shop"}`, `kind: "Topology" is not Service`)
	f("shop", `{"kind":"Service","kind":"Service","name":"shop"}`, "kind: given twice, first on line 1")
	f("shop", `{"kind":"Service","name":"other"}`, `name: "other" is not the name in the key, "shop"`)
	f("shop", `{"kind":"Service"}`, "name: is missing")
	f("Shop", `{"kind":"Service","name":"Shop"}`, `name: "Shop" is not a name of 1-62 lower-case letters, digits and inner hyphens`)
	f("i", `{"kind":"Service","name":"i"}`, `name: "i" is reserved for the names of instances`)
	f("shop", `{"kind":"Service","name":"shop","owner":"`+strings.Repeat("x", maxValue)+`"}`, "1048619 bytes, over the limit of 1048576")
	f("shop", `[]`, "a list is not a mapping")
	f("a\nb", `{`, "not JSON: unexpected end of JSON input")
}

func TestParseServiceWarnings(t *testing.T) {
	got, warnings, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop","ban":{"max_ratoi":1},"mirror":[{"to":null}],"level":2}`))
	if err != nil || got.Level != 2 {
		t.Fatalf("read %+v, error %v", got, err)
	}
	text := Problems(warnings).Error()
	want := "service \"shop\": ban.max_ratoi: unknown field, did you mean \"max_ratio\"?\nservice \"shop\": mirror: unknown field"
	if text != want {
		t.Errorf("warnings %s, want %s", text, want)
	}
	// Warnings don't make up for errors.
	if got, warnings, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop","mirror":1,"level":9}`)); got != nil || len(warnings) != 1 || err == nil {
		t.Errorf("read %+v, warnings %v, error %v", got, warnings, err)
	}
}

func TestInstanceJSON(t *testing.T) {
	instance := DefaultInstance()
	instance.Address = netip.MustParseAddrPort("[2001:db8::1]:80")
	if got, want := string(instance.JSON()), `{"address":"[2001:db8::1]:80","weight":100,"state":"up"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	instance.IDC, instance.Labels, instance.Weight = "bj-a", map[string]string{"b": "<1>", "a": "ü"}, 0
	want := `{"address":"[2001:db8::1]:80","idc":"bj-a","weight":0,"labels":{"a":"ü","b":"\u003c1\u003e"},"state":"up"}`
	if got := string(instance.JSON()); got != want || !json.Valid([]byte(got)) {
		t.Errorf("%s, want %s", got, want)
	}
	sameFromJSON(t, &instance)
}

// Instances that have an IDC or labels in common share them: 200,000 are to fit into 100 MiB with all that is around them.
func TestParseInstanceShares(t *testing.T) {
	parse := func(address, rest string) *Instance {
		t.Helper()
		instance, _, err := ParseInstance(address, []byte(`{"address":"`+address+`",`+rest+`}`))
		if err != nil {
			t.Fatal(err)
		}
		return instance
	}
	one := parse("10.0.0.1:80", `"idc":"share-a","labels":{"version":"share-1"}`)
	two := parse("10.0.0.2:80", `"idc":"share-a","labels":{"version":"share-1"}`)
	three := parse("10.0.0.3:80", `"idc":"share-a","zone":1`)
	if unsafe.StringData(one.IDC) != unsafe.StringData(two.IDC) || unsafe.StringData(one.IDC) != unsafe.StringData(three.IDC) {
		t.Error("the IDCs are copies")
	}
	if reflect.ValueOf(one.Labels).Pointer() != reflect.ValueOf(two.Labels).Pointer() {
		t.Error("the labels are copies")
	}
}

// What is refused isn't shared, and what is shared is bounded.
func TestSharedIsBounded(t *testing.T) {
	var table shared[int]
	for i := range 3 * maxShared {
		table.put([]byte(strings.Repeat("k", 1+i%100)+string(rune('a'+i%26))+strings.Repeat("x", i/2600)), i)
		if len(table.values) > maxShared {
			t.Fatalf("%d values, limit %d", len(table.values), maxShared)
		}
	}
	table.put([]byte(strings.Repeat("k", maxSharedKey+1)), 1)
	if _, ok := table.get([]byte(strings.Repeat("k", maxSharedKey+1))); ok {
		t.Error("a long key is kept")
	}
	if plainInstance("10.0.0.1:80", []byte(`{"address":"10.0.0.1:80","idc":"Never-Valid","labels":{"never-valid":""}}`)) != nil {
		t.Error("an invalid instance is read")
	}
	if _, ok := sharedIDCs.get([]byte("Never-Valid")); ok {
		t.Error("an invalid IDC is shared")
	}
	if _, ok := sharedLabels.get([]byte(`{"never-valid":""}`)); ok {
		t.Error("invalid labels are shared")
	}
}
