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
	// Level is how important the service is as a caller, 1 (the most) to 5, unless its callee's Callers say otherwise.
	// Default 3. In an avalanche of a callee, the requests of the least important callers are refused first.
	Level int `json:"level"`
	// Workload tells whether people wait for it: online or offline. Default online. Not in force yet.
	Workload Workload `json:"workload"`
	// Protocol is what the instances speak. Default http. Clients speak to the agent as they like, whatever it is; but a
	// gRPC call needs HTTP/2 on both ways.
	Protocol Protocol `json:"protocol"`
	// Host overrides the Host header that instances get. Default: the client's own. Under protocol https it is also,
	// without a port, the name that the instance's certificate must be for; without it, that is the instance's IP address.
	Host string `json:"host,omitempty"`
	// TLS configures connections to instances of protocol https.
	TLS TLS `json:"tls,omitzero"`
	// Routes choose a subset of the instances by caller and request. The first one that matches decides; if none does, all
	// instances are the subset. Default: none.
	Routes []Route `json:"routes,omitempty"`
	// IDCRoutes replace the Topology's routes for this callee, by the caller's logical IDC, each table as a whole. A logical
	// IDC without a table here keeps the Topology's. Default: none.
	IDCRoutes map[string][]IDCWeight `json:"idc_routes,omitempty"`
	// Balance is how one instance is chosen out of a subset.
	Balance Balance `json:"balance"`
	// Connections says how connections to instances are kept.
	Connections Connections `json:"connections"`
	// Timeouts limit an attempt and the whole call. In bypass mode they are handed out for the program to keep.
	Timeouts Timeouts `json:"timeouts"`
	// Retries limit the attempts after the first. Through mode only.
	Retries Retries `json:"retries"`
	// Hedge sends a second attempt beside a first one that is late. Absent: off. Through mode only.
	Hedge *Hedge `json:"hedge,omitempty"`
	// Ban says when an instance is taken out, and for how long.
	Ban Ban `json:"ban"`
	// Check makes the agent test the instances by itself. Absent: off.
	Check *Check `json:"check,omitempty"`
	// Fuse limits what reaches a collapsing service.
	Fuse Fuse `json:"fuse"`
	// Drop cuts callers off by percent. The first rule for a caller counts.
	Drop []Drop `json:"drop,omitempty"`
	// Callers is the line view: what differs for some callers. The first one that matches decides. Default: none.
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
	HTTPS Protocol = "https" // TLS 1.2 or later, with HTTP/2 or HTTP/1.1 in it as the instance chooses (ALPN)
	H2C   Protocol = "h2c"   // HTTP/2 without TLS, spoken at once (RFC 9113 §3.3), as gRPC does. It knows no WebSockets
	TCP   Protocol = "tcp"   // anything else: bypass mode only
)

// TLS configures connections to instances of protocol https. Files are read on the agent's machine. They are looked at
// again when a connection is made, at most every 10 s; if they have changed, new connections use the new ones. Changed files
// that are no good leave the last good ones in force, and the log says so.
type TLS struct {
	CA         string `json:"ca,omitempty"`          // PEM file of the authorities trusted. Default: the system's
	Cert       string `json:"cert,omitempty"`        // PEM file of the client certificate; goes with Key. Default: none is shown
	Key        string `json:"key,omitempty"`         // PEM file of the client certificate's key
	SkipVerify bool   `json:"skip_verify,omitempty"` // trust any certificate. Default false. For tests only
}

// Route sends the requests that it matches to label subsets, by weight.
type Route struct {
	Match Match `json:"match,omitzero"`
	// Split shares the matched requests out among label subsets. Default: all instances. A subset none of whose instances
	// may be chosen (banned, drained, down, tried) spills to the route's others, the largest weight first, but never out of
	// the route.
	Split []Split `json:"split,omitempty"`
}

// Match selects requests. Everything given must hold; an empty Match takes every request. In bypass mode a request has a
// caller and a caller's IDC alone: what tests method, path or headers doesn't hold there, but for a header that must be
// absent.
type Match struct {
	// Callers are globs (path.Match) over the caller's name. An unknown caller's name is empty: only * takes it.
	Callers []string `json:"callers,omitempty"`
	// CallerIDCs are physical IDCs, of which one is the caller's: by x-ufc-idc or client_idc, else the agent's own.
	CallerIDCs []string `json:"caller_idcs,omitempty"`
	// Methods are HTTP methods, in upper case.
	Methods []string `json:"methods,omitempty"`
	// Path is a path without the query: the whole one, or with a * at its end one that begins so. "/upload/*" takes
	// "/upload/" and "/upload/a/b", but not "/upload"; "/upload*" takes all three. Percent-escapes are seen through, as
	// servers see through them: "/%75pload" is "/upload". But an escaped slash (%2F) is never a slash, and "." and ".."
	// are not resolved.
	Path string `json:"path,omitempty"`
	// Headers are tests by header name, in any case.
	Headers map[string]StringMatch `json:"headers,omitempty"`
	// Percent is the share of what else matches, 0–100. Default 100. Under balance policy consistent_hash it is stable: a
	// key is always in or always out, at every agent, and a larger percent only adds keys. Otherwise, and for requests
	// without a key, each request is drawn for itself. What is left out goes on to the next route.
	Percent *float64 `json:"percent,omitempty"`
}

// StringMatch tests one header. Exactly one field is given. Of a header that is there several times, one value that passes
// is enough; a value isn't split at its commas. A header that is absent is not an empty one: it passes "present: false"
// alone, not even an empty Equal or Prefix.
type StringMatch struct {
	Equal   *string `json:"equal,omitempty"`   // the whole value, case and all
	Prefix  *string `json:"prefix,omitempty"`  // what the value begins with
	Regex   *string `json:"regex,omitempty"`   // RE2; must match the whole value
	Present *bool   `json:"present,omitempty"` // true: is there, with whatever value; false: is absent
}

// Split is one label subset and its share of a route's requests. Under balance policy consistent_hash a key stays with its
// split while the weights stay.
type Split struct {
	// Labels are what an instance must have, all of them, to belong to it. Default: none, which all instances have.
	Labels map[string]string `json:"labels,omitempty"`
	// Weight is its share relative to the others', 0–1,000,000. Default 100. 0: only what the others can't take.
	Weight int `json:"weight"`
}

// IDCWeight is one row of an IDC table: a logical IDC and its share.
type IDCWeight struct {
	To string `json:"to"`
	// Weight is its share relative to the other rows', 0–1,000,000. Default 100. 0: only what the others can't take. An
	// IDC none of whose instances in the subset may be chosen gives its share to the others, in proportion.
	Weight int `json:"weight"`
}

// BalancePolicy names a way to choose an instance.
type BalancePolicy string

// The policies. All go by weights, and never choose an instance twice for one call. Under the last three it counts what
// this agent alone has in flight; other agents' requests are unknown to it.
const (
	RoundRobin     BalancePolicy = "round_robin"     // in turn
	Random         BalancePolicy = "random"          // drawn
	LeastRequest   BalancePolicy = "least_request"   // of two drawn, the one with less in flight (Mitzenmacher 2001)
	EWMA           BalancePolicy = "ewma"            // of two drawn, the one to answer sooner, by peak EWMA (Finagle's, 10 s)
	ConsistentHash BalancePolicy = "consistent_hash" // by key, up to 5/4 of its share in flight (Mirrokni et al. 2016)
)

// Balance says how one instance is chosen out of those that routes, IDC and bans leave.
type Balance struct {
	Policy BalancePolicy `json:"policy"` // default round_robin
	// Hash is what consistent_hash hashes, and needs: header:NAME, query:NAME, cookie:NAME, path (without the query) or
	// client (the IP address of the connection to the agent). The first value counts. A request without the value, or with
	// an empty one, has no key, and is drawn at random. /bypass takes a key instead. The other policies don't look at it.
	Hash string `json:"hash,omitempty"`
}

// Connections says how connections to instances are kept. Through mode only.
type Connections struct {
	KeepAlive          bool     `json:"keepalive"`             // default true; false: one request per connection
	MaxIdlePerInstance int      `json:"max_idle_per_instance"` // 0–65536. Default 64; 0 keeps none
	IdleTimeout        Duration `json:"idle_timeout"`          // 1s–1h. Default 60s; should be less than the instance's own
}

// Timeouts are the two sets of time limits, for normal times and for an avalanche: while the fuse limits what reaches the service.
type Timeouts struct {
	Normal TimeoutSet `json:"normal"`
	// Avalanche may be longer in force than it says: Read and Total are at least three times the 95th percentile of the normal
	// latency, but not over Normal's.
	Avalanche TimeoutSet `json:"avalanche"`
	// ClientOverride lets a client's x-ufc-connect-timeout-ms, -write- and -read- replace these, longer or shorter; in an
	// avalanche only shorter. Default true. x-ufc-timeout-ms, the time that the client has left, counts in any case.
	ClientOverride bool `json:"client_override"`
}

// TimeoutSet are the time limits of an attempt (connect, write, read) and of the whole call (total): 1ms–24h each. The
// defaults in parentheses are those of an avalanche.
type TimeoutSet struct {
	// Connect is how long a connection may take to stand, TLS included. Default 300ms (100ms).
	Connect Duration `json:"connect"`
	// Write is how long the instance may take nothing of the request. Time in which the client sends nothing doesn't count.
	// Default 5s (1s).
	Write Duration `json:"write"`
	// Read is how long the response's head may take once the request is sent, and then how long the response's body may
	// stand still. Default 5s (1s).
	Read Duration `json:"read"`
	// Total is how long the call may take from its beginning to the response's head, retries and their pauses included. The
	// time that the request's body takes isn't counted, and the response's body has no total limit. Default 10s (2s).
	Total Duration `json:"total"`
}

// Retries limit the attempts after the first, each on an instance that the call hasn't tried.
type Retries struct {
	Normal    RetrySet `json:"normal"`
	Avalanche RetrySet `json:"avalanche"` // the fuse must admit each, too
	// Unsafe allows what isn't idempotent to be sent again after some of it was sent, too. Default false: only GET, HEAD,
	// OPTIONS, TRACE, PUT and DELETE (RFC 9110 §9.2.2), and what has a header Idempotency-Key or X-Idempotency-Key.
	Unsafe bool `json:"unsafe,omitempty"`
	// Budget is how many retries a request earns, 0–1. Default 0.1: retries add at most a tenth to the load. It is a bucket
	// per callee and agent that begins with 10, and holds no more. A retry of a refused connection takes nothing of it.
	Budget float64 `json:"budget"`
}

// RetrySet is one set of retry limits.
type RetrySet struct {
	// Attempts is how many may follow the first, 0–10. Default 2 (avalanche 0). A hedge is none of them.
	Attempts int `json:"attempts"`
	// When names the stages whose failure is retried. Default: all three.
	When []RetryWhen `json:"when"`
}

// RetryWhen is a stage of an attempt whose failure may be retried.
type RetryWhen string

// The stages.
const (
	WhenConnect RetryWhen = "connect" // no connection: nothing was sent, so that any request may be retried
	WhenWrite   RetryWhen = "write"   // the request could not be sent wholly
	WhenRead    RetryWhen = "read"    // it was sent, and no response's head came
)

// Hedge sends a second attempt to another instance when the first is later than a percentile of the live latency. The first
// response is the client's, and the other attempt is given up (Dean, Barroso: The Tail at Scale, 2013).
//
// Only the call's first attempt has a hedge, only for what may be retried after bytes were sent (Retries.Unsafe), and only
// without a body. It is off for a minute when of 20 hedges fewer than a tenth were quicker.
type Hedge struct {
	// Percentile of the time to the response's head, in the last 10 to 20 s, 0.5–0.999. Default 0.95. Nothing is hedged
	// while fewer than 20 responses are known.
	Percentile float64 `json:"percentile"`
	// Budget is how many hedges a request earns, 0–0.5. Default 0.05. A bucket as that of Retries, of its own.
	Budget float64 `json:"budget"`
}

// Ban says when an instance is taken out of the choice, and for how long.
type Ban struct {
	// Requests bans after so many failures of the last so many outcomes. Absent: a sequential test against the failures of
	// the other instances, which bans nobody for errors that all have, and one that always fails among sound ones after 7
	// failures. A failure is one of communication, and is forgotten after 10 minutes without another.
	Requests *RequestBan `json:"requests,omitempty"`
	// Deviation bans an instance that answers otherwise than the others.
	Deviation DeviationBan `json:"deviation"`
	// BadCodes multiply an instance's weight by a factor, 0–1, for each answer of that HTTP status, such as "503": 0.5. The
	// weight recovers by doubling every 10 s, and is never under 1/32 of what it was. Default: none.
	BadCodes map[string]float64 `json:"bad_codes,omitempty"`
	// Duration of the first ban, ±10 %: 100ms–24h, default 10s. It ends only when the port answers a probe; else it goes on
	// for as long again. Then the instance gets one request at a time, and after three successes a slow start: for 30 s its
	// weight grows from 1/32 to the whole.
	Duration Duration `json:"duration"`
	// MaxDuration is where doubling ends: Duration–24h, default 10m. Each ban soon after the last is twice as long; a step
	// is forgotten after 20 successes within twice the time of the next ban, and at least a minute.
	MaxDuration Duration `json:"max_duration"`
	// MaxRatio is the share of the serving instances of a logical IDC that may be banned by suspicion, 0–1: of two or three
	// it is one, unless MaxRatio is 0. Default 0.3. Proof isn't bound by it.
	MaxRatio float64 `json:"max_ratio"`
	// Probe is the TCP connect that confirms a refused connection and ends a ban.
	Probe Probe `json:"probe"`
	// Webhook tells the platform of long bans, and of a cap that was reached. Absent: off.
	Webhook *Webhook `json:"webhook,omitempty"`
}

// RequestBan bans at Failures failures within the last Of outcomes.
type RequestBan struct {
	Failures int `json:"failures"` // 1–Of. Default 5
	Of       int `json:"of"`       // 1–64. Default 10
}

// DeviationBan compares an instance's answers with those of the others to the same caller on the same route and split: the
// shares of 4xx (not under consistent hash) and of 5xx, and the latency within the logical IDC. The weight of one that is
// slow is cut first. A ban by deviation ends after 20 trials that don't deviate, which are at most 1 % of the traffic.
type DeviationBan struct {
	Status  bool `json:"status"`  // default true
	Latency bool `json:"latency"` // default true
	// Interval between judgements, 1s–5m. Default 1s: of 20 instances at 20 requests/s one gets 10 in 10 s, and would be found
	// after that time at 5s.
	Interval Duration `json:"interval"`
}

// Probe is a TCP connect to an instance's port.
type Probe struct {
	Timeout Duration `json:"timeout"` // 1ms–1m. Default 500ms
}

// Webhook is told when an instance has been banned for long.
type Webhook struct {
	URL   string   `json:"url"`   // http or https
	After Duration `json:"after"` // banned altogether, 1s–24h. Default 10m
}

// Check makes the agent test the instances of a callee by itself, for callees whose callers never report. They are connected
// to one after another, evenly over the interval, for 5 minutes after the callee was last asked for. A result counts as an
// outcome.
type Check struct {
	Interval Duration `json:"interval"` // 100ms–1h. Default 5s
	Type     string   `json:"type"`     // tcp
}

// Fuse limits what reaches a collapsing service to what the service delivers, the most important requests first: by the caller's
// Level, the class of the request within its caller, and whether it is a repeat. There is one per service and agent.
type Fuse struct {
	// SuccessBelow is the share of attempts that succeed, 0–1, under which an avalanche begins, and what is admitted shrinks in it.
	// The worst 30 % of the instances are left out, and what is usual for the service is no reason. Default 0.8. 0: the fuse
	// is off.
	SuccessBelow float64 `json:"success_below"`
	// MinOutcomes is how many outcomes a judgement of normal times takes, 1–1,000,000. Default 10. After 5 s, 3 will do; so will 5
	// that are bad.
	MinOutcomes int `json:"min_outcomes"`
	// Floor is the share of the requests that passes in any case, 0.0001–1. Default 0.01. It is at least one request in 5 s, as long
	// as that is no more than a tenth of them.
	Floor float64 `json:"floor"`
}

// Drop cuts off a share of some callers' requests. Under consistent hash it is the same users each time.
type Drop struct {
	Callers []string `json:"callers"` // globs; at least one. An unknown caller's name is empty: only * takes it
	Percent float64  `json:"percent"` // 0–100. Default 100
}

// CallerOverride is what differs for the callers that Match. What isn't given stays as the Service has it.
type CallerOverride struct {
	// Match are globs (path.Match) over the caller's name; at least one. An unknown caller's name is empty: only * takes it.
	Match []string `json:"match"`
	// Level is the importance of these callers' requests, 1 (the most) to 5. Default: the caller's own Level.
	Level    *int              `json:"level,omitempty"`
	Timeouts *TimeoutsOverride `json:"timeouts,omitempty"`
	Retries  *RetriesOverride  `json:"retries,omitempty"`
	// Routes stand instead of the Service's, all of them. An empty list: these callers get all instances.
	Routes []Route `json:"routes,omitempty"`
}

// TimeoutsOverride changes some time limits. A limit that isn't given stays.
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

// RetrySetOverride changes some limits of one retry set. An empty When is one: nothing is retried.
type RetrySetOverride struct {
	Attempts *int        `json:"attempts,omitempty"`
	When     []RetryWhen `json:"when,omitempty"`
}
