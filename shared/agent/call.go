package agent

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/balance"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// DefaultClass is the importance, within its caller, of a request that doesn't say.
const DefaultClass = 4

// MaxClass is the highest importance.
const MaxClass = 7

// Call is one request of a caller to a callee. The face fills the exported fields, then Begins it. A Call belongs to one
// goroutine, but its attempts may be Done by others. It must not be copied once begun.
type Call struct {
	Callee string
	Caller string // empty: unknown
	IDC    string // physical IDC of the caller. Empty: the agent's own. Not in force yet
	Key    string // what a hashing policy hashes. Not in force yet
	Class  int    // importance, 0–MaxClass; DefaultClass if the request doesn't say. Not in force yet
	// Family is the only IP version that the caller can use. Default AnyFamily.
	Family Family
	// HandOut says that instances are handed out instead of tried in turn: Pick may be called for as many as there are, and
	// each attempt is accounted for by Attempt.Report instead of the call by End.
	HandOut bool

	agent    *Agent
	service  *service
	state    *state // as of Begin: the policy doesn't change within a call
	line     *line
	begun    time.Time
	attempts int
	last     *Attempt
	ended    bool
	first    Attempt            // spares an allocation
	request  balance.Request    // in here, since what a policy's method takes would escape to the heap
	triedBuf [4]*balance.Target // of request.Tried
}

// Service returns the policy of the callee. The call must have begun.
func (c *Call) Service() *model.Service { return c.state.view.Service }

// Attempts returns how many instances were picked so far.
func (c *Call) Attempts() int { return c.attempts }

// Last returns the attempt on the instance picked last; nil before the first Pick.
func (c *Call) Last() *Attempt { return c.last }

// Begin admits a call. Its error is a *Refusal.
func (a *Agent) Begin(call *Call) error {
	call.agent = a
	call.begun = time.Now()
	if call.Callee == "" {
		return a.Refuse(call, ReasonNoCallee, "the request names no callee: set the header x-ufc-service-name")
	}
	call.service = a.service(call.Callee)
	if call.service == nil {
		if !a.catalog.Synced() {
			return a.Refuse(call, ReasonNotSynced, "no configuration has been received from etcd yet, and there was no snapshot")
		}
		return a.Refuse(call, ReasonUnknownService, "no document names it")
	}
	call.state = call.service.state.Load()
	call.line = call.service.line(call.Caller)
	if call.IDC == "" {
		call.IDC = a.IDC()
	}
	call.request = balance.Request{Key: call.Key, Tried: call.triedBuf[:0]}
	return nil
}

// Pick chooses an instance for the first attempt of a call and, called again, another one for the next. Its error is a
// *Refusal: no_instance when there is none, or none that the call may still try.
func (a *Agent) Pick(call *Call) (*Attempt, error) {
	if call.attempts > 0 && !call.HandOut {
		if err := a.mayRetry(call); err != nil {
			return nil, err
		}
	}
	now := call.service.state.Load()
	from := &now.subsets[call.Family]
	index := call.service.policy[call.Family].Pick(from.targets, &call.request)
	if index < 0 && len(now.subsets[AnyFamily].targets) == 0 {
		return nil, a.Refuse(call, ReasonNoInstance, noneLeft(call, now))
	}
	if index < 0 { // not counted: the caller asks for the other IP version too, or hears of the last attempt's failure
		return nil, &Refusal{Reason: ReasonNoInstance, Service: call.Callee, Detail: noneLeft(call, now)}
	}
	if call.attempts > 0 && !call.HandOut {
		call.service.retries.Add(1)
	}
	return call.attempt(from.candidates[index], from.panic), nil
}

func noneLeft(call *Call, now *state) string {
	switch {
	case len(now.instances) == 0:
		return "it has no instances"
	case call.attempts == 0:
		return fmt.Sprintf("none of its %d instances serves: they are drained, down, of weight 0, or of another IP version", len(now.instances))
	default:
		return fmt.Sprintf("all of its usable instances were tried: %d", call.attempts)
	}
}

// mayRetry tells whether a call may have one more attempt.
func (a *Agent) mayRetry(call *Call) error {
	if allowed := call.Service().Retries.Normal.Attempts; call.attempts > allowed {
		return &Refusal{Reason: ReasonNoInstance, Service: call.Callee, Detail: fmt.Sprintf("%d attempts failed", call.attempts)}
	}
	return nil
}

// PickAddress makes an attempt on the instance that a program says it has talked to, so that its outcome can be told; nil
// if the callee has no such instance.
func (a *Agent) PickAddress(call *Call, address netip.AddrPort) *Attempt {
	now := call.service.state.Load()
	index, found := now.view.Find(address)
	if !found {
		return nil
	}
	return call.attempt(now.instances[index], false)
}

// Attempt is one instance chosen for a call.
type Attempt struct {
	Address  netip.AddrPort
	HostPort string // Address as text
	IDC      string // physical IDC of the instance
	Weight   int
	Number   int  // 0 for the call's first
	Panic    bool // chosen although everybody is banned

	call       *Call
	health     *health.Instance
	generation uint32
	done       atomic.Bool
}

func (c *Call) attempt(chosen *instance, panicking bool) *Attempt {
	attempt := &c.first
	if c.attempts > 0 {
		attempt = &Attempt{}
	}
	attempt.Address, attempt.HostPort, attempt.IDC, attempt.Weight = chosen.Address, chosen.hostPort, chosen.IDC, chosen.Weight
	attempt.Number, attempt.Panic = c.attempts, panicking
	attempt.call, attempt.health, attempt.generation = c, chosen.health, chosen.health.Generation()
	c.attempts++
	c.last = attempt
	c.request.Tried = append(c.request.Tried, chosen.target)
	return attempt
}

// Outcome is what became of an attempt.
type Outcome struct {
	Result  health.Result
	Code    int           // HTTP status, 0 if there is none. Not in force yet: bans by deviation will use it
	Latency time.Duration // to the response's head
}

// Done says what became of the attempt. It counts once; a second call changes nothing.
func (t *Attempt) Done(outcome Outcome) { t.doneOnce(outcome) }

func (t *Attempt) doneOnce(outcome Outcome) bool {
	if !t.done.CompareAndSwap(false, true) {
		return false
	}
	t.call.service.attempts[outcome.Result].Add(1)
	t.health.Observe(t.generation, outcome.Result)
	return true
}

// Report is Done and End in one, for an attempt that a program made by itself. It counts once.
func (t *Attempt) Report(outcome Outcome) {
	if t.doneOnce(outcome) {
		t.call.line.count(t.IDC, outcome.Code, outcome.Latency)
	}
}

// Callee returns the name of the service that the attempt is on.
func (t *Attempt) Callee() string { return t.call.Callee }

// End closes the accounts of a call that began, with the HTTP status that the caller got. It counts once.
func (c *Call) End(code int) {
	if c.ended || c.line == nil {
		return
	}
	c.ended = true
	idc := ""
	if c.last != nil {
		idc = c.last.IDC
	}
	c.line.count(idc, code, time.Since(c.begun))
}

// Refuse counts and returns a refusal. Faces use it for what they find wrong by themselves, before Begin too.
func (a *Agent) Refuse(call *Call, reason, detail string) *Refusal {
	to := call.line
	if to == nil {
		to = a.strangers
	}
	to.refused.add(reason)
	return &Refusal{Reason: reason, Service: call.Callee, Detail: detail}
}
