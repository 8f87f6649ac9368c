package store

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ufc-mesh/ufc/shared/model"
)

// What is refused may be large: keys and values of etcd's limit, with as many faults as there is room for. What is kept of
// it is small, and still tells one from the other.
func TestRefusedIsShort(t *testing.T) {
	const root = "/ufc/v1/config/"
	d := newDecoder(newKeyspace("/ufc/v1"), newWarnings(quiet))
	f := func(key, value, want string) model.Record {
		t.Helper()
		record := d.put([]byte(root+key), []byte(value), 7)
		if record.Err == nil || !strings.Contains(record.Err.Error(), want) {
			t.Fatalf("%.100q: error %v, want %s", key, record.Err, want)
		}
		if len(record.Err.Error()) > maxBrief+60 || len(record.Name) > maxShown || len(record.Address) > maxShown {
			t.Errorf("%.100q: name of %d bytes, address of %d, error of %d", key, len(record.Name), len(record.Address), len(record.Err.Error()))
		}
		if gone := d.deleted([]byte(root+key), 8); gone.Kind != record.Kind || gone.Name != record.Name || gone.Address != record.Address {
			t.Errorf("%.100q: is %q %q, deleted %q %q", key, record.Name, record.Address, gone.Name, gone.Address)
		}
		return record
	}
	long := strings.Repeat("x", 1<<20)
	one, two := f(long+"1", "", "is neither"), f(long+"2", "", "is neither")
	if one.Name == two.Name {
		t.Errorf("two keys are both %q", one.Name)
	}
	f("services/"+long, "{}", "is not a name")
	f("services/"+strings.Repeat("ä", 1<<10)+"\xff", "{}", "is not a name")
	f("instances/shop/"+long, "{}", "not an address")
	f("instances/"+long+"/"+long, "{}", "is not a name")
	f("bans/shop/"+long, "{}", "not an address")
	f("services/shop", strings.Repeat("[", 1<<20), "not JSON")
	f("services/shop", strings.Repeat(`{"ban":`, 1<<10)+"1"+strings.Repeat("}", 1<<10), "nested deeper")
	f("instances/shop/10.0.0.1:80", `{"address":"10.0.0.1:80","idc":"`+long+`"}`, "over the limit")
	f("instances/shop/10.0.0.1:80", "\xff\xfe", "not UTF-8")

	record := f("services/shop", `{"kind":"Service","name":"shop","drop":[1`+strings.Repeat(",1", 1000)+`]}`, "drop[0]: 1 is not a mapping")
	if !strings.Contains(record.Err.Error(), "more bytes of it are left out") || !utf8.ValidString(record.Err.Error()) {
		t.Errorf("the error is %q", record.Err)
	}
}

// A newer version's field in all values, and values that change all the time, make a bounded number of lines.
func TestWarningsAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logText
		warned := newWarnings(slog.New(slog.NewTextHandler(&log, nil)))
		problems := model.Problems{{Message: strings.Repeat("unknown field ", 1000)}}
		for n := range 6000 { // a minute
			time.Sleep(10 * time.Millisecond)
			warned.report("key", int64(n), brief(problems))
			warned.flush()
		}
		text := log.String()
		if lines := strings.Count(text, "\n"); lines < 60 || lines > 60+maxWarnings+7 || len(text) > lines*(maxBrief+300) {
			t.Errorf("%d lines in a minute, %d bytes", lines, len(text))
		}
		if got := strings.Count(text, "more configuration records"); got < 5 || got > 7 {
			t.Errorf("%d lines tell of what is left out", got)
		}
	})
}

// FuzzDecode checks that any key with any value is a record or a refusal that is short, and that its deletion is of the same.
func FuzzDecode(f *testing.F) {
	for _, key := range []string{
		"services/a", "instances/a/10.0.0.1:80", "bans/a/10.0.0.1:80", "topology", "", "/", "x", "instances/a/[::1%25]:1", "services/\xff",
		"instances/" + strings.Repeat("a", 1000) + "/" + strings.Repeat("b", 1000),
	} {
		for _, value := range []string{"", "{", `{"address":"10.0.0.1:80"}`, `{"kind":"Service","name":"a","x":1}`, `{"kind":"Topology"}`, "{}"} {
			f.Add([]byte(key), []byte(value))
		}
	}
	d := newDecoder(newKeyspace("/ufc/v1"), newWarnings(quiet))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		whole := append([]byte("/ufc/v1/config/"), key...)
		record := d.put(whole, value, 7)
		filled := 0
		for _, there := range []bool{record.Service != nil, record.Instance != nil, record.Topology != nil, record.Ban != nil} {
			if there {
				filled++
			}
		}
		if (record.Err == nil) != (filled == 1) || record.Err != nil && (filled > 0 || len(record.Err.Error()) > maxBrief+60) ||
			len(record.Name) > maxShown || len(record.Address) > maxShown {
			t.Errorf("%q %q: %+v", key, value, record)
		}
		if record.Err == nil && d.parser.of(record.Kind, record.Name, record.Address) != string(whole) {
			t.Errorf("%q is the record of another key: %+v", key, record)
		}
		gone := d.deleted(whole, 8)
		if gone.Kind != record.Kind || gone.Name != record.Name || gone.Address != record.Address || gone.Err != nil || !gone.Deleted {
			t.Errorf("%q: put %+v, deleted %+v", key, record, gone)
		}
	})
}
