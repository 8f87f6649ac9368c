package model

import (
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"
)

// designDocuments reads the example that the design gives, with every field there is.
func designDocuments(t testing.TB) []Document {
	t.Helper()
	data, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents, err := Read("testdata/design.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	if len(documents) != 3 {
		t.Fatalf("%d documents, want 3", len(documents))
	}
	return documents
}

// equal compares two values field by field, and names the first field that differs.
func equal(t *testing.T, got, want any) {
	t.Helper()
	differ(t, "", reflect.ValueOf(got), reflect.ValueOf(want))
}

func differ(t *testing.T, path string, got, want reflect.Value) {
	t.Helper()
	if reflect.DeepEqual(got.Interface(), want.Interface()) {
		return
	}
	switch {
	case got.Kind() == reflect.Pointer && !got.IsNil() && !want.IsNil():
		differ(t, path, got.Elem(), want.Elem())
	case got.Kind() == reflect.Struct && got.Type() != addressType:
		for i := range got.NumField() {
			differ(t, path+"."+got.Type().Field(i).Name, got.Field(i), want.Field(i))
		}
	default:
		t.Errorf("%s is %+v, want %+v", path, got.Interface(), want.Interface())
	}
}

func duration(d time.Duration) Duration { return Duration(d) }

func TestDesignService(t *testing.T) {
	want := &Service{
		Name:     "pcs-upload",
		Owner:    "storage",
		Level:    2,
		Workload: Online,
		Protocol: HTTP,
		Host:     "upload.example.test",
		TLS:      TLS{CA: "ca.pem", Cert: "c.pem", Key: "k.pem"},
		Routes: []Route{{
			Match: Match{
				Callers:    []string{"video-*"},
				CallerIDCs: []string{"bj-a"},
				Methods:    []string{"GET"},
				Path:       "/upload/*",
				Headers:    map[string]StringMatch{"x-http-flow-control": {Equal: new("gray")}},
				Percent:    new(5.0),
			},
			Split: []Split{
				{Labels: map[string]string{"version": "v2"}, Weight: 10},
				{Labels: map[string]string{"version": "v1"}, Weight: 90},
			},
		}},
		IDCRoutes:   map[string][]IDCWeight{"north": {{To: "north", Weight: 100}}},
		Balance:     Balance{Policy: RoundRobin, Hash: "header:X-Uid"},
		Connections: Connections{KeepAlive: true, MaxIdlePerInstance: 64, IdleTimeout: duration(time.Minute)},
		Timeouts: Timeouts{
			Normal: TimeoutSet{
				Connect: duration(300 * time.Millisecond), Write: duration(5 * time.Second),
				Read: duration(5 * time.Second), Total: duration(10 * time.Second),
			},
			Avalanche: TimeoutSet{
				Connect: duration(100 * time.Millisecond), Write: duration(time.Second),
				Read: duration(time.Second), Total: duration(2 * time.Second),
			},
			ClientOverride: true,
		},
		Retries: Retries{
			Normal:    RetrySet{Attempts: 2, When: []RetryWhen{WhenConnect, WhenWrite, WhenRead}},
			Avalanche: RetrySet{Attempts: 0, When: []RetryWhen{WhenConnect, WhenWrite, WhenRead}},
			Budget:    0.1,
		},
		Hedge: &Hedge{Percentile: 0.95, Budget: 0.05},
		Ban: Ban{
			Requests:    &RequestBan{Failures: 5, Of: 10},
			Deviation:   DeviationBan{Status: true, Latency: true, Interval: duration(5 * time.Second)},
			BadCodes:    map[string]float64{"503": 0.5},
			Duration:    duration(10 * time.Second),
			MaxDuration: duration(10 * time.Minute),
			MaxRatio:    0.3,
			Probe:       Probe{Timeout: duration(500 * time.Millisecond)},
			Webhook:     &Webhook{URL: "https://paas.example.test/migrate", After: duration(10 * time.Minute)},
		},
		Check: &Check{Interval: duration(5 * time.Second), Type: "tcp"},
		Fuse:  Fuse{SuccessBelow: 0.8, MinOutcomes: 10, Floor: 0.01},
		Drop:  []Drop{{Callers: []string{"offline-*"}, Percent: 100}},
		Callers: []CallerOverride{{
			Match:    []string{"offline-*"},
			Level:    new(5),
			Timeouts: &TimeoutsOverride{Normal: TimeoutSet{Read: duration(30 * time.Second)}},
			Retries:  &RetriesOverride{Normal: RetrySetOverride{Attempts: new(0)}},
		}},
	}
	document := designDocuments(t)[0]
	equal(t, document.Service, want)
	if document.Kind != KindService || document.Name != "pcs-upload" || document.Line != 1 || document.File != "testdata/design.yaml" {
		t.Errorf("the document is %s %q of %s:%d", document.Kind, document.Name, document.File, document.Line)
	}
}

func TestDesignInstancesAndTopology(t *testing.T) {
	documents := designDocuments(t)
	equal(t, documents[1].Instances, &Instances{
		Service: "pcs-upload",
		Instances: []Instance{{
			Address: netip.MustParseAddrPort("10.0.0.1:8080"),
			IDC:     "bj-a",
			Weight:  100,
			Labels:  map[string]string{"version": "v1"},
			State:   Up,
		}},
	})
	equal(t, documents[2].Topology, &Topology{
		IDCs: map[string]IDC{"bj-a": {Logical: "north"}, "bj-b": {Logical: "north"}, "gz-a": {Logical: "south"}},
		Routes: map[string][]IDCWeight{
			"north": {{To: "north", Weight: 100}},
			"south": {{To: "south", Weight: 90}, {To: "north", Weight: 10}},
		},
		Drained: []string{"gz-a"},
	})
	if documents[1].Kind != KindInstances || documents[1].Name != "pcs-upload" || documents[1].Value != nil {
		t.Errorf("the second document is %s %q with value %s", documents[1].Kind, documents[1].Name, documents[1].Value)
	}
	if documents[2].Kind != KindTopology || documents[2].Name != "" || documents[2].Line != 53 {
		t.Errorf("the third document is %s %q on line %d", documents[2].Kind, documents[2].Name, documents[2].Line)
	}
}

// The defaults stand in the design; what a Service without any field becomes is written out here again, so that changing
// one takes two changes.
func TestDefaults(t *testing.T) {
	want := &Service{
		Name:        "shop",
		Level:       3,
		Workload:    "online",
		Protocol:    "http",
		Balance:     Balance{Policy: "round_robin"},
		Connections: Connections{KeepAlive: true, MaxIdlePerInstance: 64, IdleTimeout: 60e9},
		Timeouts: Timeouts{
			Normal:         TimeoutSet{Connect: 300e6, Write: 5e9, Read: 5e9, Total: 10e9},
			Avalanche:      TimeoutSet{Connect: 100e6, Write: 1e9, Read: 1e9, Total: 2e9},
			ClientOverride: true,
		},
		Retries: Retries{
			Normal:    RetrySet{Attempts: 2, When: []RetryWhen{"connect", "write", "read"}},
			Avalanche: RetrySet{Attempts: 0, When: []RetryWhen{"connect", "write", "read"}},
			Unsafe:    false,
			Budget:    0.1,
		},
		Ban: Ban{
			Deviation:   DeviationBan{Status: true, Latency: true, Interval: 1e9},
			Duration:    10e9,
			MaxDuration: 600e9,
			MaxRatio:    0.3,
			Probe:       Probe{Timeout: 500e6},
		},
		Fuse: Fuse{SuccessBelow: 0.8, MinOutcomes: 10, Floor: 0.01},
	}
	got, warnings, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop"}`))
	if err != nil || warnings != nil {
		t.Fatalf("warnings %v, error %v", warnings, err)
	}
	equal(t, got, want)
	equal(t, DefaultService("shop"), want)
	equal(t, DefaultInstance(), Instance{Weight: 100, State: "up"})
}

func TestElementDefaults(t *testing.T) {
	f := func(fields string, want func(s *Service)) {
		t.Helper()
		got, _, err := ParseService("shop", []byte(`{"kind":"Service","name":"shop",`+fields+`}`))
		if err != nil {
			t.Errorf("%s: %v", fields, err)
			return
		}
		expected := DefaultService("shop")
		want(expected)
		equal(t, got, expected)
	}
	f(`"hedge":{}`, func(s *Service) { s.Hedge = &Hedge{Percentile: 0.95, Budget: 0.05} })
	f(`"hedge":{"budget":0.2}`, func(s *Service) { s.Hedge = &Hedge{Percentile: 0.95, Budget: 0.2} })
	f(`"check":{}`, func(s *Service) { s.Check = &Check{Interval: 5e9, Type: "tcp"} })
	f(`"ban":{}`, func(s *Service) {})
	f(`"ban":{"requests":{}}`, func(s *Service) { s.Ban.Requests = &RequestBan{Failures: 5, Of: 10} })
	f(`"ban":{"requests":{"failures":3}}`, func(s *Service) { s.Ban.Requests = &RequestBan{Failures: 3, Of: 10} })
	f(`"ban":{"webhook":{"url":"http://a.test"}}`, func(s *Service) { s.Ban.Webhook = &Webhook{URL: "http://a.test", After: 600e9} })
	f(`"ban":{"deviation":{"status":false}}`, func(s *Service) { s.Ban.Deviation.Status = false })
	f(`"drop":[{"callers":["a"]}]`, func(s *Service) { s.Drop = []Drop{{Callers: []string{"a"}, Percent: 100}} })
	f(`"drop":[{"callers":["a"],"percent":0}]`, func(s *Service) { s.Drop = []Drop{{Callers: []string{"a"}}} })
	f(`"routes":[{"split":[{}]}]`, func(s *Service) { s.Routes = []Route{{Split: []Split{{Weight: 100}}}} })
	f(`"routes":[{}]`, func(s *Service) { s.Routes = []Route{{}} })
	f(`"idc_routes":{"n":[{"to":"s"}]}`, func(s *Service) { s.IDCRoutes = map[string][]IDCWeight{"n": {{To: "s", Weight: 100}}} })
	f(`"connections":{"keepalive":false}`, func(s *Service) { s.Connections.KeepAlive = false })
	f(`"timeouts":{"normal":{"read":"1m"}}`, func(s *Service) { s.Timeouts.Normal.Read = 60e9 })
	f(`"retries":{"normal":{"when":[]}}`, func(s *Service) { s.Retries.Normal.When = []RetryWhen{} })
	f(`"retries":{"avalanche":{"attempts":1}}`, func(s *Service) { s.Retries.Avalanche.Attempts = 1 })
	f(`"callers":[{"match":["a"],"timeouts":{"client_override":false}}]`, func(s *Service) {
		s.Callers = []CallerOverride{{Match: []string{"a"}, Timeouts: &TimeoutsOverride{ClientOverride: new(false)}}}
	})
}
