package caddyufc

import (
	"encoding/json"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestToYAML(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		got, err := toYAML([]byte(value))
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nnot\n%s", value, err, got, want)
		}
	}
	f(`{"kind":"Service","name":"a","retries":{"normal":{"attempts":0,"when":["connect","read"]}},"level":2}`,
		"kind: Service\nname: a\nretries:\n  normal:\n    attempts: 0\n    when:\n      - connect\n      - read\nlevel: 2\n")
	f(`{"text":["1","true","null","~","yes","0x1f","1e5","","a: b","#","- a"," a","*a","\ud83d\ude00"]}`,
		"text:\n  - \"1\"\n  - \"true\"\n  - \"null\"\n  - \"~\"\n  - yes\n  - \"0x1f\"\n  - \"1e5\"\n  - \"\"\n"+
			"  - 'a: b'\n  - '#'\n  - '- a'\n  - ' a'\n  - '*a'\n  - \"\\U0001F600\"\n")
	f(`{"plain":[1,-0.5,1e5,true,false,null],"none":[],"empty":{}}`,
		"plain:\n  - 1\n  - -0.5\n  - 1e5\n  - true\n  - false\n  - null\nnone: []\nempty: {}\n")
	for _, broken := range []string{"", "{", `{"a":}`, `[1`} {
		if got, err := toYAML([]byte(broken)); err == nil {
			t.Errorf("%q gave %q", broken, got)
		}
	}
}

// FuzzToYAML checks that texts come back from YAML as they were, whatever is in them.
func FuzzToYAML(f *testing.F) {
	for _, text := range []string{"", "a", "1", "on", "a\nb\n", "\n", " a\n b", "\t", "a\r\nb", "\x00", "é\u2028", "|", "\ufeff", "- a: b"} {
		f.Add(text, text)
	}
	f.Fuzz(func(t *testing.T, key, text string) {
		value, err := json.Marshal(map[string]string{key: text})
		if err != nil {
			t.Skip()
		}
		var want map[string]string // what isn't UTF-8 has been replaced
		if err := json.Unmarshal(value, &want); err != nil {
			t.Fatal(err)
		}
		written, err := toYAML(value)
		if err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		var got map[string]string
		if err := yaml.Unmarshal(written, &got); err != nil {
			t.Fatalf("%s\n%s: %v", value, written, err)
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%s: %q became %q in\n%s", value, v, got[k], written)
			}
		}
	})
}
