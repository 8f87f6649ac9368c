package store

import (
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestKeys(t *testing.T) {
	keys := newKeyspace("/ufc/v1")
	f := func(key string, kind model.Kind, name, address string) {
		t.Helper()
		if got := keys.of(kind, name, address); got != key {
			t.Errorf("of(%s, %q, %q) = %q, want %q", kind, name, address, got, key)
		}
		parser := keyParser{keyspace: keys}
		for range 2 { // the second time the name is known
			gotKind, gotName, gotAddress, err := parser.parse([]byte(key))
			if gotKind != kind || gotName != name || gotAddress != address || err != nil {
				t.Errorf("parse(%q) = %q, %q, %q, %v", key, gotKind, gotName, gotAddress, err)
			}
		}
	}
	f("/ufc/v1/config/services/pcs-upload", model.KindService, "pcs-upload", "")
	f("/ufc/v1/config/instances/pcs-upload/10.0.0.1:8080", model.KindInstances, "pcs-upload", "10.0.0.1:8080")
	f("/ufc/v1/config/instances/x/[2001:db8::1]:1", model.KindInstances, "x", "[2001:db8::1]:1")
	f("/ufc/v1/config/topology", model.KindTopology, "", "")
	f("/ufc/v1/config/confirm", model.KindConfirm, "", "")
	f("/ufc/v1/config/confirm/pcs-upload", model.KindConfirm, "pcs-upload", "")
	f("/ufc/v1/config/bans/pcs-upload/10.0.0.1:8080", model.KindBan, "pcs-upload", "10.0.0.1:8080")
}

func TestKeysRefused(t *testing.T) {
	f := func(key, want string) {
		t.Helper()
		parser := keyParser{keyspace: newKeyspace("/ufc/v1")}
		if _, _, _, err := parser.parse([]byte(key)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", key, err, want)
		}
	}
	f("/ufc/v1/config/bans/x", "is neither")
	f("/ufc/v1/config/confirm/", "is missing")
	f("/ufc/v1/config/confirm/a/b", `"a/b" is not a name`)
	f("/ufc/v1/config/bans/X/10.0.0.1:1", `"X" is not a name`)
	f("/ufc/v1/config/bans/x/10.0.0.1:01", "must be written")
	f("/ufc/v1/config/bans/x/10.0.0.1:1/x", "not an address")
	f("/ufc/v1/bans/host/x/10.0.0.1:1", "is not below")
}

func TestRangeEnd(t *testing.T) {
	f := func(key string, within bool) {
		t.Helper()
		if got := key >= "/a/config/" && key < rangeEnd("/a/config/"); got != within {
			t.Errorf("%q within: %v", key, got)
		}
	}
	f("/a/config/", true)
	f("/a/config/\xff\xff", true)
	f("/a/config", false)
	f("/a/config0", false)
	f("/a/confih", false)
}

func FuzzAgentKeys(f *testing.F) {
	keys := newKeyspace("/ufc/v1")
	for _, id := range []string{"", "host-1", "host-1+coredns", "a/b", " ", "\xff", "\u0085", "\u4e2d"} {
		f.Add(keys.here + id)
	}
	f.Add("/elsewhere")
	f.Fuzz(func(t *testing.T, key string) {
		id, err := keys.parseAgent([]byte(key))
		if err == nil && (keys.agent(id) != key || strings.Contains(id, "/")) {
			t.Errorf("key %q became %q", key, id)
		}
	})
}

func FuzzKeys(f *testing.F) {
	keys := newKeyspace("/ufc/v1")
	for _, key := range []string{
		"services/a", "services/", "services/a/b", "instances/a/10.0.0.1:80", "instances/a", "instances//:0", "instances/a/[::1%25]:1",
		"topology", "topology/", "confirm", "confirm/a", "confirm/", "bans/x", "bans/a/10.0.0.1:80", "bans/a/10.0.0.1:080", "bans//", "", "x", "services/\xff", "instances/a/[::ffff:1.2.3.4]:1",
	} {
		f.Add(keys.root + key)
	}
	f.Add("/elsewhere")
	parser := keyParser{keyspace: keys}
	f.Fuzz(func(t *testing.T, key string) {
		kind, name, address, err := parser.parse([]byte(key))
		about := kind == model.KindService || kind == model.KindInstances || kind == model.KindBan
		if of, ok := keys.serviceOf([]byte(key)); err == nil && (ok != about || ok && string(of) != name) {
			t.Errorf("key %q is of %q, %v, and of %q", key, of, ok, name)
		}
		switch {
		case err == nil:
			if keys.of(kind, name, address) != key {
				t.Errorf("key %q became %s, %q, %q, which is another key", key, kind, name, address)
			}
			if key != keys.topology() && key != keys.confirm("") && model.CheckName(name) != nil {
				t.Errorf("key %q: name %q passed", key, name)
			}
		case kind == model.KindService || kind == model.KindInstances || kind == model.KindBan:
			if keys.of(kind, name, address) != key {
				t.Errorf("refused key %q became %s, %q, %q, which is another key", key, kind, name, address)
			}
		}
	})
}
