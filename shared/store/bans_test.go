package store

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// second is a time as it comes back from etcd.
func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func TestBanAndUnban(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	w.putInstance("shop", "10.0.0.1:80")
	w.putService("empty")
	_, sink := follow(t, cfg)
	sink.awaitReplace(1)
	f := func(service, address string, wantListed bool, want error) {
		t.Helper()
		ban := &model.HandBan{By: "me", Reason: "disk", Since: second(time.Now())}
		listed, err := c.Ban(testContext(t), service, netip.MustParseAddrPort(address), ban)
		if listed != wantListed || !errors.Is(err, want) {
			t.Errorf("ban %s of %s: listed %v, error %v", address, service, listed, err)
		}
		if err != nil {
			return
		}
		key := "Ban/" + service + "/" + address
		sink.await(key, 5*time.Second, func() bool { return sink.state[key].Ban != nil && *sink.state[key].Ban == *ban })
		if err := c.Unban(testContext(t), service, address); err != nil {
			t.Error(err)
		}
		sink.await(key+" is gone", 5*time.Second, func() bool { return sink.state[key].Ban == nil })
		if err := c.Unban(testContext(t), service, address); !errors.Is(err, ErrNotBanned) {
			t.Errorf("unban a second time: %v", err)
		}
	}
	f("shop", "10.0.0.1:80", true, nil)
	f("shop", "10.0.0.2:80", false, nil)
	f("empty", "[2001:db8::1]:80", false, nil)
	f("nobody", "10.0.0.1:80", false, ErrUnknownService)
}

func TestBanRefuses(t *testing.T) {
	c := openClient(t, commonConfig(t))
	f := func(service, address string, ban model.HandBan, want string) {
		t.Helper()
		_, err := c.Ban(testContext(t), service, netip.MustParseAddrPort(address), &ban)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	f("Shop", "10.0.0.1:80", model.HandBan{}, `"Shop" is not a name`)
	f("shop", "10.0.0.1:0", model.HandBan{}, "port 0")
	f("shop", "10.0.0.1:80", model.HandBan{Reason: "a\x00"}, "reason: ")
	if err := c.Unban(testContext(t), "a/b", "x"); err == nil {
		t.Error("a service with a slash was taken")
	}
	if _, err := c.Bans(testContext(t), "a/b"); err == nil {
		t.Error("a service with a slash was taken")
	}
}

// A ban with an end takes its key with it, and a ban without that follows it stays.
func TestBanEnds(t *testing.T) {
	t.Parallel()
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	w.putService("shop")
	ban := func(address string, until time.Time) {
		t.Helper()
		if _, err := c.Ban(testContext(t), "shop", netip.MustParseAddrPort(address), &model.HandBan{Until: until}); err != nil {
			t.Fatal(err)
		}
	}
	soon := time.Now().Add(500 * time.Millisecond)
	ban("10.0.0.1:80", soon)
	ban("10.0.0.2:80", soon)
	ban("10.0.0.2:80", time.Time{})
	if value, leased := w.get("bans/shop/10.0.0.1:80"); value == nil || !leased {
		t.Errorf("value %s, under a lease: %v", value, leased)
	}
	eventually(t, "the end of the ban", 15*time.Second, func() bool {
		value, _ := w.get("bans/shop/10.0.0.1:80")
		return value == nil
	})
	if value, leased := w.get("bans/shop/10.0.0.2:80"); value == nil || leased {
		t.Errorf("the ban without an end: value %s, under a lease: %v", value, leased)
	}
}

func TestBans(t *testing.T) {
	cfg := commonConfig(t)
	c, w := openClient(t, cfg), newWriter(t, common, cfg.Prefix)
	told := &model.ToldBan{Agent: "a", Reason: "proof", Until: second(time.Now())}
	w.put("bans/shop/10.0.0.2:80", `{"by":"me"}`)
	w.put("bans/shop/10.0.0.3:80", `{"by":7}`)
	w.put("bans/bag/10.0.0.1:80", `{}`)
	w.root = cfg.Prefix + "/bans/"
	w.put("host-2/shop/10.0.0.1:80", string(told.JSON()))
	w.put("host-1/shop/10.0.0.2:80", string(told.JSON()))
	w.put("host-1/shop/10.0.0.2:080", string(told.JSON()))
	w.put("odd", "")
	f := func(service string, want ...string) {
		t.Helper()
		bans, err := c.Bans(testContext(t), service)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range bans {
			ban := &bans[i]
			line := fmt.Sprintf("%s %s %s", ban.Service, ban.Address, ban.Host)
			switch {
			case ban.Hand != nil:
				line += " by " + ban.Hand.By
			case ban.Told != nil:
				line += " told by " + ban.Told.Agent
			case ban.Err != nil:
				line += " refused"
			}
			got = append(got, line)
		}
		if !slices.Equal(got, want) {
			t.Errorf("bans of %q:\n%s\nwant\n%s", service, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	shop := []string{
		"shop 10.0.0.1:80 host-2 told by a", "shop 10.0.0.2:080 host-1 refused", "shop 10.0.0.2:80  by me",
		"shop 10.0.0.2:80 host-1 told by a", "shop 10.0.0.3:80  refused",
	}
	f("shop", shop...)
	f("", slices.Concat([]string{cfg.Prefix + "/bans/odd   refused", "bag 10.0.0.1:80  by "}, shop)...)
	f("none")
}

// An agent that starts while etcd is away knows the bans made by hand, with the last good version of a refused one.
func TestBansInSnapshot(t *testing.T) {
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	w.put("bans/shop/10.0.0.1:80", `{"by":"me","reason":"disk","until":"2100-01-02T15:04:05Z"}`)
	cfg := configOf(e, DefaultPrefix)
	cfg.Snapshot = filepath.Join(t.TempDir(), "agent.snapshot")
	first, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.awaitRevision(w.put("bans/shop/10.0.0.1:80", `{"until":"x"}`))
	if sink.refused["Ban/shop/10.0.0.1:80"] == nil {
		t.Error("a malformed ban wasn't refused")
	}
	first.Close()
	e.close()

	after := newRecorder(t)
	second, err := NewFollower(cfg, after)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.LoadSnapshot(); err != nil {
		t.Fatal(err)
	}
	after.has("Ban/shop/10.0.0.1:80")
	want := model.HandBan{By: "me", Reason: "disk", Until: time.Date(2100, 1, 2, 15, 4, 5, 0, time.UTC)}
	if got := after.state["Ban/shop/10.0.0.1:80"].Ban; got == nil || *got != want {
		t.Errorf("loaded %+v", got)
	}
}

func TestToldKeys(t *testing.T) {
	keys := newKeyspace("/ufc/v1")
	key := keys.toldBan("host-1.example.test", "shop", "10.0.0.1:80")
	if want := "/ufc/v1/bans/host-1.example.test/shop/10.0.0.1:80"; key != want {
		t.Errorf("key %q, want %q", key, want)
	}
	f := func(key, want string) {
		t.Helper()
		_, _, _, err := keys.parseTold([]byte(key))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", key, err, want)
		}
	}
	f(key, "")
	f(keys.root+"bans/shop/10.0.0.1:80", "is not /ufc/v1/bans/<host>/<service>/<host:port>")
	f(keys.told+"shop/10.0.0.1:80", "is not /ufc/v1/bans/")
	f(keys.told+"/shop/10.0.0.1:80", `host ""`)
	f(keys.told+"a b/shop/10.0.0.1:80", `host "a b"`)
	f(keys.told+"h/Shop/10.0.0.1:80", `"Shop" is not a name`)
	f(keys.told+"h/shop/10.0.0.1", "not an address")
	f(keys.told+strings.Repeat("h", 254)+"/shop/10.0.0.1:80", "host ")
}

func FuzzToldKeys(f *testing.F) {
	keys := newKeyspace("/ufc/v1")
	for _, key := range []string{"h/a/10.0.0.1:80", "h/a/10.0.0.1:080", "h/a/[::1%25]:1", "", "/", "//", "///", "h\xff/a/10.0.0.1:80"} {
		f.Add(keys.told + key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		host, service, address, err := keys.parseTold([]byte(key))
		if err == nil && keys.toldBan(host, service, address) != key {
			t.Errorf("key %q became %q, %q, %q, which is another key", key, host, service, address)
		}
	})
}
