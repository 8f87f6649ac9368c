package model

import (
	"errors"
	"strings"
	"testing"
)

// problemsOf returns what ParseService has against a service with some fields, without the document's name.
func problemsOf(t *testing.T, fields string) []string {
	t.Helper()
	_, warnings, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop",`+fields+`}`))
	if len(warnings) > 0 {
		t.Errorf("%s: warnings %v", fields, warnings)
	}
	return lines(t, err, `service "shop": `)
}

// lines splits Problems into their lines, and cuts off what they begin with.
func lines(t *testing.T, err error, prefix string) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("%v is no Problems", err)
	}
	out := strings.Split(err.Error(), "\n")
	for i := range out {
		rest, ok := strings.CutPrefix(out[i], prefix)
		if !ok {
			t.Errorf("%s doesn't begin with %s", out[i], prefix)
		}
		out[i] = rest
	}
	return out
}

func TestServiceAccepted(t *testing.T) {
	f := func(fields ...string) {
		t.Helper()
		for _, field := range fields {
			if got := problemsOf(t, field); got != nil {
				t.Errorf("%s: %s", field, strings.Join(got, "; "))
			}
		}
	}
	// Both ends of every range.
	f(`"level":1`, `"level":5`, `"workload":"offline"`, `"protocol":"https"`, `"protocol":"h2c"`, `"protocol":"tcp"`)
	f(`"host":""`, `"host":"a"`, `"host":"a.example.test:8080"`, `"host":"under_score.test"`, `"host":"10.0.0.1"`, `"host":"10.0.0.1:1"`,
		`"host":"[2001:db8::1]"`, `"host":"[::1]:65535"`, `"host":"UPPER.test"`, `"host":"3com.test"`)
	f(`"tls":{}`, `"tls":{"cert":"a","key":"b"}`, `"tls":{"ca":"a"}`, `"tls":{"skip_verify":true}`)
	f(`"connections":{"max_idle_per_instance":0}`, `"connections":{"max_idle_per_instance":65536}`,
		`"connections":{"idle_timeout":"1s"}`, `"connections":{"idle_timeout":"1h"}`)
	f(`"timeouts":{"normal":{"connect":"1ms","write":"24h","read":"1.5s","total":"1m30s"}}`)
	f(`"retries":{"normal":{"attempts":10,"when":["read"]},"budget":0}`, `"retries":{"budget":1}`)
	f(`"hedge":{"percentile":0.5,"budget":0}`, `"hedge":{"percentile":0.999,"budget":0.5}`)
	f(`"ban":{"requests":{"failures":1,"of":1}}`, `"ban":{"requests":{"failures":64,"of":64}}`)
	f(`"ban":{"deviation":{"interval":"1s"}}`, `"ban":{"deviation":{"interval":"5m"}}`)
	f(`"ban":{"bad_codes":{"100":0,"599":1}}`)
	f(`"ban":{"duration":"100ms","max_duration":"100ms"}`, `"ban":{"duration":"24h","max_duration":"24h"}`, `"ban":{"duration":"10m"}`)
	f(`"ban":{"max_ratio":0}`, `"ban":{"max_ratio":1}`, `"ban":{"max_ratio":-0}`, `"ban":{"probe":{"timeout":"1ms"}}`, `"ban":{"probe":{"timeout":"1m"}}`)
	f(`"ban":{"webhook":{"url":"http://a","after":"1s"}}`, `"ban":{"webhook":{"url":"https://u:p@a.test:8443/x?y=z","after":"24h"}}`)
	f(`"check":{"interval":"100ms","type":"tcp"}`, `"check":{"interval":"1h"}`)
	f(`"fuse":{"success_below":0,"min_outcomes":1,"floor":0.0001}`, `"fuse":{"success_below":1,"min_outcomes":1000000,"floor":1}`)
	f(`"drop":[{"callers":["*"],"percent":0}]`, `"drop":[{"callers":["a?","[a-c]*"],"percent":100}]`)

	f(`"balance":{"policy":"random"}`, `"balance":{"policy":"least_request"}`, `"balance":{"policy":"ewma"}`)
	for _, hash := range []string{"header:X-Uid", "query:user id", "cookie:sid", "path", "client"} {
		f(`"balance":{"policy":"consistent_hash","hash":"` + hash + `"}`)
	}
	f(`"routes":[{"match":{"callers":["a"],"caller_idcs":["i"],"methods":["GET","M-SEARCH"],"path":"/","percent":0}}]`)
	f(`"routes":[{"match":{"path":"/*","percent":100}},{"match":{"path":""}}]`)
	f(`"routes":[{"match":{"headers":{"a":{"equal":""},"b":{"prefix":"x"},"c":{"regex":"^(a|b)+$"},"d":{"present":false}}}}]`)
	f(`"routes":[{"split":[{"labels":{"a":"b"},"weight":0},{"weight":1000000}]}]`)
	f(`"idc_routes":{"north":[{"to":"south","weight":0},{"to":"i","weight":1}]}`)
	f(`"callers":[{"match":["a"]}]`, `"callers":[{"match":["a"],"level":1,"timeouts":{"avalanche":{"total":"1ms"}},`+
		`"retries":{"unsafe":true,"budget":1,"avalanche":{"attempts":10,"when":["connect"]}},"routes":[{}]}]`)
}

func TestServiceRefused(t *testing.T) {
	f := func(fields string, want ...string) {
		t.Helper()
		if got := problemsOf(t, fields); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", fields, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	long := strings.Repeat("x", 2000)
	cut := strings.Repeat("x", 100)

	f(`"level":0`, "level: 0 is not between 1 and 5")
	f(`"level":6`, "level: 6 is not between 1 and 5")
	f(`"level":-1`, "level: -1 is not between 1 and 5")
	f(`"owner":"a\nb"`, `owner: "a\nb" holds a control character`)
	f(`"owner":"`+long+`"`, `owner: "`+cut+`"… is longer than 1024 bytes`)
	f(`"workload":"batch"`, `workload: "batch" is not one of online, offline`)
	f(`"protocol":"ftp"`, `protocol: "ftp" is not one of http, https, h2c, tcp`)
	f(`"protocol":""`, `protocol: "" is not one of http, https, h2c, tcp`)
	for _, host := range []string{"a b", "-a", "a-", "a..b", "a:", "a:0", "a:65536", "a:+1", "a:b", "::1", "[::1", "[10.0.0.1]", "[fe80::1%eth0]", "1.2.3",
		"300.1.1.1", "http://a", "a/b", ".", ":80", "ä.test"} {
		f(`"host":"`+host+`"`, `host: "`+host+`" is not a host such as www.example.test or [2001:db8::1]:8080`)
	}
	f(`"tls":{"cert":"a"}`, "tls.key: is missing: cert and key go together")
	f(`"tls":{"key":"a"}`, "tls.cert: is missing: cert and key go together")
	f(`"tls":{"ca":"a\u0000"}`, `tls.ca: "a\x00" holds a control character`)

	f(`"connections":{"max_idle_per_instance":-1}`, "connections.max_idle_per_instance: -1 is not between 0 and 65536")
	f(`"connections":{"max_idle_per_instance":65537}`, "connections.max_idle_per_instance: 65537 is not between 0 and 65536")
	f(`"connections":{"idle_timeout":"999ms"}`, "connections.idle_timeout: 999ms is not between 1s and 1h")
	f(`"connections":{"idle_timeout":"1h1s"}`, "connections.idle_timeout: 1h0m1s is not between 1s and 1h")
	f(`"timeouts":{"normal":{"connect":"0s","write":"-1s","read":"24h1ns","total":"1us"}}`,
		"timeouts.normal.connect: 0s is not between 1ms and 24h",
		"timeouts.normal.write: -1s is not between 1ms and 24h",
		"timeouts.normal.read: 24h0m0.000000001s is not between 1ms and 24h",
		"timeouts.normal.total: 1µs is not between 1ms and 24h")
	f(`"timeouts":{"avalanche":{"connect":"0"}}`, "timeouts.avalanche.connect: 0s is not between 1ms and 24h")
	f(`"timeouts":{"normal":{"read":"99999999h"}}`, `timeouts.normal.read: "99999999h" is not a duration such as 300ms, 5s or 10m`)
	f(`"retries":{"normal":{"attempts":11},"avalanche":{"attempts":-1}}`,
		"retries.normal.attempts: 11 is not between 0 and 10", "retries.avalanche.attempts: -1 is not between 0 and 10")
	f(`"retries":{"normal":{"when":["connect","dns","connect"]}}`,
		`retries.normal.when[1]: "dns" is not one of connect, write, read`, `retries.normal.when[2]: "connect" is there already, at [0]`)
	f(`"retries":{"budget":1.01}`, "retries.budget: 1.01 is not between 0 and 1")
	f(`"hedge":{"percentile":0.49,"budget":0.51}`, "hedge.percentile: 0.49 is not between 0.5 and 0.999", "hedge.budget: 0.51 is not between 0 and 0.5")
	f(`"hedge":5`, "hedge: 5 is not a mapping")

	f(`"ban":{"requests":{"of":65}}`, "ban.requests.of: 65 is not between 1 and 64")
	f(`"ban":{"requests":{"failures":6,"of":5}}`, "ban.requests.failures: 6 is not between 1 and 5")
	f(`"ban":{"requests":{"failures":0}}`, "ban.requests.failures: 0 is not between 1 and 10")
	f(`"ban":{"requests":{"of":3}}`, "ban.requests.failures: 5 (the default) is not between 1 and 3")
	f(`"ban":{"deviation":{"interval":"5m1s"}}`, "ban.deviation.interval: 5m1s is not between 1s and 5m")
	f(`"ban":{"bad_codes":{"99":0.5,"600":0.5,"+99":1,"5xx":1,"503":1.5,"0503":1}}`,
		`ban.bad_codes["+99"]: "+99" is not an HTTP status between 100 and 599`,
		`ban.bad_codes.0503: "0503" is not an HTTP status between 100 and 599`,
		"ban.bad_codes.503: 1.5 is not between 0 and 1",
		`ban.bad_codes.5xx: "5xx" is not an HTTP status between 100 and 599`,
		`ban.bad_codes.600: "600" is not an HTTP status between 100 and 599`,
		`ban.bad_codes.99: "99" is not an HTTP status between 100 and 599`)
	f(`"ban":{"duration":"99ms"}`, "ban.duration: 99ms is not between 100ms and 24h")
	f(`"ban":{"duration":"20m"}`, "ban.max_duration: 10m (the default) is less than duration, 20m")
	f(`"ban":{"duration":"20m","max_duration":"15m"}`, "ban.max_duration: 15m is less than duration, 20m")
	f(`"ban":{"max_duration":"25h"}`, "ban.max_duration: 25h is not between 100ms and 24h")
	f(`"ban":{"max_ratio":1.2}`, "ban.max_ratio: 1.2 is not between 0 and 1")
	f(`"ban":{"max_ratio":-0.1}`, "ban.max_ratio: -0.1 is not between 0 and 1")
	f(`"ban":{"probe":{"timeout":"61s"}}`, "ban.probe.timeout: 1m1s is not between 1ms and 1m")
	f(`"ban":{"webhook":{}}`, "ban.webhook.url: is missing")
	for _, url := range []string{"ftp://a", "http://", "//a", "a.test", "http://:80", "http://a b", "javascript:x"} {
		f(`"ban":{"webhook":{"url":"`+url+`"}}`, `ban.webhook.url: "`+url+`" is not a URL that begins with http:// or https://`)
	}
	f(`"ban":{"webhook":{"url":"http://a","after":"0.5s"}}`, "ban.webhook.after: 500ms is not between 1s and 24h")
	f(`"check":{"interval":"2h","type":"http"}`, "check.interval: 2h is not between 100ms and 1h", `check.type: "http" is not one of tcp`)
	f(`"fuse":{"success_below":1.1,"min_outcomes":0,"floor":0}`,
		"fuse.success_below: 1.1 is not between 0 and 1", "fuse.min_outcomes: 0 is not between 1 and 1000000", "fuse.floor: 0 is not between 0.0001 and 1")
	f(`"drop":[{}]`, "drop[0].callers: is missing")
	f(`"drop":[{"callers":["a"],"percent":101},{"callers":[]}]`,
		"drop[0].percent: 101 is not between 0 and 100", "drop[1].callers: is empty: name at least one")

	f(`"balance":{"policy":"best"}`, `balance.policy: "best" is not one of round_robin, random, least_request, ewma, consistent_hash`)
	f(`"balance":{"policy":"consistent_hash"}`,
		"balance.hash: is missing: consistent_hash needs one of header:NAME, query:NAME, cookie:NAME, path, client")
	for _, hash := range []string{"header", "header:", "header:a b", "query:", "cookie:a;b", "path:", "client:x", "ip", "HEADER:a"} {
		f(`"balance":{"hash":"`+hash+`"}`, `balance.hash: "`+hash+`" is not one of header:NAME, query:NAME, cookie:NAME, path, client`)
	}
	f(`"routes":[{"match":{"callers":["[a",""],"caller_idcs":["BJ"],"methods":["get","G T"]}}]`,
		`routes[0].match.callers[0]: "[a" is not a glob such as video-*`,
		"routes[0].match.callers[1]: is empty",
		`routes[0].match.caller_idcs[0]: "BJ" is not a name of 1-62 lower-case letters, digits and inner hyphens`,
		`routes[0].match.methods[0]: "get" is not a method in upper case such as GET`,
		`routes[0].match.methods[1]: "G T" is not a method in upper case such as GET`)
	f(`"routes":[{},{"match":{"path":"upload"}}]`, `routes[1].match.path: "upload" does not begin with /`)
	f(`"routes":[{"match":{"path":"/a*b"}}]`, `routes[0].match.path: "/a*b" has a * that is not at its end`)
	f(`"routes":[{"match":{"path":"/a?b"}}]`, `routes[0].match.path: "/a?b" holds what no path has: a space, ? or #`)
	f(`"routes":[{"match":{"percent":100.5}}]`, "routes[0].match.percent: 100.5 is not between 0 and 100")
	f(`"routes":[{"match":{"headers":{"x-a":{"regex":"("}}}}]`,
		"routes[0].match.headers.x-a.regex: \"(\" is not a regular expression: error parsing regexp: missing closing ): `(`")
	f(`"routes":[{"match":{"headers":{"x-a":{}}}}]`,
		"routes[0].match.headers.x-a: 0 tests are given: exactly one of equal, prefix, regex, present is needed")
	f(`"routes":[{"match":{"headers":{"x-a":{"equal":"a","present":true}}}}]`,
		"routes[0].match.headers.x-a: 2 tests are given: exactly one of equal, prefix, regex, present is needed")
	f(`"routes":[{"match":{"headers":{"x a":{"equal":"a"}}}}]`, `routes[0].match.headers["x a"]: "x a" is not a name of letters, digits and hyphens`)
	f(`"routes":[{"match":{"headers":{"":{"equal":"a"}}}}]`, `routes[0].match.headers[""]: "" is not a name of letters, digits and hyphens`)
	f(`"routes":[{"match":{"headers":{"X-A":{"equal":"a"},"x-a":{"equal":"b"}}}}]`, `routes[0].match.headers.x-a: is the same header as "X-A"`)
	f(`"routes":[{"split":[{"weight":-1},{"weight":1000001}]}]`,
		"routes[0].split[0].weight: -1 is not between 0 and 1000000", "routes[0].split[1].weight: 1000001 is not between 0 and 1000000")
	f(`"routes":[{"split":[{"weight":0},{"weight":0}]}]`, "routes[0].split: all weights are 0")
	f(`"routes":[{"split":[{"labels":{"":"a","b":"","c":"`+long+`"}}]}]`,
		"routes[0].split[0].labels: a key is empty")
	f(`"routes":[{"split":[{"labels":{"b":"","c":"`+long+`"}}]}]`,
		"routes[0].split[0].labels.b: is empty", `routes[0].split[0].labels.c: "`+cut+`"… is longer than 63 bytes`)
	f(`"idc_routes":{"North":[{"to":"a"}],"a":[],"b":[{}],"c":[{"to":"x","weight":0},{"to":"x","weight":0}]}`,
		`idc_routes.North: "North" is not a name of 1-62 lower-case letters, digits and inner hyphens`,
		"idc_routes.a: is empty: name at least one IDC",
		"idc_routes.b[0].to: is missing",
		`idc_routes.c[1].to: "x" is there already, at [0]`,
		"idc_routes.c: all weights are 0")
	f(`"callers":[{"level":0,"timeouts":{"normal":{"read":"0s"},"avalanche":{"total":"25h"}},"retries":{"budget":2,"normal":{"attempts":11}},"routes":[{"match":{"path":"x"}}]}]`,
		"callers[0].match: is missing",
		"callers[0].level: 0 is not between 1 and 5",
		"callers[0].timeouts.normal.read: 0s is not between 1ms and 24h",
		"callers[0].timeouts.avalanche.total: 25h is not between 1ms and 24h",
		"callers[0].retries.budget: 2 is not between 0 and 1",
		"callers[0].retries.normal.attempts: 11 is not between 0 and 10",
		`callers[0].routes[0].match.path: "x" does not begin with /`)
}

// A fault of any field is told at its own line, however deep it is.
func TestProblemLines(t *testing.T) {
	data := strings.Join([]string{
		"kind: Service",           // 1
		"name: shop",              // 2
		"routes:",                 // 3
		"  - match:",              // 4
		"      callers: [a]",      // 5
		"  - match:",              // 6
		"      headers:",          // 7
		"        x.a:",            // 8
		"          regex: '['",    // 9
		"        x:",              // 10
		"          a: 1",          // 11
		"      methods:",          // 12
		"        - GET",           // 13
		"        - post",          // 14
		"ban:",                    // 15
		"  duration: 1h",          // 16
		"balance:",                // 17
		"  policy: >-",            // 18
		"    best",                // 19
		"callers:",                // 20
		"  - level: 3",            // 21
		"idc_routes: {a: [{to: A", // 22
		"  }]}",                   // 23
	}, "\n")
	_, err := Read("f.yaml", []byte(data))
	want := map[string]int{
		`routes[1].match.headers["x.a"].regex`: 9,
		"routes[1].match.headers.x.a":          11,
		"routes[1].match.headers.x":            10,
		"routes[1].match.methods[1]":           14,
		"ban.max_duration":                     15,
		"balance.policy":                       18,
		"callers[0].match":                     21,
		"idc_routes.a[0].to":                   22,
	}
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(problems), len(want), err)
	}
	for _, p := range problems {
		if p.Line != want[p.Path] {
			t.Errorf("%v: line %d, want %d", p, p.Line, want[p.Path])
		}
	}
}

func TestInstancesRefused(t *testing.T) {
	f := func(instances string, want ...string) {
		t.Helper()
		_, err := Read("f.json", []byte(`{"kind":"Instances","service":"shop","instances":`+instances+`}`))
		if got := lines(t, err, `f.json:1: instances of "shop": `); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", instances, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	// What is accepted. An empty list is what withdraws all instances; only that is.
	f(`[]`)
	f(`[{"address":"10.0.0.1:1","weight":0,"state":"down"},{"address":"[2001:db8::1]:65535","weight":1000000,"state":"drain","idc":"i"}]`)
	f(`[{"address":"127.0.0.1:80"},{"address":"127.0.0.1:81"},{"address":"[::1]:80"}]`)

	f(`null`, "instances: is null: give it a value, or leave it out")
	f(`[{}]`, "instances[0].address: is missing")
	f(`[{"address":"10.0.0.1:80"},{"address":"10.0.0.2:80"},{"address":"10.0.0.1:80"}]`,
		`instances[2].address: "10.0.0.1:80" is there already, at instances[0]`)
	for _, address := range []string{"10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "host:80", ":80", "10.0.0.01:80", "::1:80", "10.0.0.1:80 ", ""} {
		f(`[{"address":"`+address+`"}]`, `instances[0].address: "`+address+`" is not an address such as 10.0.0.1:8080 or [2001:db8::1]:8080`)
	}
	f(`[{"address":"10.0.0.1:0"}]`, `instances[0].address: "10.0.0.1:0": port 0 is not between 1 and 65535`)
	f(`[{"address":"10.0.0.1:080"}]`, `instances[0].address: "10.0.0.1:080" must be written as "10.0.0.1:80"`)
	f(`[{"address":"[2001:DB8::1]:80"}]`, `instances[0].address: "[2001:DB8::1]:80" must be written as "[2001:db8::1]:80"`)
	f(`[{"address":"[2001:db8:0::1]:80"}]`, `instances[0].address: "[2001:db8:0::1]:80" must be written as "[2001:db8::1]:80"`)
	f(`[{"address":"[fe80::1%eth0]:80"}]`, `instances[0].address: "[fe80::1%eth0]:80" has a zone, which means something else on every machine`)
	f(`[{"address":"[::ffff:10.0.0.1]:80"}]`, `instances[0].address: "[::ffff:10.0.0.1]:80" must be written as IPv4, 10.0.0.1:80`)
	for _, address := range []string{"0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80", "255.255.255.255:80"} {
		f(`[{"address":"`+address+`"}]`, `instances[0].address: "`+address+`" is not the address of one machine`)
	}
	f(`[{"address":80}]`, "instances[0].address: 80 is not a text")
	f(`[{"address":"10.0.0.1:80","idc":"BJ","weight":-1,"labels":{"a":""},"state":"gone","zone":"x"}]`,
		"instances[0].zone: unknown field",
		`instances[0].idc: "BJ" is not a name of 1-62 lower-case letters, digits and inner hyphens`,
		"instances[0].weight: -1 is not between 0 and 1000000",
		"instances[0].labels.a: is empty",
		`instances[0].state: "gone" is not one of up, drain, down`)

	if _, err := Read("f.json", []byte(`{"kind":"Instances"}`)); err == nil ||
		err.Error() != "f.json:1: instances of \"\": service: is missing\nf.json:1: instances of \"\": instances: is missing" {
		t.Errorf("without fields: %v", err)
	}
}

func TestTopologyRefused(t *testing.T) {
	f := func(fields string, want ...string) {
		t.Helper()
		_, _, err := ParseTopology([]byte(`{"kind":"Topology",` + fields + `}`))
		if got := lines(t, err, `topology: `); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\ngot  %s\nwant %s", fields, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	idcs := `"idcs":{"a":{"logical":"n"},"b":{"logical":"s"}}`
	f(idcs)
	f(idcs + `,"routes":{"n":[{"to":"s"}]},"drained":["b","a"]`)
	f(`"idcs":{"A":{"logical":"N"},"b":{}}`,
		`idcs.A: "A" is not a name of 1-62 lower-case letters, digits and inner hyphens`,
		`idcs.b.logical: is missing`)
	f(`"idcs":{"a":{"logical":"N"}}`, `idcs.a.logical: "N" is not a name of 1-62 lower-case letters, digits and inner hyphens`)
	f(idcs+`,"routes":{"a":[{"to":"n"}],"n":[{"to":"b"}]}`,
		`routes.a: "a" is not a logical IDC of idcs`, `routes.n[0].to: "b" is not a logical IDC of idcs`)
	f(idcs+`,"routes":{"n":[{"to":"n","weight":1},{"to":"n","weight":2}]}`, `routes.n[1].to: "n" is there already, at [0]`)
	f(idcs+`,"drained":["c","a","a"]`, `drained[0]: "c" is not one of idcs`, `drained[2]: "a" is there already, at [1]`)
	f(`"routes":{"n":[{"to":"n"}]}`, `routes.n: "n" is not a logical IDC of idcs`)
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "0", "pcs-upload", "a--b", "1a", "ii", strings.Repeat("a", 62)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "i", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "a\x00", strings.Repeat("a", 63)} {
		if CheckName(name) == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestNearest(t *testing.T) {
	f := func(word, want string) {
		t.Helper()
		if got := nearest(word, []string{"to", "weight", "max_ratio", "max_duration"}); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	f("wieght", "weight")
	f("Weight", "weight")
	f("max_ratio_", "max_ratio")
	f("maxratio", "max_ratio")
	f("too", "to")
	f("abcd", "")
	f("x", "")
	f("", "")
	f(strings.Repeat("weight", 100), "")
}
