package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	good := func(cfg Config) {
		t.Helper()
		if err := cfg.Validate(); err != nil {
			t.Errorf("%v: %v", cfg, err)
		}
	}
	good(Config{})
	good(Config{Endpoints: []string{"http://127.0.0.1:2379", "http://[::1]:22379", "http://etcd-0.example.test:2379/"}})
	good(Config{Endpoints: []string{"https://etcd:2379"}, CA: "ca.pem", Cert: "c.pem", Key: "k.pem"})
	good(Config{Prefix: "/a/b-c_d/v1", Username: "u", Password: "p"})

	bad := func(cfg Config, want string) {
		t.Helper()
		err := cfg.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", cfg, err, want)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error shows a password: %v", err)
		}
	}
	endpoint := func(endpoint, want string) { t.Helper(); bad(Config{Endpoints: []string{endpoint}}, want) }
	endpoint("", `"": is not of the form`)
	endpoint("127.0.0.1:2379", `"127.0.0.1:2379": is not of the form http://HOST:PORT`)
	endpoint("etcd:2379", "is not of the form http://HOST:PORT")
	endpoint("unix:///tmp/x", "is not of the form")
	endpoint("http://127.0.0.1", "is not of the form http://HOST:PORT")
	endpoint("http://:2379", "is not of the form http://HOST:PORT")
	endpoint("https://::1:2379", "is not of the form")
	endpoint("http://h:0", `port "0" is not between 1 and 65535`)
	endpoint("http://h:65536", `port "65536" is not between`)
	endpoint("http://h:2379/x", "nothing may follow the port")
	endpoint("http://h:2379?x", "nothing may follow the port")
	endpoint("http://u:geheim@h:2379", `"…@h:2379": must not hold a user`)
	endpoint("://u:geheim@h", "must not hold a user")
	bad(Config{Endpoints: []string{"http://a:1", "https://a:2"}}, "can't be mixed")
	bad(Config{CA: "ca.pem"}, "must be https")
	bad(Config{Cert: "c.pem", Key: "k.pem"}, "must be https")
	bad(Config{Endpoints: []string{"https://a:1"}, Cert: "c.pem"}, `"c.pem" and key "": must be given together`)
	bad(Config{Endpoints: []string{"https://a:1"}, Key: "k.pem"}, "must be given together")
	bad(Config{Username: "u"}, `user "u": has no password`)
	bad(Config{Password: "geheim"}, "has no user")
	prefix := func(prefix, want string) { t.Helper(); bad(Config{Prefix: prefix}, want) }
	prefix("ufc", "must begin with a slash")
	prefix("/", "must not end with a slash")
	prefix("/ufc/", "must not end with a slash")
	prefix("/ufc//v1", "has an empty part")
	prefix("/ufc v1", "has a space")
	prefix("/ufc\n", "has a space")
	prefix("/\xff", "has a space")
}

func TestDefaults(t *testing.T) {
	cfg := Config{}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(cfg.Endpoints) != 1 || cfg.Endpoints[0] != "http://127.0.0.1:2379" || cfg.Prefix != "/ufc/v1" || cfg.Logger == nil {
		t.Errorf("defaults %+v", cfg)
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	cfg := Config{Endpoints: []string{"http://h:1"}, Username: "u", Password: "geheim"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "cfg", cfg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cfg", cfg)
	shown := log.String() + fmt.Sprint(cfg) + fmt.Sprintf("%v %+v %s %v", cfg, cfg, cfg, struct{ C Config }{cfg}) + fmt.Sprintf("%+v", &cfg)
	if strings.Contains(shown, "geheim") {
		t.Errorf("the password is shown: %s", shown)
	}
}
