package model

// Service is the policy of one callee: how its traffic is routed, balanced, limited in time, retried and protected.
// Every field but the name has a default (DefaultService). Fields whose comment says "Not in force yet" are read,
// validated and kept, and change nothing in this version.
type Service struct {
	// Name is what callers put into x-ufc-service-name and ask the DNS for: 1–62 lower-case letters, digits and inner
	// hyphens. "i" is reserved for instance names in the DNS.
	Name string `json:"name"`
	// Owner says whom to ask. Free text.
	Owner string `json:"owner,omitempty"`
	// Level is the service's importance, 1 (the most) to 5. Default 3. Not in force yet: the fuse will use it.
	Level int `json:"level"`
	// Workload is online or offline. Default online. Not in force yet.
	Workload Workload `json:"workload"`
	// Protocol is what the instances speak. Default http; tcp is for bypass mode only.
	Protocol Protocol `json:"protocol"`
	// Host overrides the Host header sent to instances, and names the TLS peer. Default: the client's own.
	Host string `json:"host,omitempty"`
	// TLS configures connections to instances of protocol https.
	TLS TLS `json:"tls,omitzero"`
	// Routes choose a subset of the instances; the first match wins; none: all instances. Not in force yet.
	Routes []Route `json:"routes,omitempty"`
	// IDCRoutes override the Topology's routes for this callee, by the caller's logical IDC. Not in force yet.
	IDCRoutes map[string][]IDCWeight `json:"idc_routes,omitempty"`
	// Balance is how one instance is chosen out of a subset.
	Balance Balance `json:"balance"`
	// Connections says how connections to instances are kept.
	Connections Connections `json:"connections"`
	// Timeouts limit an attempt and the whole call.
	Timeouts Timeouts `json:"timeouts"`
	// Retries limit the attempts after the first.
	Retries Retries `json:"retries"`
	// Hedge sends a second attempt when the first is late. Absent: off. Not in force yet.
	Hedge *Hedge `json:"hedge,omitempty"`
	// Ban says when an instance is taken out, and for how long.
	Ban Ban `json:"ban"`
	// Check makes the agent test the instances by itself. Absent: off. Not in force yet.
	Check *Check `json:"check,omitempty"`
	// Fuse limits what reaches a collapsing service. Not in force yet.
	Fuse Fuse `json:"fuse"`
	// Drop cuts callers off by percent. Not in force yet.
	Drop []Drop `json:"drop,omitempty"`
	// Callers is the line view: what differs for some callers; the first match wins. Not in force yet.
	Callers []CallerOverride `json:"callers,omitempty"`
}

// Workload says whether people wait for a service's answers.
type Workload string

// The workloads.
const (
	Online  Workload = "online"
	Offline Workload = "offline"
)

// Protocol is what the instances of a service speak.
type Protocol string

// The protocols.
const (
	HTTP  Protocol = "http"  // HTTP/1.1 without TLS
	HTTPS Protocol = "https" // HTTP/1.1 or HTTP/2 over TLS. Not in force yet
	H2C   Protocol = "h2c"   // HTTP/2 without TLS. Not in force yet
	TCP   Protocol = "tcp"   // anything else: bypass mode only
)

// TLS configures connections to instances of protocol https. Files are read on the agent's machine. Not in force yet.
type TLS struct {
	CA         string `json:"ca,omitempty"`          // PEM file of the authorities trusted; default: the system's
	Cert       string `json:"cert,omitempty"`        // PEM file of the client certificate; goes with Key
	Key        string `json:"key,omitempty"`         // PEM file of the client certificate's key
	SkipVerify bool   `json:"skip_verify,omitempty"` // trust any certificate. For tests only
}

// Route sends the requests that it matches to label subsets, by weight.
type Route struct {
	Match Match   `json:"match,omitzero"`
	Split []Split `json:"split,omitempty"` // none: all instances
}

// Match selects requests. Everything given must hold; an empty Match takes every request.
type Match struct {
	Callers    []string               `json:"callers,omitempty"`     // globs (path.Match) over the caller's name
	CallerIDCs []string               `json:"caller_idcs,omitempty"` // physical IDCs of the caller
	Methods    []string               `json:"methods,omitempty"`     // HTTP methods, upper case
	Path       string                 `json:"path,omitempty"`        // a path, exact or with a * at its end
	Headers    map[string]StringMatch `json:"headers,omitempty"`     // by header name, in any case
	Percent    *float64               `json:"percent,omitempty"`     // of what else matches, 0–100. Default 100
}

// StringMatch tests one header. Exactly one field is given.
type StringMatch struct {
	Equal   *string `json:"equal,omitempty"`
	Prefix  *string `json:"prefix,omitempty"`
	Regex   *string `json:"regex,omitempty"`   // RE2, must match the whole value
	Present *bool   `json:"present,omitempty"` // false: must be absent
}

// Split is one label subset and its share of a route's requests.
type Split struct {
	Labels map[string]string `json:"labels,omitempty"` // an instance belongs to it if it has all of them
	Weight int               `json:"weight"`           // 0–1,000,000. Default 100
}

// IDCWeight is one row of an IDC table: a logical IDC and its share.
type IDCWeight struct {
	To     string `json:"to"`
	Weight int    `json:"weight"` // 0–1,000,000. Default 100
}

// BalancePolicy names a way to choose an instance.
type BalancePolicy string

// The policies. Only RoundRobin is in force yet, and stands in for the others.
const (
	RoundRobin     BalancePolicy = "round_robin"
	Random         BalancePolicy = "random"
	LeastRequest   BalancePolicy = "least_request"
	EWMA           BalancePolicy = "ewma"
	ConsistentHash BalancePolicy = "consistent_hash"
)

// Balance says how an instance is chosen.
type Balance struct {
	Policy BalancePolicy `json:"policy"` // default round_robin
	// Hash is what consistent_hash hashes: header:NAME, query:NAME, cookie:NAME, path or client. Not in force yet.
	Hash string `json:"hash,omitempty"`
}

// Connections says how connections to instances are kept.
type Connections struct {
	KeepAlive          bool     `json:"keepalive"`             // default true; false: one request per connection
	MaxIdlePerInstance int      `json:"max_idle_per_instance"` // 0–65536. Default 64; 0 keeps none
	IdleTimeout        Duration `json:"idle_timeout"`          // 1s–1h. Default 60s; should be less than the instance's own
}

// Timeouts are the two sets of time limits, for normal times and for an avalanche.
type Timeouts struct {
	Normal    TimeoutSet `json:"normal"`
	Avalanche TimeoutSet `json:"avalanche"` // Not in force yet
	// ClientOverride lets a client's x-ufc-*-timeout-ms headers replace these. Default true. Not in force yet.
	ClientOverride bool `json:"client_override"`
}

// TimeoutSet are the time limits of an attempt (connect, write, read) and of the whole call (total): 1ms–24h.
type TimeoutSet struct {
	Connect Duration `json:"connect"` // until the connection stands. Default 300ms (avalanche 100ms)
	Write   Duration `json:"write"`   // until the request is written. Default 5s (1s). Not in force yet
	Read    Duration `json:"read"`    // until the response's head, and idle within its body. Default 5s (1s). Not in force yet
	Total   Duration `json:"total"`   // of the whole call. Default 10s (2s). Not in force yet
}

// Retries limit the attempts after the first.
type Retries struct {
	Normal    RetrySet `json:"normal"`
	Avalanche RetrySet `json:"avalanche"`        // Not in force yet
	Unsafe    bool     `json:"unsafe,omitempty"` // also what isn't idempotent, after bytes were sent. Not in force yet
	Budget    float64  `json:"budget"`           // tokens earned by a request, 0–1. Default 0.1. Not in force yet
}

// RetrySet is one set of retry limits.
type RetrySet struct {
	Attempts int         `json:"attempts"` // after the first, 0–10. Default 2 (avalanche 0)
	When     []RetryWhen `json:"when"`     // default all three. Only connect is in force yet
}

// RetryWhen is a stage of an attempt whose failure may be retried.
type RetryWhen string

// The stages.
const (
	WhenConnect RetryWhen = "connect"
	WhenWrite   RetryWhen = "write"
	WhenRead    RetryWhen = "read"
)

// Hedge sends a second attempt when the first is later than a percentile of the live latency.
type Hedge struct {
	Percentile float64 `json:"percentile"` // 0.5–0.999. Default 0.95
	Budget     float64 `json:"budget"`     // share of requests, 0–0.5. Default 0.05
}

// Ban says when an instance is taken out of the choice, and for how long.
type Ban struct {
	// Requests bans after so many failures of the last so many outcomes. Absent: 5 of 10 (a sequential test later).
	Requests *RequestBan `json:"requests,omitempty"`
	// Deviation bans an instance that differs from the others. Not in force yet.
	Deviation DeviationBan `json:"deviation"`
	// BadCodes cuts an instance's weight by this factor (0–1) for each answer of the HTTP status. Not in force yet.
	BadCodes map[string]float64 `json:"bad_codes,omitempty"`
	// Duration of a ban: 100ms–24h, default 10s. It ends only when the port answers a probe.
	Duration Duration `json:"duration"`
	// MaxDuration is where doubling ends: Duration–24h, default 10m. Not in force yet: the duration is fixed.
	MaxDuration Duration `json:"max_duration"`
	// MaxRatio is the share of the instances that may be banned by suspicion, 0–1. Default 0.3. Not in force yet.
	MaxRatio float64 `json:"max_ratio"`
	// Probe is the TCP connect that confirms a refused connection and ends a ban.
	Probe Probe `json:"probe"`
	// Webhook hands long bans over to the platform. Absent: off. Not in force yet.
	Webhook *Webhook `json:"webhook,omitempty"`
}

// RequestBan bans at Failures failures within the last Of outcomes.
type RequestBan struct {
	Failures int `json:"failures"` // 1–Of. Default 5
	Of       int `json:"of"`       // 1–64. Default 10
}

// DeviationBan compares an instance's status codes and latency with the others'. Not in force yet.
type DeviationBan struct {
	Status   bool     `json:"status"`   // default true
	Latency  bool     `json:"latency"`  // default true
	Interval Duration `json:"interval"` // between judgements, 1s–5m. Default 5s
}

// Probe is a TCP connect to an instance's port.
type Probe struct {
	Timeout Duration `json:"timeout"` // 1ms–1m. Default 500ms
}

// Webhook is told when an instance has been banned for long.
type Webhook struct {
	URL   string   `json:"url"`   // http or https
	After Duration `json:"after"` // 1s–24h. Default 10m
}

// Check makes the agent test the instances of a callee by itself. Not in force yet.
type Check struct {
	Interval Duration `json:"interval"` // 100ms–1h. Default 5s
	Type     string   `json:"type"`     // tcp
}

// Fuse limits what reaches a collapsing service. Not in force yet.
type Fuse struct {
	SuccessBelow float64 `json:"success_below"` // enter below this success share, 0–1. Default 0.8
	MinOutcomes  int     `json:"min_outcomes"`  // judge at so many, 1–1,000,000. Default 10
	Floor        float64 `json:"floor"`         // share that always passes, 0.0001–1. Default 0.01
}

// Drop cuts off a share of some callers' requests. Not in force yet.
type Drop struct {
	Callers []string `json:"callers"` // globs; at least one
	Percent float64  `json:"percent"` // 0–100. Default 100
}

// CallerOverride is what differs for the callers that Match. What isn't given stays as the Service has it.
type CallerOverride struct {
	Match    []string          `json:"match"`              // globs; at least one
	Level    *int              `json:"level,omitempty"`    // 1–5
	Timeouts *TimeoutsOverride `json:"timeouts,omitempty"` //
	Retries  *RetriesOverride  `json:"retries,omitempty"`  //
	Routes   []Route           `json:"routes,omitempty"`   // instead of the Service's
}

// TimeoutsOverride changes some time limits. A zero duration is not an override.
type TimeoutsOverride struct {
	Normal         TimeoutSet `json:"normal,omitzero"`
	Avalanche      TimeoutSet `json:"avalanche,omitzero"`
	ClientOverride *bool      `json:"client_override,omitempty"`
}

// RetriesOverride changes some retry limits.
type RetriesOverride struct {
	Normal    RetrySetOverride `json:"normal,omitzero"`
	Avalanche RetrySetOverride `json:"avalanche,omitzero"`
	Unsafe    *bool            `json:"unsafe,omitempty"`
	Budget    *float64         `json:"budget,omitempty"`
}

// RetrySetOverride changes some limits of one retry set.
type RetrySetOverride struct {
	Attempts *int        `json:"attempts,omitempty"`
	When     []RetryWhen `json:"when,omitempty"`
}
