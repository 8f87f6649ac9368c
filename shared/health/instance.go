package health

import (
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// DefaultRequestBan is what bans where a Service doesn't say.
var DefaultRequestBan = model.DefaultRequestBan()

// forget is how long a failure is held against an instance. With little traffic the last ten outcomes may reach back for
// hours, and say nothing of today.
const forget = 10 * time.Minute

// Reason tells why an instance is banned.
type Reason string

// The reasons.
const (
	ByRequests Reason = "requests" // too many failures of the last outcomes: suspicion
	ByProof    Reason = "proof"    // a connection was refused, and so was the probe
)

// BanInfo is a ban as it stands.
type BanInfo struct {
	Reason   Reason
	Since    time.Time
	Until    time.Time // when the port is probed; it ends with the first answer after that
	Failures int       // within the window when it was banned
	LastErr  string    // of the last probe that failed
}

// Instance is the health of one address of one callee. It outlives every change of the callee's documents in which the
// address stays.
type Instance struct {
	Address netip.AddrPort

	service *Service
	*Pulse
	// outcomes is nil until the first that isn't counted by the pulse: an agent knows 200,000 instances and talks to a few.
	outcomes atomic.Pointer[[results]atomic.Uint64]

	mu   sync.Mutex
	ban  *ban // while banned
	bans uint64
	gone bool // no longer in the callee's list
}

// Pulse is what an Instance's health reads and writes at each attempt, apart from the rest of it, so that its owner can put
// it into one cache line with what else he writes then. The zero value is ready.
type Pulse struct {
	successes atomic.Uint64 // in a clean window
	// window holds the last outcomes as bits, the youngest lowest; 1 is a failure. An instance that doesn't fail costs
	// one load here.
	window      atomic.Uint64
	lastFailure atomic.Uint32 // unix seconds, which are enough until 2106; 32 bytes in all are half a cache line
	// generation grows with every ban and return, so that the outcomes of attempts begun before change nothing.
	generation atomic.Uint32
	banned     atomic.Bool
	probing    atomic.Bool // one probe for proof at a time
}

// Succeeded takes a success if it changes nothing but the count, as in a clean window; else it returns false, and Observe
// must be told.
func (p *Pulse) Succeeded() bool {
	if p.window.Load() != 0 {
		return false
	}
	p.successes.Add(1)
	return true
}

// ban is a ban in force, with what ends it.
type ban struct {
	BanInfo
	timer *time.Timer
}

// Banned tells whether the instance is banned.
func (p *Pulse) Banned() bool { return p.banned.Load() }

// Generation marks an attempt's begin, for Observe.
func (p *Pulse) Generation() uint32 { return p.generation.Load() }

// Ban returns the ban in force.
func (i *Instance) Ban() (BanInfo, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ban == nil {
		return BanInfo{}, false
	}
	return i.ban.BanInfo, true
}

// Bans counts the bans so far.
func (i *Instance) Bans() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.bans
}

// Outcomes returns how often each result was seen, bans and returns regardless.
func (i *Instance) Outcomes() (counts [Results]uint64) {
	if seen := i.outcomes.Load(); seen != nil {
		for r := range counts {
			counts[r] = seen[r].Load()
		}
	}
	counts[OK] += i.successes.Load()
	return counts
}

func (i *Instance) count(result Result) {
	seen := i.outcomes.Load()
	if seen == nil {
		i.outcomes.CompareAndSwap(nil, new([results]atomic.Uint64))
		seen = i.outcomes.Load()
	}
	seen[result].Add(1)
}

// Failures counts the failures within the window.
func (i *Instance) Failures() int { return bits.OnesCount64(i.window.Load()) }

// Observe takes the outcome of an attempt that began in the given generation.
func (i *Instance) Observe(generation uint32, result Result) {
	if result == OK && i.Succeeded() {
		return // fast path
	}
	i.count(result)
	if result == Canceled || generation != i.generation.Load() {
		return
	}
	policy := i.service.policy.Load()
	rule := DefaultRequestBan
	if policy.Requests != nil {
		rule = *policy.Requests
	}
	if failures := i.shift(result.Failure(), rule.Of); failures >= rule.Failures {
		i.service.monitor.begin(i, generation, ByRequests, failures, "")
		return
	}
	if result == ConnectError {
		i.service.monitor.prove(i, generation)
	}
}

// shift adds an outcome to the window and returns the failures among the last n.
func (i *Instance) shift(failed bool, n int) int {
	now := uint32(time.Now().Unix())
	expired := now-i.lastFailure.Load() > uint32(forget/time.Second)
	if failed {
		i.lastFailure.Store(now)
	}
	mask := ^uint64(0) >> (64 - n)
	for {
		old := i.window.Load()
		next := old
		if expired {
			next = 0
		}
		next <<= 1
		if failed {
			next |= 1
		}
		next &= mask
		if i.window.CompareAndSwap(old, next) {
			return bits.OnesCount64(next)
		}
	}
}
