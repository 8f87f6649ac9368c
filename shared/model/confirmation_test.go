package model

import (
	"strings"
	"testing"
	"time"
)

func TestParseConfirmation(t *testing.T) {
	noon := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	f := func(value string, want Confirmation) {
		t.Helper()
		got, warnings, err := ParseConfirmation("", []byte(value))
		if err != nil || len(warnings) > 0 || *got != want {
			t.Errorf("%s: %+v, %v, %v", value, got, warnings, err)
		}
	}
	f(`{"revision":7}`, Confirmation{Revision: 7})
	f(`{"revision":9007199254740993,"services":2,"instances":30,"by":"me@host","at":"`+since+`"}`,
		Confirmation{Revision: 9007199254740993, Services: 2, Instances: 30, By: "me@host", At: noon})

	got, warnings, err := ParseConfirmation("shop", []byte(`{"revision":7,"kind":"Confirm","x":1}`))
	if got == nil || err != nil || len(warnings) != 2 {
		t.Errorf("fields of a newer version: %+v, %v, %v", got, warnings, err)
	}
	refused := func(value, want string) {
		t.Helper()
		got, _, err := ParseConfirmation("shop", []byte(value))
		if got != nil || err == nil || err.Error() != `confirmation of service "shop": `+want {
			t.Errorf("%s: %+v, error %v, want %s", value, got, err, want)
		}
	}
	refused(`{}`, "revision: 0 is under 1")
	refused(`7`, "7 is not a mapping")
	refused(`{"revision":"7","by":7}`, `revision: "7" is not a number`+"\n"+`confirmation of service "shop": by: 7 is not a text: put it in quotes`)
	refused(`{"revision":7,"services":-1}`, "services: -1 is under 0")
	refused(`{"revision":7,"instances":-1}`, "instances: -1 is under 0")
	refused(`{"revision":7,"by":"a\nb"}`, `by: "a\nb" holds a control character`)
}

// FuzzParseConfirmation checks that what is read can be written, and read again as the same.
func FuzzParseConfirmation(f *testing.F) {
	for _, seed := range []string{``, `{}`, `{"revision":1}`, `{"revision":1e3,"by":"` + strings.Repeat("<", maxText) + `"}`, `{"revision":1,"at":"` + until + `"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		read, _, err := ParseConfirmation("a", value)
		if err != nil {
			return
		}
		again, warnings, err := ParseConfirmation("a", read.JSON())
		if err != nil || warnings != nil || *again != *read {
			t.Errorf("read %+v, wrote it, read %+v, %v, %v", read, again, warnings, err)
		}
	})
}
