package agent

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// The reasons why UFC itself answers instead of an instance: the values of x-ufc-error.
const (
	ReasonNoCallee       = "no_callee"       // no callee was named
	ReasonBadRequest     = "bad_request"     // a malformed x-ufc-* header or parameter
	ReasonMethod         = "method"          // CONNECT, or a /bypass command by the wrong HTTP method
	ReasonForbidden      = "forbidden"       // a debug query without the token, or a report that its sender may not make
	ReasonRate           = "rate"            // too many debug queries
	ReasonUnknownService = "unknown_service" // no document names the callee
	ReasonNotSynced      = "not_synced"      // no configuration yet, neither from etcd nor from a snapshot
	ReasonNoInstance     = "no_instance"     // the callee has no instance that may be chosen, or none is left to try
	ReasonProtocol       = "protocol"        // the callee's protocol can't be spoken here
	ReasonConnect        = "connect"         // no attempt got a connection
	ReasonWrite          = "write"           // the request could not be sent
	ReasonRead           = "read"            // no response could be read
	ReasonDeadline       = "deadline"        // the call's time is over
	ReasonFused          = "fused"           // the callee is overloaded, and requests of this weight aren't admitted
	ReasonDropped        = "dropped"         // the callee's document drops this caller's requests
)

var statusByReason = map[string]int{
	ReasonNoCallee:       http.StatusBadRequest,
	ReasonBadRequest:     http.StatusBadRequest,
	ReasonMethod:         http.StatusMethodNotAllowed,
	ReasonForbidden:      http.StatusForbidden,
	ReasonRate:           http.StatusTooManyRequests,
	ReasonUnknownService: http.StatusNotFound,
	ReasonNotSynced:      http.StatusServiceUnavailable,
	ReasonNoInstance:     http.StatusServiceUnavailable,
	ReasonDeadline:       http.StatusGatewayTimeout,
	ReasonFused:          http.StatusServiceUnavailable,
	ReasonDropped:        http.StatusServiceUnavailable,
}

// retryWithin is how many seconds clients of a fused callee are asked to wait at most. Each is told another number, so that they
// don't come back at one time.
const retryWithin = 5

// Refusal is the error of a call that UFC ends by itself.
type Refusal struct {
	Reason  string // one of the Reason constants
	Service string // the callee, if it is known
	Detail  string // for people
	Timeout bool   // connect, write and read: the time was over, rather than the connection broken
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Service == "" {
		return fmt.Sprintf("%s: %s", r.Reason, r.Detail)
	}
	return fmt.Sprintf("service %q: %s: %s", r.Service, r.Reason, r.Detail)
}

// Status is the HTTP status that answers a refused call.
func (r *Refusal) Status() int {
	if status := statusByReason[r.Reason]; status != 0 {
		return status
	}
	if r.Timeout {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// ServeHTTP answers with the refusal: x-ufc-error, and a problem body as RFC 9457 has it, with the members service and
// reason added. It implements http.Handler.
func (r *Refusal) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(struct {
		Type    string `json:"type"`
		Title   string `json:"title"`
		Status  int    `json:"status"`
		Detail  string `json:"detail"`
		Reason  string `json:"reason"`
		Service string `json:"service,omitempty"`
	}{"about:blank", http.StatusText(r.Status()), r.Status(), r.Detail, r.Reason, r.Service})
	if err != nil { // strings and an integer always marshal
		panic(err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("X-Ufc-Error", r.Reason)
	header.Set("Cache-Control", "no-store")
	if r.Reason == ReasonFused {
		header.Set("Retry-After", strconv.Itoa(1+rand.IntN(retryWithin)))
	}
	w.WriteHeader(r.Status())
	// The client may be gone; there is nobody else to tell.
	_, _ = w.Write(append(body, '\n'))
}
