package chaos

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// verdict is what came of a request or of a query.
type verdict int

const (
	answered verdict = iota
	failed           // the agent or the DNS said that it couldn't
	wrong            // an answer that shouldn't have been given: of a backend that isn't in the service, or to something else
	lost             // no answer
)

func (v verdict) String() string { return [...]string{"answered", "failed", "wrong", "lost"}[v] }

// kind is what load consists of.
type kind string

const (
	get    kind = "GET"  // mostly over kept connections, one in ten over a new one
	post   kind = "POST" // over new connections
	kept   kind = "POST over kept connections"
	lookup kind = "DNS query"
)

// sample is one of them.
type sample struct {
	site       string
	kind       kind
	sent, done time.Time
	verdict    verdict
	why        string // unless it was answered
	by         string // who answered
}

// phase is the time of one fault; what was sent in it belongs to it.
type phase struct {
	began, ended time.Time
	samples      []sample
	pending      int
}

// ledger holds the samples of the phase that is under way.
type ledger struct {
	mu   sync.Mutex
	now  *phase
	idle *sync.Cond // a phase has nothing pending
}

func newLedger() *ledger {
	l := &ledger{now: &phase{began: time.Now()}}
	l.idle = sync.NewCond(&l.mu)
	return l
}

// begin notes that something is sent, and returns the phase that it belongs to.
func (l *ledger) begin() *phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.pending++
	return l.now
}

// end notes what came of it.
func (l *ledger) end(p *phase, s *sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.samples = append(p.samples, *s)
	if p.pending--; p.pending == 0 {
		l.idle.Broadcast()
	}
}

// turn begins a phase, and returns the last one, when all that was sent in it is over.
func (l *ledger) turn() *phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.now
	last.ended = time.Now()
	l.now = &phase{began: last.ended}
	for last.pending > 0 {
		l.idle.Wait()
	}
	return last
}

// recent counts the samples of the phase under way that were sent since then: those that weren't answered, and by whom those
// that were.
func (l *ledger) recent(since time.Time) (bad []sample, by map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	by = map[string]int{}
	for _, s := range l.now.samples {
		switch {
		case s.sent.Before(since):
		case s.verdict != answered:
			bad = append(bad, s)
		default:
			by[s.by]++
		}
	}
	return bad, by
}

// count counts samples by their verdict.
func (p *phase) count() (counts [lost + 1]int) {
	for _, s := range p.samples {
		counts[s.verdict]++
	}
	return counts
}

// longestGap returns the longest time without an answer of those that any one of the streams had, a stream being the
// samples of a kind at a site; and which that was.
func (p *phase) longestGap() (longest time.Duration, stream string) {
	successes := map[string][]time.Time{}
	for _, s := range p.samples {
		name := fmt.Sprintf("%s, %s", s.kind, s.site)
		if _, known := successes[name]; !known {
			successes[name] = []time.Time{p.began, p.ended}
		}
		if s.verdict == answered && s.done.Before(p.ended) {
			successes[name] = append(successes[name], s.done)
		}
	}
	for name, times := range successes {
		slices.SortFunc(times, time.Time.Compare)
		for n := range times[1:] {
			if gap := times[n+1].Sub(times[n]); gap > longest {
				longest, stream = gap, name
			}
		}
	}
	return longest, stream
}
