package agent

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestQuery(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", nil))...)
	r.spread(t, "shop", 4)
	f := func(path string, ok bool) {
		t.Helper()
		answer, err := r.Query(strings.Split(path, "^"))
		if (err == nil) != ok || (err != nil && !errors.Is(err, ErrSelector)) {
			t.Errorf("%s: %v, %v", path, answer, err)
		}
	}
	f("request_info^shop", true)
	f("backend_info^shop", true)
	f("backend_info^shop^10.0.0.1:80", true)
	f("ban_info", true)
	f("ban_info^shop", true)
	f("config_info", true)
	f("config_info^shop", true)
	f("", false)
	f("request_info", false)
	f("request_info^nobody", false)
	f("request_info^shop^more", false)
	f("backend_info^shop^10.0.0.9:80", false)
	f("ban_info^nobody", false)
	f("secrets", false)
	answer, err := r.Query([]string{"request_info", "shop"})
	if info, ok := answer.(RequestInfo); err != nil || !ok || info.Requests != 4 || info.Success != 4 || info.Modified == nil {
		t.Errorf("request_info: %+v, %v", answer, err)
	}
}

// FuzzQuery checks that every path is answered by what JSON can hold, or is said to select nothing.
func FuzzQuery(f *testing.F) {
	for _, path := range []string{
		"", "^", "^^^", "request_info^shop", "backend_info^shop^10.0.0.1:80", "ban_info", "fuse_info^shop", "explain^shop^10.0.0.2:80", "config_info^shop",
		"config_info", "explain^shop^[::1]:80", "explain^\xff", "sync_info",
	} {
		f.Add(path)
	}
	r := newRig(f, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", nil))...)
	f.Fuzz(func(t *testing.T, path string) {
		answer, err := r.Query(strings.Split(path, "^"))
		if err != nil && !errors.Is(err, ErrSelector) {
			t.Errorf("%q: %v", path, err)
		}
		if _, err := json.Marshal(answer); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	})
}

// What is asked of the fuse in normal times, as people see it.
func TestFuseInfoAsJSON(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80")...)
	f := func(path string, want ...string) {
		t.Helper()
		answer, err := r.Query(strings.Split(path, "^"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(answer)
		for _, part := range want {
			if err != nil || !strings.Contains(string(text), part) {
				t.Errorf("%s: %s (%v), without %s", path, text, err, part)
			}
		}
	}
	f("fuse_info^shop", `{"shop":{"avalanche":false,"admitted_ratio":1,`, `"decisions":[]`)
	f("fuse_info", `{}`)
	f("explain^shop", `"fuse":{"avalanche":false,"admitted_ratio":1,`)
}
