package health

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ufc-mesh/ufc/shared/statistics"
)

// mostDecisions are remembered of a service.
const mostDecisions = 100

// decide remembers a decision, and keeps it for deliver. The lock is held.
func (s *Service) decide(i *Instance, d Decision) {
	s.tell(i, d)
	if len(s.decisions) >= mostDecisions {
		s.decisions = slices.Delete(s.decisions, 0, 1)
	}
	s.decisions = append(s.decisions, s.pending[len(s.pending)-1].decision)
}

// tell keeps a decision for deliver without remembering it, for what is said again and again. The lock is held.
func (s *Service) tell(i *Instance, d Decision) {
	d.Time, d.Service = time.Now(), s.name
	if i != nil {
		d.Instance = i.Address
	}
	s.pending = append(s.pending, verdict{i, d})
}

// deliver tells the listener what was decided since it was last called. No lock may be held.
func (s *Service) deliver() {
	s.mu.Lock()
	waiting := len(s.pending) > 0
	s.mu.Unlock()
	if !waiting {
		return
	}
	s.delivering.Lock()
	defer s.delivering.Unlock()
	s.mu.Lock()
	verdicts := s.pending
	s.pending = nil
	s.mu.Unlock()
	for n := range verdicts {
		s.listener(verdicts[n].instance, &verdicts[n].decision)
	}
}

// Explanation is how an instance stands now: what the rules see, and what they would need.
type Explanation struct {
	Instance netip.AddrPort `json:"instance"`
	State    string         `json:"state"` // up, banned or half_open
	Reason   Reason         `json:"reason,omitempty"`
	Until    *time.Time     `json:"until,omitempty"`
	// Sequential is the test by requests.
	Sequential Sequential `json:"requests"`
	Group      GroupState `json:"group"`
	NextBan    float64    `json:"next_ban_seconds"`
	Deviation  []Measure  `json:"deviation,omitempty"`
}

// Sequential is the state of the sequential test.
type Sequential struct {
	Rule      string  `json:"rule"`
	Score     float64 `json:"score"`
	Threshold float64 `json:"threshold"`
	P0        float64 `json:"p0"`
	Needed    float64 `json:"failures_needed"` // in a row; −1: none would do, since the others fail too
}

// GroupState is what the cap and panic count, for one logical IDC.
type GroupState struct {
	IDC      string `json:"idc,omitempty"`
	Serving  int    `json:"serving"`
	Left     int    `json:"left"`
	Suspects int    `json:"suspects"`
	Cap      int    `json:"cap"`
	Panic    bool   `json:"panic"`
}

// Measure is what deviation sees of an instance in one stratum, over the last minute.
type Measure struct {
	Stratum        string  `json:"stratum"`
	Outcomes       uint32  `json:"n"`
	ClientErrors   uint32  `json:"4xx"`
	ServerErrors   uint32  `json:"5xx"`
	Milliseconds   float64 `json:"ms,omitempty"` // geometric mean
	Others         float64 `json:"others_n"`
	OthersErrors   float64 `json:"others_errors"`
	OthersMillis   float64 `json:"others_ms,omitempty"` // of the same IDC
	ErrorsRequired float64 `json:"errors_required"`     // of n, to be banned by the longest window; −1: no number would do
}

// Decisions returns the last 100 decisions, the oldest first: of one instance, or of all if the address is zero.
func (s *Service) Decisions(of netip.AddrPort) []Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Decision{}
	for _, d := range s.decisions {
		if !of.IsValid() || d.Instance == of {
			list = append(list, d)
		}
	}
	return list
}

// Explain tells how an instance stands.
func (i *Instance) Explain() Explanation {
	s := i.service
	s.CatchUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	past, policy := i.known(), s.policy.Load()
	e := Explanation{Instance: i.Address, State: "up", NextBan: past.record.next(policy).Seconds()}
	if b := i.ban; b != nil {
		e.State, e.Reason = "banned", b.reason
		if b.halfOpen {
			e.State = "half_open"
		}
		until := s.monitor.epoch.Add(b.until).UTC()
		e.Until = &until
	}
	test := past.test
	test.p0 = leastShare
	if past.recent.place > 0 {
		test.p0 = s.p0(i)
	}
	e.Sequential = Sequential{Rule: sequentially, Score: test.score, Threshold: banScore, P0: test.p0, Needed: test.needed()}
	if g := s.groups[i.idc]; g != nil {
		e.Group = GroupState{g.idc, g.serving, g.left(), g.suspects, s.allowed(g), g.panicked}
	}
	e.Deviation = s.measures(i)
	return e
}

// measures returns what deviation sees of an instance. The lock is held.
func (s *Service) measures(i *Instance) (list []Measure) {
	now := s.monitor.now()
	for t := range s.strata {
		c := t.at(i)
		if c == nil {
			continue
		}
		mine := s.sum(c, windows-1, now)
		n, bad, latency := s.others(t, i, now)
		m := Measure{
			Stratum: t.Name, Outcomes: mine.n, ClientErrors: mine.bad[clientErrors], ServerErrors: mine.bad[serverErrors],
			Others: n, OthersErrors: bad, ErrorsRequired: required(mine.n, n, bad, len(t.cells)),
		}
		if ln := mine.latency(); ln.n > 0 {
			m.Milliseconds = millisecondsOf(ln)
		}
		if latency.n > 0 {
			m.OthersMillis = millisecondsOf(latency)
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Measure) int { return strings.Compare(a.Stratum, b.Stratum) })
	return list
}

// required is how many errors of n would ban, by the window alone, without the others' past; −1: no number would.
func required(n uint32, others, bad float64, cells int) float64 {
	if n < leastOutcomes || others < leastOthers {
		return -1
	}
	p0, alpha := wilsonUpper(bad, others, wilsonZ), familyAlpha/float64(cells*windows)
	for x := 1; x <= int(n); x++ {
		if muchMore(float64(x), float64(n), bad, others) && statistics.BinomialTail(float64(x), float64(n), p0) < alpha {
			return float64(x)
		}
	}
	return -1
}
