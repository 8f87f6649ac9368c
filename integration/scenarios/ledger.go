package scenarios

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// verdict is a ban, or its end.
type verdict struct {
	at       time.Duration // since the onset
	agent    int
	instance int
	banned   bool
	reason   health.Reason
	failed   int // attempts on the instance that the agent knew to have failed since the onset
}

// bin is what came of a short time's calls and attempts.
type bin struct {
	calls, good      int // by when the call began
	attempts, faulty int // on all instances, and on those with a fault, by when they began
	failed           int // of the faulty, by when they failed
}

// sample is the latency of one good call.
type sample struct {
	at, took time.Duration // at: since the onset
}

// ledger keeps what happened in a world.
type ledger struct {
	setup   *setup
	onset   time.Duration
	width   time.Duration
	before  int // bins before the onset, with which one begins
	bins    []bin
	empty   int // calls that found nobody to try
	samples []sample

	failed   [][]atomic.Int64 // by agent and instance, since the onset
	mu       sync.Mutex       // of verdicts: probes and timers give them too
	verdicts []verdict
	given    atomic.Int64 // verdicts
}

func newLedger(s *setup, onset time.Duration) *ledger {
	l := &ledger{setup: s, onset: onset, width: s.bin}
	if l.width == 0 {
		l.width = time.Second
	}
	l.before = int((onset + l.width - 1) / l.width)
	l.bins = make([]bin, l.before+int((s.after+callTimeout+readTimeout)/l.width)+1)
	for range max(s.agents, 1) {
		l.failed = append(l.failed, make([]atomic.Int64, len(s.instances)))
	}
	return l
}

func (l *ledger) bin(now time.Duration) *bin { return &l.bins[l.binOf(now-l.onset)] }

func (l *ledger) binOf(since time.Duration) int {
	return int((since + time.Duration(l.before)*l.width) / l.width)
}

func (l *ledger) began(now time.Duration, instance int) {
	b := l.bin(now)
	b.attempts++
	if l.setup.instances[instance].faulty() {
		b.faulty++
	}
}

// attempted counts an attempt's failure.
func (l *ledger) attempted(now time.Duration, agent, instance int, o *outcome) {
	if now >= l.onset && o.result.Failure() {
		l.failed[agent][instance].Add(1)
		if l.setup.instances[instance].faulty() {
			l.bin(now).failed++
		}
	}
}

func (l *ledger) closed(began, took time.Duration, good bool) {
	b := l.bin(began)
	b.calls++
	if good {
		b.good++
		if l.setup.sample {
			l.samples = append(l.samples, sample{began - l.onset, took})
		}
	}
}

// judged notes a verdict at a moment since the world's beginning. When no more requests come, only those are left that are late, and
// what is said of them isn't noted.
func (l *ledger) judged(now time.Duration, agent, instance int, banned bool, reason health.Reason) {
	if now-l.onset > l.setup.after {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := int(l.failed[agent][instance].Load())
	l.verdicts = append(l.verdicts, verdict{now - l.onset, agent, instance, banned, reason, failed})
	l.given.Add(1)
}

// bans returns the bans that ok takes.
func (l *ledger) bans(ok func(*verdict) bool) (list []verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.verdicts {
		if v := &l.verdicts[n]; v.banned && ok(v) {
			list = append(list, *v)
		}
	}
	return list
}

// found returns the first ban of a faulty instance since the onset.
func (l *ledger) found() (verdict, bool) {
	list := l.bans(func(v *verdict) bool { return v.at >= 0 && l.setup.instances[v.instance].faulty() })
	if len(list) == 0 {
		return verdict{}, false
	}
	return list[0], true
}

// wrong returns the bans of instances with nothing wrong, and of others before the onset.
func (l *ledger) wrong() []verdict {
	return l.bans(func(v *verdict) bool { return v.at < 0 || !l.setup.instances[v.instance].faulty() })
}

// between sums the bins of a time since the onset.
func (l *ledger) between(from, to time.Duration) (sum bin) {
	first, last := min(max(l.binOf(from), 0), len(l.bins)), min(max(l.binOf(to), 0), len(l.bins))
	for _, b := range l.bins[first:max(first, last)] {
		sum.calls += b.calls
		sum.good += b.good
		sum.attempts += b.attempts
		sum.faulty += b.faulty
		sum.failed += b.failed
	}
	return sum
}

// success is the share of the calls that got a good answer.
func (b *bin) success() float64 { return ratio(b.good, b.calls) }

func ratio(part, all int) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// quantile returns the latency that a share p of the good calls of a time since the onset don't exceed.
func (l *ledger) quantile(from, to time.Duration, p float64) time.Duration {
	var took []time.Duration
	for _, s := range l.samples {
		if s.at >= from && s.at < to {
			took = append(took, s.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(int(p*float64(len(took))), len(took)-1)]
}
