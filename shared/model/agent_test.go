package model

import (
	"strings"
	"testing"
	"time"
)

func TestParseAgent(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		_, _, err := ParseAgent("a1", []byte(value))
		if (err == nil) != (want == "") || err != nil && err.Error() != `agent "a1": `+want {
			t.Errorf("%s: error %v, want %s", value, err, want)
		}
	}
	f(`{"host":"h","written":"`+since+`"}`, "")
	f(`{"host":"h","idc":"bj-a","face":"caddy","version":"v1","synced":true,"revision":7,"age":"4.5s","services":1,"instances":2,`+
		`"started":"`+until+`","written":"`+since+`"}`, "") // a clock was set back
	f(`{"host":"h"}`, "written: is missing")
	f(`{"written":"`+since+`","age":"-1s"}`, "age: -1s is negative")
	f(`{"written":"`+since+`","revision":-1}`, "revision: -1 is negative")
	f(`{"written":"`+since+`","host":"a\u0007"}`, `host: "a\a" holds a control character`)
	if _, _, err := ParseAgent("a1", []byte(`{"host":"`+strings.Repeat("x", maxAgent)+`"}`)); err == nil {
		t.Error("a huge value passed")
	}
	if _, warnings, err := ParseAgent("a1", []byte(`{"written":"`+since+`","mood":"good"}`)); err != nil || len(warnings) != 1 {
		t.Errorf("of a later version: %v, %v", warnings, err)
	}
}

func TestTidyAgent(t *testing.T) {
	late := time.Date(2026, 1, 2, 16, 4, 5, 999_999, time.FixedZone("", 3600))
	got := Agent{Host: "a\n", Version: strings.Repeat("v", maxText+1), Age: 1_500_001, Started: late, Written: late, Revision: 7}.Tidy()
	noon := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	if got != (Agent{Host: "a ", Version: strings.Repeat("v", maxText), Age: 1_000_000, Started: noon, Written: noon, Revision: 7}) {
		t.Errorf("%+v", got)
	}
	if read, warnings, err := ParseAgent("a1", got.JSON()); err != nil || warnings != nil || *read != got {
		t.Errorf("%+v was read as %+v, %v, %v", got, read, warnings, err)
	}
}

// FuzzParseAgent checks that what is read can be written, and read again as the same.
func FuzzParseAgent(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"host":"h","written":"` + since + `"}`, `{"written":"` + since + `","age":"1h","revision":9,"synced":true}`,
		`{"written":"` + since + `","age":"-0s"}`, `{"written":"` + since + `","age":"2562047h47m16.854775807s","host":"\ud83d\ude00"}`,
		`{"written":"` + since + `","revision":9223372036854775807,"services":-1,"started":"1970-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		agent, _, err := ParseAgent("a", value)
		if err != nil {
			return
		}
		again, warnings, err := ParseAgent("a", agent.JSON())
		if err != nil || warnings != nil || *again != *agent {
			t.Errorf("read %+v, wrote it, read %+v, %v, %v", agent, again, warnings, err)
		}
	})
}
