package model

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// FuzzRead checks that nothing crashes, that a document's value means the same as the document, and that JSON means the
// same whether it is read as JSON or as YAML.
func FuzzRead(f *testing.F) {
	example, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{
		"", "null", "[]", "---\n---\n", "%YAML 1.2\n---\nkind: Topology\n", "kind: Topology\n# foot\n\n---\nkind: Service\nname: a\n",
		service("timeouts: &a", "  normal: {read: 1s}", "owner: *a"), service("a: &a [*a]"), bomb(8),
		service("ban: {bad_codes: {503: .5, on: yes}}"), service("? - a", ": - b"), service("<<: {}", "owner: !!binary aGk="),
		service("owner: |", "  a", "  b"), service("owner: \"\\ud83d\\ude00\""), service("# c", "level: 017 # d", "# e"),
		"kind: Instances\nservice: a\ninstances:\n- {address: '[2001:db8::1]:80', labels: {a.b: \"\\0\"}}\n- address: 10.0.0.1:80\n  weight: 1_0\n",
		`{"kind":"Service","name":"a","owner":"\ud83d\ude00\/","level":1}` + "\n" + `{"kind":"Topology"}`,
		`{"kind":"Service","name":"a","routes":[{"match":{"headers":{"X.A":{"regex":"("}}},"split":[{"weight":0}]}]}`,
		"{\"kind\":\t\"Topology\",\"idcs\":{\"a\":{\"logical\":\"b\"}},\"drained\":[\"a\"]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		documents, err := Read("f.yaml", data)
		if err != nil {
			if err.Error() == "" || strings.Count(err.Error(), "\n")+1 != len(err.(Problems)) {
				t.Errorf("%d problems, not each on a line:\n%v", len(err.(Problems)), err)
			}
			return
		}
		for _, d := range documents {
			sameFromValue(t, d)
		}
		asYAML, err := readYAML(data)
		if err != nil || !isJSON(data) || len(asYAML) != len(documents) {
			return
		}
		for i, root := range asYAML {
			document, ok := readDocument(root, &report{file: "f.yaml"})
			document.Line = documents[i].Line
			if ok && !reflect.DeepEqual(document, documents[i]) {
				t.Errorf("as YAML %+v, as JSON %+v", document, documents[i])
			}
		}
	})
}

// FuzzParseService checks that a value of etcd and a file with the same text mean the same.
func FuzzParseService(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"kind":"Service","name":"a"}`, `{"kind":"Service","name":"b"}`, `{"name":"a","kind":"Service","x":1}`,
		`{"kind":"Service","name":"a","level":5,"owner":"\ud83d\ude00","hedge":{},"ban":{"requests":{"of":64},"bad_codes":{"503":1e-1}}}`,
		`{"kind":"Service","name":"a","routes":[{"match":{"percent":5,"headers":{"a":{"present":true}}},"split":[{"labels":{"a":"b"}}]}]}`,
		`{"kind":"Service","name":"a","callers":[{"match":["*"],"timeouts":{"normal":{"read":"1s"}}}],"drop":[{"callers":["a"]}]}`,
		`{"kind":"Service","name":"a","kind":"Service"}`, `{"kind":"Service","name":"a","level":1.0}`, `{"kind":"Service","name":"a","ban":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		service, warnings, err := ParseService("a", value)
		if (service == nil) != (err != nil) {
			t.Fatalf("service %+v, error %v", service, err)
		}
		documents, fileErr := Read("f.json", value)
		if err != nil || warnings != nil {
			if fileErr == nil && !slices.ContainsFunc(documents, func(d Document) bool { return d.Kind != KindService || d.Name != "a" }) && len(documents) == 1 {
				t.Errorf("a file holds it, etcd not: warnings %v, error %v", warnings, err)
			}
			return
		}
		if fileErr != nil || len(documents) != 1 || !reflect.DeepEqual(documents[0].Service, service) {
			t.Errorf("etcd %+v, file %+v, error %v", service, documents, fileErr)
		}
		if !json.Valid(value) {
			t.Error("it is no JSON")
		}
	})
}

// FuzzParseInstance checks the fast way against the strict one: what the first reads, the second reads just so; and it
// does read what JSON writes of ordinary instances.
func FuzzParseInstance(f *testing.F) {
	const address = "10.0.0.1:80"
	for _, seed := range []string{
		``, `{}`, `{"address":"10.0.0.1:80"}`, ` {"address" : "10.0.0.1:80" , "weight":0}`, `{"address":"10.0.0.1:80","weight":00}`,
		`{"address":"10.0.0.1:80","idc":"bj-a","weight":100,"labels":{"version":"v1"},"state":"up"}`,
		`{"address":"10.0.0.1:80","labels":{"a":"}","b":"c"},"state":"drain"}`, `{"address":"10.0.0.1:80","labels":{}}`,
		`{"address":"10.0.0.1:80","labels":{"a":"b","a":"c"}}`, `{"address":"10.0.0.1:80","labels":{"a":"b",}}`,
		`{"address":"10.0.0.1:80","address":"10.0.0.1:80"}`, `{"address":"10.0.0.1:80","Weight":5}`, `{"address":"10.0.0.1:80","weight":1e2}`,
		`{"address":"10.0.0.1:80","idc":"\u0061"}`, `{"address":"10.0.0.1:80","idc":null}`, `{"address":"10.0.0.1:80","idc":""}`,
		`{"address":"10.0.0.1:80","state":"down","weight":1000001}`, `{"address":"10.0.0.1:80","weight":999999999999}`, `{"address":"10.0.0.1:80"}x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		original := bytes.Clone(value)
		// Twice, since the second time it may find what the first one shared.
		for range 2 {
			fast := plainInstance(address, value)
			strict, warnings, err := strictInstance(address, value)
			if fast != nil && (err != nil || warnings != nil || !reflect.DeepEqual(fast, strict)) {
				t.Fatalf("the fast way reads %+v, the strict one %+v, warnings %v, error %v", fast, strict, warnings, err)
			}
			if strict != nil {
				sameFromJSON(t, strict)
			}
		}
		if !bytes.Equal(value, original) {
			t.Fatal("the value was changed")
		}
	})
}

// The fast way is worth its lines only as long as it takes what instances really write.
func TestPlainTakesWhatIsWritten(t *testing.T) {
	for _, d := range designDocuments(t) {
		if d.Instances == nil {
			continue
		}
		for i := range d.Instances.Instances {
			instance := &d.Instances.Instances[i]
			if plainInstance(instance.Address.String(), instance.JSON()) == nil {
				t.Errorf("%s isn't plain", instance.JSON())
			}
		}
	}
}

// FuzzParseTopology checks that a value of etcd and a file with the same text mean the same.
func FuzzParseTopology(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"kind":"Topology"}`, `{"kind":"Topology","x":1}`, `{"kind":"Topology","drained":["a"]}`,
		`{"kind":"Topology","idcs":{"a":{"logical":"b"}},"routes":{"b":[{"to":"b","weight":1}]},"drained":["a"]}`,
		`{"kind":"Topology","idcs":{"a":{"logical":"b"},"a":{}}}`, `{"kind":"Topology","routes":{"":[]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		topology, warnings, err := ParseTopology(value)
		if (topology == nil) != (err != nil) {
			t.Fatalf("topology %+v, error %v", topology, err)
		}
		documents, fileErr := Read("f.json", value)
		if err != nil || warnings != nil {
			if fileErr == nil && len(documents) == 1 && documents[0].Kind == KindTopology {
				t.Errorf("a file holds it, etcd not: warnings %v, error %v", warnings, err)
			}
			return
		}
		if fileErr != nil || len(documents) != 1 || !reflect.DeepEqual(documents[0].Topology, topology) {
			t.Errorf("etcd %+v, file %+v, error %v", topology, documents, fileErr)
		}
	})
}

// FuzzWithoutWebhook checks that what the snapshot holds of a service is the service, but for its webhook.
func FuzzWithoutWebhook(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"Service","name":"a","ban":{"webhook":{"url":"http://a"}}}`, `{"kind":"Service","name":"a","x":[1.50,null],"ban":{"y":{}}}`,
		`{"kind":"Service","name":"a","ban":{"\u0077ebhook":{"url":"http://a"},"duration":"20s"},"owner":"\ud83d\ude00<"}`,
		`{"kind":"Service","name":"a","ban":{"webhook0":"","webhook":{"url":"http://a","x":1}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		service, warnings, err := ParseService("a", value)
		if err != nil {
			return
		}
		kept, left, err := ParseService("a", WithoutWebhook(value))
		service.Ban.Webhook = nil
		webhooks := func(p Problem) bool { return covers("ban.webhook", p.Path) }
		if err != nil || !reflect.DeepEqual(kept, service) || len(left) != len(slices.DeleteFunc(warnings, webhooks)) {
			t.Errorf("%s became %s: %+v, not %+v, %v, %v", value, WithoutWebhook(value), kept, service, left, err)
		}
	})
}
