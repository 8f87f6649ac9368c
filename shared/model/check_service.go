package model

import (
	"maps"
	"slices"
	"strings"
)

// check validates a decoded Service.
func (s *Service) check(c checker) {
	c.must("name", CheckName(s.Name))
	c.must("owner", checkText(s.Owner, maxText))
	between(c, "level", s.Level, 1, 5)
	oneOf(c, "workload", s.Workload, Online, Offline)
	oneOf(c, "protocol", s.Protocol, HTTP, HTTPS, H2C, TCP)
	c.optional("host", s.Host, checkHost)
	s.TLS.check(c.under("tls"))
	checkRoutes(c, s.Routes)
	c.idcTables("idc_routes", s.IDCRoutes, nil)
	s.Balance.check(c.under("balance"))
	s.Connections.check(c.under("connections"))
	s.Timeouts.Normal.check(c.under("timeouts.normal"))
	s.Timeouts.Avalanche.check(c.under("timeouts.avalanche"))
	s.Retries.check(c.under("retries"))
	if s.Hedge != nil {
		between(c, "hedge.percentile", s.Hedge.Percentile, 0.5, 0.999)
		between(c, "hedge.budget", s.Hedge.Budget, 0, 0.5)
	}
	s.Ban.check(c.under("ban"))
	if s.Check != nil {
		between(c, "check.interval", s.Check.Interval, milliseconds(100), hours(1))
		oneOf(c, "check.type", s.Check.Type, "tcp")
	}
	between(c, "fuse.success_below", s.Fuse.SuccessBelow, 0, 1)
	between(c, "fuse.min_outcomes", s.Fuse.MinOutcomes, 1, 1_000_000)
	between(c, "fuse.floor", s.Fuse.Floor, 0.0001, 1)
	for i := range s.Drop {
		at := c.element("drop", i)
		at.globs("callers", s.Drop[i].Callers)
		between(at, "percent", s.Drop[i].Percent, 0, 100)
	}
	for i := range s.Callers {
		s.Callers[i].check(c.element("callers", i))
	}
}

// globs checks a list of globs that must not be empty: who forgets it would hit every caller, or none.
func (c checker) globs(path string, globs []string) {
	if !c.given(path) {
		c.fail(path, missing)
	} else if len(globs) == 0 {
		c.fail(path, "is empty: name at least one")
	}
	c.each(path, globs, checkGlob)
}

func (t *TLS) check(c checker) {
	file := func(s string) error { return checkText(s, 4*maxText) }
	c.must("ca", file(t.CA))
	c.must("cert", file(t.Cert))
	c.must("key", file(t.Key))
	if t.Cert != "" && t.Key == "" {
		c.fail("key", "is missing: cert and key go together")
	}
	if t.Key != "" && t.Cert == "" {
		c.fail("cert", "is missing: cert and key go together")
	}
}

// checkRoutes validates the routes of a Service, or of an override.
func checkRoutes(c checker, routes []Route) {
	for i := range routes {
		at := c.element("routes", i)
		routes[i].Match.check(at.under("match"))
		total := 0
		for j, split := range routes[i].Split {
			part := at.element("split", j)
			part.labels(split.Labels)
			between(part, "weight", split.Weight, 0, maxWeight)
			total += split.Weight
		}
		if len(routes[i].Split) > 0 && total == 0 {
			at.fail("split", "all weights are 0")
		}
	}
}

func (m *Match) check(c checker) {
	c.each("callers", m.Callers, checkGlob)
	c.each("caller_idcs", m.CallerIDCs, CheckIDC)
	c.each("methods", m.Methods, checkMethod)
	c.optional("path", m.Path, checkPath)
	if m.Percent != nil {
		between(c, "percent", *m.Percent, 0, 100)
	}
	same := make(map[string]string, len(m.Headers))
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		at, test := c.entry("headers", name), m.Headers[name]
		at.must("", checkToken(name))
		if other, ok := same[strings.ToLower(name)]; ok {
			at.fail("", "is the same header as %s", quote(other))
		}
		same[strings.ToLower(name)] = name
		test.check(at)
	}
}

func (m *StringMatch) check(c checker) {
	tests := 0
	for _, test := range []struct {
		field string
		value *string
		rule  func(string) error
	}{
		{"equal", m.Equal, checkHeaderValue},
		{"prefix", m.Prefix, checkHeaderValue},
		{"regex", m.Regex, checkRegex},
	} {
		if test.value != nil {
			tests++
			c.must(test.field, test.rule(*test.value))
		}
	}
	if m.Present != nil {
		tests++
	}
	if tests != 1 {
		c.fail("", "%d tests are given: exactly one of equal, prefix, regex, present is needed", tests)
	}
}

// checkHeaderValue is the rule for what a header is compared with.
func checkHeaderValue(s string) error { return checkText(s, maxText) }

func (b *Balance) check(c checker) {
	oneOf(c, "policy", b.Policy, RoundRobin, Random, LeastRequest, EWMA, ConsistentHash)
	c.optional("hash", b.Hash, checkHash)
	if b.Policy == ConsistentHash && b.Hash == "" {
		c.fail("hash", "is missing: consistent_hash needs one of header:NAME, query:NAME, cookie:NAME, path, client")
	}
}

func (n *Connections) check(c checker) {
	between(c, "max_idle_per_instance", n.MaxIdlePerInstance, 0, 65536)
	between(c, "idle_timeout", n.IdleTimeout, seconds(1), hours(1))
}

func (t *TimeoutSet) check(c checker) {
	between(c, "connect", t.Connect, milliseconds(1), hours(24))
	between(c, "write", t.Write, milliseconds(1), hours(24))
	between(c, "read", t.Read, milliseconds(1), hours(24))
	between(c, "total", t.Total, milliseconds(1), hours(24))
}

// checkOverride validates a set of which only what is given counts.
func (t TimeoutSet) checkOverride(c checker) {
	valid := milliseconds(1)
	for _, limit := range []struct {
		field string
		value *Duration
	}{{"connect", &t.Connect}, {"write", &t.Write}, {"read", &t.Read}, {"total", &t.Total}} {
		if *limit.value == 0 && !c.given(limit.field) {
			*limit.value = valid
		}
	}
	t.check(c)
}

func (r *Retries) check(c checker) {
	between(c, "budget", r.Budget, 0, 1)
	checkRetries(c.under("normal"), &r.Normal.Attempts, r.Normal.When)
	checkRetries(c.under("avalanche"), &r.Avalanche.Attempts, r.Avalanche.When)
}

// checkRetries validates one set of retry limits; attempts may be nil in an override.
func checkRetries(c checker, attempts *int, when []RetryWhen) {
	if attempts != nil {
		between(c, "attempts", *attempts, 0, 10)
	}
	for i := range when {
		oneOf(c.element("when", i), "", when[i], WhenConnect, WhenWrite, WhenRead)
	}
	unique(c, "when", "", when)
}

func (b *Ban) check(c checker) {
	if b.Requests != nil {
		between(c, "requests.of", b.Requests.Of, 1, 64)
		between(c, "requests.failures", b.Requests.Failures, 1, min(max(b.Requests.Of, 1), 64))
	}
	between(c, "deviation.interval", b.Deviation.Interval, seconds(1), minutes(5))
	for _, code := range slices.Sorted(maps.Keys(b.BadCodes)) {
		at := c.entry("bad_codes", code)
		at.must("", checkStatus(code))
		between(at, "", b.BadCodes[code], 0, 1)
	}
	between(c, "duration", b.Duration, milliseconds(100), hours(24))
	between(c, "max_duration", b.MaxDuration, milliseconds(100), hours(24))
	if b.MaxDuration < b.Duration {
		c.fail("max_duration", "%s is less than duration, %s", c.shown("max_duration", b.MaxDuration), show(b.Duration))
	}
	between(c, "max_ratio", b.MaxRatio, 0, 1)
	between(c, "probe.timeout", b.Probe.Timeout, milliseconds(1), minutes(1))
	if b.Webhook != nil {
		if b.Webhook.URL == "" {
			c.fail("webhook.url", missing)
		} else {
			c.must("webhook.url", checkURL(b.Webhook.URL))
		}
		between(c, "webhook.after", b.Webhook.After, seconds(1), hours(24))
	}
}

func (o *CallerOverride) check(c checker) {
	c.globs("match", o.Match)
	if o.Level != nil {
		between(c, "level", *o.Level, 1, 5)
	}
	if o.Timeouts != nil {
		o.Timeouts.Normal.checkOverride(c.under("timeouts.normal"))
		o.Timeouts.Avalanche.checkOverride(c.under("timeouts.avalanche"))
	}
	if o.Retries != nil {
		if o.Retries.Budget != nil {
			between(c, "retries.budget", *o.Retries.Budget, 0, 1)
		}
		checkRetries(c.under("retries.normal"), o.Retries.Normal.Attempts, o.Retries.Normal.When)
		checkRetries(c.under("retries.avalanche"), o.Retries.Avalanche.Attempts, o.Retries.Avalanche.When)
	}
	checkRoutes(c, o.Routes)
}
