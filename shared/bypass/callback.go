package bypass

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/health"
)

const (
	maxBody     = 1 << 20            // bytes of a callback
	maxReports  = 10_000             // in one list
	bodyTimeout = 15 * time.Second   // until all of a callback's body is there
	maxLatency  = 24 * 3600 * 1000.0 // milliseconds
)

// report is one callback as its sender writes it.
type report struct {
	Service string  `json:"service"` // the callee; may be left out beside an id
	Backend string  `json:"backend"` // IP:port
	ID      string  `json:"id"`      // of the hand-out, instead of backend
	From    string  `json:"from"`    // the caller
	Result  string  `json:"result"`
	Latency float64 `json:"latency_ms"`
	Code    int     `json:"code"` // HTTP status, or one that stands for it

	result  health.Result
	address netip.AddrPort
	line    int  // of an NDJSON body, from 1; 0: it isn't one
	unknown bool // no document names the service
}

// callback takes what programs report: a form, a JSON object, a list of them, or one a line (NDJSON). All of them are checked before
// any counts, so that a sender that mends its mistake may send all of it again.
func (h *Handler) callback(w http.ResponseWriter, r *http.Request, _ url.Values) *agent.Refusal {
	reports, err := readReports(w, r)
	if err == nil {
		err = h.check(reports)
	}
	if refusal, ok := errors.AsType[*agent.Refusal](err); ok {
		return refusal
	}
	if err != nil {
		h.agent.CountCallback("", "malformed")
		return badRequest("%v", err)
	}
	if why := h.byIDOnly(r); why != "" {
		for n := range reports {
			if reports[n].ID == "" {
				h.agent.CountCallback(reports[n].Service, "forbidden")
				return &agent.Refusal{Reason: agent.ReasonForbidden, Detail: why}
			}
		}
	}
	for n := range reports {
		h.apply(&reports[n])
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// fromPage tells whether a page in a browser makes the request: it could have the browser of this machine ban instances for it, also as one
// whose own name leads here (DNS rebinding), for which all is of one origin. Browsers put the page's origin into each POST. A user who
// types an address is no page ("none").
func fromPage(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return r.Header["Origin"] != nil || site != "" && site != "none"
}

// byIDOnly tells why a request's reports must name ids; empty: they needn't. Only programs of this machine may report on a backend
// that they found by DNS, where there is no id, unless that is switched off; others could ban what they like.
func (h *Handler) byIDOnly(r *http.Request) string {
	switch {
	case h.options.CallbackBy == ByID:
		return "a callback must name the id of its hand-out: reports by backend are switched off"
	case !fromLoopback(r):
		return "from another machine a callback must name the id of its hand-out"
	}
	for _, name := range relayed {
		if r.Header[name] != nil {
			return "a callback of a browser, or through a proxy, must name the id of its hand-out"
		}
	}
	return ""
}

// relayed are headers that programs don't send: browsers do, and proxies for others.
var relayed = []string{"Sec-Fetch-Site", "Forwarded", "X-Forwarded-For"}

func fromLoopback(r *http.Request) bool {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && remote.Addr().Unmap().IsLoopback()
}

func readReports(w http.ResponseWriter, r *http.Request) ([]report, error) {
	// Some bytes now and then keep a server's idle limits from cutting a slow client. Where no limit can be set, the server's own
	// holds.
	control := http.NewResponseController(w)
	limited := control.SetReadDeadline(time.Now().Add(bodyTimeout)) == nil
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if limited && err == nil {
		_ = control.SetReadDeadline(time.Time{}) // else it would end the request while it is answered
	}
	if err != nil {
		return nil, fmt.Errorf("reading the body (at most %d bytes): %w", maxBody, err)
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case ndjson[kind]:
		return decodeLines(body)
	case kind == "application/json", len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '['):
		return decodeJSON(trimmed)
	case kind == "application/x-www-form-urlencoded", kind == "":
		one, err := decodeForm(string(body))
		return []report{one}, err
	default:
		return nil, fmt.Errorf("content-type: %q is not one of application/json, application/x-ndjson, application/x-www-form-urlencoded", kind)
	}
}

// ndjson are the content types of one JSON object a line; none of them is registered.
var ndjson = map[string]bool{"application/x-ndjson": true, "application/ndjson": true, "application/jsonl": true}

// decodeLines reads one report a line. Empty lines are passed over.
func decodeLines(body []byte) (reports []report, err error) {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		one, err := decodeJSON(line)
		switch {
		case err == nil && line[0] == '[':
			err = errors.New("a list; NDJSON has one object a line")
		case err == nil && len(reports) == maxReports:
			err = fmt.Errorf("more than %d reports", maxReports)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		one[0].line = number
		reports = append(reports, one[0])
	}
	return reports, nil
}

func decodeJSON(body []byte) ([]report, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var reports []report
	var err error
	if len(body) > 0 && body[0] == '[' {
		reports, err = decodeList(decoder)
	} else {
		reports = make([]report, 1)
		err = decoder.Decode(&reports[0])
	}
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		return nil, fmt.Errorf("%s: a JSON %s can't be its value", cmp.Or(wrong.Field, "the body, or an element of its list"), wrong.Value)
	}
	if err != nil {
		return nil, fmt.Errorf("the JSON body can't be read: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the JSON body goes on after its first value")
	}
	return reports, nil
}

// decodeList reads a list, no further than to the first fault: a body of a megabyte may have half a million elements.
func decodeList(decoder *json.Decoder) (reports []report, err error) {
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	for decoder.More() {
		if len(reports) == maxReports {
			return nil, fmt.Errorf("the list has more than %d reports", maxReports)
		}
		var one report
		if err := decoder.Decode(&one); err != nil {
			return nil, err
		}
		reports = append(reports, one)
	}
	_, err = decoder.Token()
	return reports, err
}

func decodeForm(body string) (one report, err error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return one, fmt.Errorf("the form can't be read: %w", err)
	}
	text := map[string]*string{"service": &one.Service, "backend": &one.Backend, "id": &one.ID, "from": &one.From, "result": &one.Result}
	for field, values := range form {
		if len(values) > 1 {
			return one, fmt.Errorf("%s: given %d times", field, len(values))
		}
		switch target := text[field]; {
		case target != nil:
			*target = values[0]
		case field == "latency_ms":
			if one.Latency, err = strconv.ParseFloat(values[0], 64); err != nil {
				return one, fmt.Errorf("latency_ms: %q is not a number", values[0])
			}
		case field == "code":
			if one.Code, err = strconv.Atoi(values[0]); err != nil {
				return one, fmt.Errorf("code: %q is not a number", values[0])
			}
		default:
			return one, fmt.Errorf("%s: unknown field; the fields are service, backend, id, from, result, latency_ms, code", field)
		}
	}
	return one, nil
}

// check completes reports, and refuses all of them for what is wrong with one. The error is a *agent.Refusal if it isn't known
// yet whether there is one of their services: they may be sent again.
func (h *Handler) check(reports []report) error {
	begun := time.Now()
	for n := range reports {
		if refusal := h.find(&reports[n], agent.MaxPatience-time.Since(begun)); refusal != nil {
			return refusal
		}
		switch err := h.checkOne(&reports[n]); {
		case err == nil:
		case reports[n].line > 0:
			return fmt.Errorf("line %d: %w", reports[n].line, err)
		case len(reports) > 1:
			return fmt.Errorf("[%d].%w", n, err)
		default:
			return err
		}
	}
	return nil
}

// find waits for the agent to know a report's service, or to know that there is none.
func (h *Handler) find(r *report, patience time.Duration) *agent.Refusal {
	if r.Service == "" || r.Backend == "" {
		return nil
	}
	refusal := h.agent.Find(r.Service, patience)
	if r.unknown = refusal != nil; r.unknown && refusal.Reason == agent.ReasonNotSynced {
		return refusal
	}
	return nil
}

func (h *Handler) checkOne(r *report) error {
	var ok bool
	if r.result, ok = health.ParseResult(r.Result); !ok {
		return fmt.Errorf("result: %q is not one of ok, connect_error, connect_timeout, write_error, write_timeout, read_error, read_timeout, reset, error", r.Result)
	}
	if !(r.Latency >= 0 && r.Latency <= maxLatency) { // so that NaN is refused
		return fmt.Errorf("latency_ms: %v is not between 0 and %.0f", r.Latency, maxLatency)
	}
	if r.Code != 0 && (r.Code < 100 || r.Code > 599) {
		return fmt.Errorf("code: %d is not between 100 and 599", r.Code)
	}
	switch {
	case r.ID != "" && r.Backend != "":
		return errors.New("backend: can't stand beside an id, which names it already")
	case r.ID != "":
		return nil
	case r.Backend == "":
		return errors.New("backend: missing; a callback names a backend (IP:port) or the id of a hand-out")
	case r.Service == "":
		return errors.New("service: missing")
	}
	address, err := netip.ParseAddrPort(r.Backend)
	if err != nil || address.Port() == 0 {
		return fmt.Errorf("backend: %q is not IP:port with a port from 1 to 65535", r.Backend)
	}
	r.address = address
	return nil
}

// apply lets a report count. One that matches nothing, since its id was used, has expired or never was, or its instance has left
// the list, or the service is gone, is counted as such and changes nothing.
func (h *Handler) apply(r *report) {
	attempt, why := h.attempt(r)
	if attempt == nil {
		h.agent.CountCallback(r.Service, why)
		return
	}
	h.agent.CountCallback(attempt.Callee(), r.result.String())
	attempt.Report(agent.Outcome{
		Result: r.result, Code: r.code(), Latency: time.Duration(r.Latency * float64(time.Millisecond)),
	})
}

// attempt finds the attempt that a report is on; nil: there is none, and why.
func (h *Handler) attempt(r *report) (attempt *agent.Attempt, why string) {
	if r.ID != "" {
		return h.agent.HandedOut(r.ID, r.Service)
	}
	if r.unknown {
		return nil, agent.Unmatched
	}
	// What has been done already is no request to refuse.
	call := &agent.Call{Callee: r.Service, Caller: r.From, Class: agent.DefaultClass, HandOut: true, Unfused: true}
	if h.agent.Begin(call) == nil {
		attempt = h.agent.PickAddress(call, r.address)
	}
	return attempt, agent.Unmatched
}

// code is the status that a report counts as: what the program says, or what through mode would have answered.
func (r *report) code() int {
	switch {
	case r.Code != 0:
		return r.Code
	case r.result == health.OK:
		return http.StatusOK
	case r.result == health.ConnectTimeout || r.result == health.WriteTimeout || r.result == health.ReadTimeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusBadGateway
	}
}
