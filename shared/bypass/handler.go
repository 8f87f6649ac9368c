package bypass

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/model"
)

// maxBackends is how many backends one get may ask for.
const maxBackends = 100

// Query answers a debug path; mesh.Mesh.Query is one. Its error wraps agent.ErrSelector if the path selects nothing.
type Query func(path string) (map[string]any, error)

// Options are the settings of a Handler.
type Options struct {
	// Token must be in the header "token" of a debug query. Empty: queries are off.
	Token string
	// CallbackBy is what a callback may name an instance by: ByBackend, its address, from programs of this machine, as is needed for
	// instances that were found by DNS; or ByID, the id of a hand-out, only. An id may always be named. Default: ByBackend.
	CallbackBy string
}

// The values of Options.CallbackBy.
const (
	ByBackend = "backend"
	ByID      = "id"
)

// CheckCallbackBy tells what is wrong with a value of Options.CallbackBy; nil: nothing.
func CheckCallbackBy(value string) error {
	if value != ByBackend && value != ByID {
		return fmt.Errorf("%q is not %s or %s", value, ByBackend, ByID)
	}
	return nil
}

// Handler serves the commands get, callback and query, whatever the path. It is used by many goroutines at once.
type Handler struct {
	agent   *agent.Agent
	query   Query
	options Options
	token   [sha256.Size]byte // hash of the token
	limits  limits
}

// New returns a handler over an agent.
func New(a *agent.Agent, query Query, options Options) *Handler {
	return &Handler{agent: a, query: query, options: options, token: sha256.Sum256([]byte(options.Token)), limits: newLimits()}
}

// maxQuery is the longest query string that is read, in bytes.
const maxQuery = 4 << 10

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if fromPage(r) {
		refusal := &agent.Refusal{Reason: agent.ReasonForbidden, Detail: "a page in a browser may ask and report nothing"}
		refusal.ServeHTTP(w, r)
		return
	}
	if length := len(r.URL.RawQuery); length > maxQuery {
		badRequest("the query string has %d bytes, more than %d", length, maxQuery).ServeHTTP(w, r)
		return
	}
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		badRequest("the query string can't be read: %v", err).ServeHTTP(w, r)
		return
	}
	var refusal *agent.Refusal
	switch command := parameters.Get("command"); command {
	case "get":
		refusal = h.only(r, h.get, w, parameters, http.MethodGet, http.MethodHead)
	case "callback":
		refusal = h.only(r, h.callback, w, parameters, http.MethodPost)
	case "query":
		refusal = h.only(r, h.debug, w, parameters, http.MethodGet, http.MethodHead)
	default:
		refusal = badRequest("command: %q is not one of get, callback, query", command)
	}
	if refusal != nil {
		refusal.ServeHTTP(w, r)
	}
}

func badRequest(format string, args ...any) *agent.Refusal {
	return &agent.Refusal{Reason: agent.ReasonBadRequest, Detail: fmt.Sprintf(format, args...)}
}

type command func(http.ResponseWriter, *http.Request, url.Values) *agent.Refusal

// only runs a command if the request's method is one of its methods.
func (h *Handler) only(r *http.Request, f command, w http.ResponseWriter, parameters url.Values, methods ...string) *agent.Refusal {
	if slices.Contains(methods, r.Method) {
		return f(w, r, parameters)
	}
	w.Header().Set("Allow", methods[0])
	return &agent.Refusal{Reason: agent.ReasonMethod, Detail: fmt.Sprintf("this command takes %s, not %s", methods[0], r.Method)}
}

// Backend is one instance handed out by get.
type Backend struct {
	Backend  string   `json:"backend"` // IP:port
	ID       string   `json:"id"`      // names this hand-out in its callback; good once, for 5 minutes
	Weight   int      `json:"weight"`  // in force now, which may be less than the document's
	Timeouts Timeouts `json:"timeouts"`
}

// Timeouts are the callee's time limits in force, in milliseconds.
type Timeouts struct {
	Connect int64 `json:"connect_ms"`
	Write   int64 `json:"write_ms"`
	Read    int64 `json:"read_ms"`
	Total   int64 `json:"total_ms"`
}

func newTimeouts(set *model.TimeoutSet) Timeouts {
	return Timeouts{
		Connect: set.Connect.Std().Milliseconds(), Write: set.Write.Std().Milliseconds(),
		Read: set.Read.Std().Milliseconds(), Total: set.Total.Std().Milliseconds(),
	}
}

// families are the values of get's parameter family: the IP version that the program's sockets are of.
var families = map[string]agent.Family{"": agent.AnyFamily, "4": agent.IPv4, "6": agent.IPv6}

// get hands out backends: ?command=get&service=S[&from=C][&key=K][&n=N][&family=4|6].
func (h *Handler) get(w http.ResponseWriter, _ *http.Request, parameters url.Values) *agent.Refusal {
	n := 1
	if text := parameters.Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxBackends {
			return badRequest("n: %q is not a number from 1 to %d", text, maxBackends)
		}
	}
	if parameters.Get("service") == "" {
		return &agent.Refusal{Reason: agent.ReasonNoCallee, Detail: "service: a get must name one"}
	}
	family, known := families[parameters.Get("family")]
	if !known {
		return badRequest("family: %q is not one of 4, 6", parameters.Get("family"))
	}
	call := &agent.Call{ // which a hand-out keeps for minutes, but not the request that these are parts of
		Callee: strings.Clone(parameters.Get("service")), Caller: strings.Clone(parameters.Get("from")),
		Key:   strings.Clone(parameters.Get("key")),
		Class: agent.DefaultClass, HandOut: true, Family: family,
	}
	if err := h.agent.Begin(call); err != nil {
		return asRefusal(err)
	}
	var backends []Backend
	for len(backends) < n {
		attempt, err := h.agent.Pick(call)
		if err != nil && len(backends) == 0 {
			return asRefusal(err)
		}
		if err != nil {
			break // fewer instances than were asked for
		}
		backends = append(backends, Backend{
			Backend: attempt.HostPort, ID: h.agent.HandOut(attempt), Weight: weightInForce(attempt),
			Timeouts: newTimeouts(call.Timeouts()),
		})
		if attempt.Panic {
			w.Header().Set("X-Ufc-Panic", "1")
		}
	}
	if call.Degrade > 0 {
		w.Header().Set("X-Ufc-Degrade", strconv.Itoa(call.Degrade))
	}
	writeJSON(w, struct {
		Backends []Backend `json:"backends"`
	}{backends})
	return nil
}

// weightInForce is an instance's weight as slow start and slowness lower it; at least 1, since it was chosen.
func weightInForce(attempt *agent.Attempt) int {
	return max(int(float64(attempt.Weight())*attempt.Share()), 1)
}

func asRefusal(err error) *agent.Refusal {
	var refusal *agent.Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return badRequest("%v", err)
}

// debug answers ?command=query&ar=A^B^C for whoever has the token.
func (h *Handler) debug(w http.ResponseWriter, r *http.Request, parameters url.Values) *agent.Refusal {
	if h.options.Token == "" {
		return &agent.Refusal{Reason: agent.ReasonForbidden, Detail: "queries are off: no token is configured"}
	}
	guesses := h.limits.guesses(r)
	if guesses.Tokens() < 1 {
		return tooMany(w, "too many wrong tokens")
	}
	// Hashes have one length, so that the comparison's time tells nothing of the token's.
	given := sha256.Sum256([]byte(r.Header.Get("token")))
	if subtle.ConstantTimeCompare(given[:], h.token[:]) != 1 {
		guesses.Allow()
		return &agent.Refusal{Reason: agent.ReasonForbidden, Detail: "the header token is missing or wrong"}
	}
	if !h.limits.queries.Allow() {
		return tooMany(w, "too many queries")
	}
	answer, err := h.query(parameters.Get("ar"))
	if err != nil {
		return badRequest("ar: %v", err)
	}
	writeJSON(w, answer)
	return nil
}

func writeJSON(w http.ResponseWriter, answer any) {
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = jsonType, noStore
	// The client may be gone; there is nobody else to tell.
	_ = json.NewEncoder(w).Encode(answer)
}

// Values that every answer has; nobody changes them.
var jsonType, noStore = []string{"application/json"}, []string{"no-store"}
