package model

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	since = "2026-01-02T15:04:05Z"
	until = "2026-01-02T16:04:05+01:00" // the same moment in another zone
)

func TestParseBan(t *testing.T) {
	noon := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	f := func(value string, want HandBan) {
		t.Helper()
		ban, warnings, err := ParseBan("shop", "10.0.0.1:80", []byte(value))
		if err != nil || len(warnings) > 0 || !reflect.DeepEqual(*ban, want) {
			t.Errorf("%s: %+v, %v, %v", value, ban, warnings, err)
		}
	}
	f(`{}`, HandBan{})
	f(`{"by":"me@host","reason":"disk","since":"`+since+`"}`, HandBan{By: "me@host", Reason: "disk", Since: noon})
	f(`{"since":"`+since+`","until":"`+until+`"}`, HandBan{Since: noon, Until: noon})

	ban, warnings, err := ParseBan("shop", "10.0.0.1:80", []byte(`{"kind":"Ban","bye":"me"}`))
	if ban == nil || err != nil || len(warnings) != 2 {
		t.Errorf("fields of a newer version: %+v, %v, %v", ban, warnings, err)
	}
}

func TestParseBanRefuses(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		ban, _, err := ParseBan("shop", "10.0.0.1:80", []byte(value))
		if ban != nil || err == nil || err.Error() != `ban of "10.0.0.1:80" of service "shop": `+want {
			t.Errorf("%s: %+v, error %v, want %s", value, ban, err, want)
		}
	}
	f(`[]`, `a list is not a mapping`)
	f(`{"until":null}`, `until: is null: give it a value, or leave it out`)
	f(`{"until":"tomorrow"}`, `until: "tomorrow" is not a time such as 2026-01-02T15:04:05Z`)
	f(`{"until":5}`, `until: 5 is not a time such as 2026-01-02T15:04:05Z`)
	f(`{"since":"0001-01-01T00:00:00Z"}`, `since: "0001-01-01T00:00:00Z" is not between the years 1970 and 9999`)
	f(`{"until":"9999-12-31T23:59:59-01:00"}`, `until: "9999-12-31T23:59:59-01:00" is not between the years 1970 and 9999`)
	f(`{"since":"`+since+`","until":"2026-01-02T15:04:04Z"}`,
		`until: 2026-01-02T15:04:04Z is before since, 2026-01-02T15:04:05Z`)
	f(`{"reason":"a\nb"}`, `reason: "a\nb" holds a control character`)
	f(`{"by":7}`, `by: 7 is not a text: put it in quotes`)
	if _, _, err := ParseBan("s", "a", bytes.Repeat([]byte(" "), maxBan+1)); err == nil || !strings.Contains(err.Error(), "over the limit") {
		t.Errorf("a huge value: %v", err)
	}
}

func TestParseToldBan(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		_, _, err := ParseToldBan("shop", "10.0.0.1:80", []byte(value))
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", value, err, want)
		}
	}
	f(`{"agent":"a","until":"`+until+`"}`, "")
	f(`{"agent":"a","reason":"proof","since":"`+since+`","until":"`+until+`","detail":"connection refused"}`, "")
	f(`{"until":"`+until+`"}`, "agent: is missing")
	f(`{"agent":"a"}`, "until: is missing")
	f(`{"agent":"a","until":"`+until+`","detail":"`+strings.Repeat("x", maxText+1)+`"}`, "is longer than 1024 bytes")
}

func TestBanInForce(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	f := func(until time.Time, want bool) {
		t.Helper()
		if got := (&HandBan{Until: until}).InForce(now); got != want {
			t.Errorf("until %v: %v", until, got)
		}
	}
	f(time.Time{}, true)
	f(now.Add(1), true)
	f(now, false)
}

func TestBanValid(t *testing.T) {
	address := netip.MustParseAddrPort("10.0.0.1:80")
	if err := (&HandBan{Reason: "disk"}).Valid("shop", address); err != nil {
		t.Error(err)
	}
	if err := (&HandBan{Reason: "\a"}).Valid("shop", address); err == nil || !strings.Contains(err.Error(), "reason: ") {
		t.Errorf("a bell: %v", err)
	}
}

func TestTidyBan(t *testing.T) {
	late := time.Date(2026, 1, 2, 16, 4, 5, 999_999, time.FixedZone("", 3600))
	f := func(text, want string) {
		t.Helper()
		got := ToldBan{Agent: "a\n", Reason: text, Detail: text, Since: late, Until: late}.Tidy()
		noon := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
		if got != (ToldBan{Agent: "a ", Reason: want, Detail: want, Since: noon, Until: noon}) {
			t.Errorf("%q became %+v", text, got)
		}
		if read, _, err := ParseToldBan("shop", "10.0.0.1:80", got.JSON()); err != nil || *read != got {
			t.Errorf("%+v was read as %+v, %v", got, read, err)
		}
	}
	f("", "")
	f("refused", "refused")
	f("a\x00b\u0085c", "a b c")
	f("a\xff", "a?")
	f(strings.Repeat("x", maxText+1), strings.Repeat("x", maxText))
	f(strings.Repeat("x", maxText-1)+"é", strings.Repeat("x", maxText-1))
}

// The largest ban that the rules allow must be one that can be read.
func TestLargestBan(t *testing.T) {
	worst := strings.Repeat("<", maxText)
	ban := &ToldBan{Agent: worst, Reason: worst, Detail: worst, Until: time.Date(2026, 1, 2, 15, 4, 5, 9, time.UTC)}
	read, _, err := ParseToldBan("shop", "10.0.0.1:80", ban.JSON())
	if err != nil || *read != *ban {
		t.Errorf("%d bytes: %v", len(ban.JSON()), err)
	}
}

// FuzzParseBan checks that what is read of either kind can be written, and read again as the same.
func FuzzParseBan(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `{"by":"me","reason":"\ud83d\ude00","since":"` + since + `","until":"` + until + `"}`, `{"until":""}`,
		`{"agent":"a","until":"` + until + `","x":1}`, `{"agent":"a","until":"9999-12-31T23:59:59.999999999+00:00"}`,
		`{"since":"2026-01-02T15:04:05,5Z"}`, `{"since":"2026-01-02t15:04:05z"}`, `{"by":"a","by":"b"}`, `{"until":"0000-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if ban, _, err := ParseBan("a", "10.0.0.1:80", value); err == nil {
			again, warnings, err := ParseBan("a", "10.0.0.1:80", ban.JSON())
			if err != nil || warnings != nil || *again != *ban {
				t.Errorf("read %+v, wrote it, read %+v, %v, %v", ban, again, warnings, err)
			}
		}
		if ban, _, err := ParseToldBan("a", "10.0.0.1:80", value); err == nil {
			again, warnings, err := ParseToldBan("a", "10.0.0.1:80", ban.JSON())
			if err != nil || warnings != nil || *again != *ban {
				t.Errorf("read %+v, wrote it, read %+v, %v, %v", ban, again, warnings, err)
			}
		}
	})
}
