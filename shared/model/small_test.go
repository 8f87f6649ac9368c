package model

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	type holder struct{ D Duration }
	text, err := json.Marshal(holder{Duration(90 * time.Second)})
	if err != nil || string(text) != `{"D":"1m30s"}` {
		t.Fatalf("%s, error %v", text, err)
	}
	var back holder
	if err := json.Unmarshal(text, &back); err != nil || back.D.Std() != 90*time.Second {
		t.Errorf("%v, error %v", back.D, err)
	}
	if err := json.Unmarshal([]byte(`{"D":"5 s"}`), &back); err == nil || err.Error() != `"5 s" is not a duration such as 300ms, 5s or 10m` {
		t.Errorf("error %v", err)
	}
}

func TestServing(t *testing.T) {
	for _, c := range []struct {
		state  State
		weight int
		want   bool
	}{{Up, 100, true}, {Up, 0, false}, {Drain, 100, false}, {Down, 100, false}} {
		if got := (&Instance{State: c.state, Weight: c.weight}).Serving(); got != c.want {
			t.Errorf("%s, weight %d: %v, want %v", c.state, c.weight, got, c.want)
		}
	}
}

// Names and values come from strangers: none may add a line to the log, or fill it.
func TestProblemIsOneShortLine(t *testing.T) {
	long := strings.Repeat("ä", 10_000)
	problem := Problem{File: "a\nb" + long, Line: 1, Document: "service " + quote("x\ny"+long), Path: "a\n" + long, Message: "m"}
	text := problem.Error()
	if strings.ContainsAny(text, "\n\x00") || len(text) > 1000 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	_, _, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop","level":1`+strings.Repeat("0", 10_000)+`,"routes":[{"match":{"headers":{"a\n`+long+`":{}}}}]}`))
	if err == nil || len(err.Error()) > 2000 || strings.Count(err.Error(), "\n") != len(err.(Problems))-1 {
		t.Errorf("error %v", err)
	}
}

func TestSurrogates(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		if got := loneSurrogate([]byte(`"`+text+`"`)) < 0; got != want {
			t.Errorf("%s: accepted %v, want %v", text, got, want)
		}
	}
	f(`\ud83d\ude00`, true)
	f(`\uD83D\uDE00\uDBFF\uDFFF`, true)
	f(`\ud55c\u0064`, true) // Hangul lies right below the surrogates
	f(`\\ud83d`, true)
	f(`\\\ud83d`, false)
	f(`\ud83d`, false)
	f(`\ud83d\ud83d\ude00`, false)
	f(`\ude00\ud83d`, false)
	f(`\ud83dx\ude00`, false)
}

// A document that etcd would refuse is refused before anything is written.
func TestReadTooLargeDocument(t *testing.T) {
	var routes []string
	for range 15_000 {
		routes = append(routes, `- {match: {methods: [`+strings.Repeat("GET, ", 20)+`GET]}}`)
	}
	_, err := Read("f.yaml", []byte(service("routes:\n"+strings.Join(routes, "\n"))))
	if err == nil || !strings.HasSuffix(err.Error(), "bytes as JSON, over the limit of 1048576") {
		t.Errorf("error %v", err)
	}
}
