package health

import (
	"runtime"
	"sync"
	"time"
)

// Observation is the outcome of one attempt.
type Observation struct {
	Instance *Instance
	Stratum  *Stratum // the attempts it may be compared with; nil: none
	Slot     int32    // of the instance
	// Generation of the instance when the attempt began: the outcome of an older generation changes no verdict.
	Generation uint32
	Code       uint16 // HTTP status; 0: none
	Result     Result
	Trial      bool          // of an instance that is half open
	Key        uint64        // hash of the user's key, where the policy hashes; 0: unknown
	Latency    time.Duration // to the response's head; 0: unknown
	Urgent     bool          // to be judged now, whatever it is

	// What follows is for Heard alone. All of it is a cache line.

	Tracked bool          // it was under way between Begun and its end, rather than handed out
	Counted bool          // it still counts as under way
	Aside   bool          // it wasn't counted as under way, and its latency says nothing of the callee's
	GivenUp bool          // canceled, since who asked waited no longer
	Partial bool          // told by who doesn't tell all: it says how the instance is, not how the callee is
	Begun   time.Duration // when the attempt began, by the caller's clock
}

// Heard takes a batch of outcomes before they are judged, under the service's lock.
type Heard func(batch []Observation)

// journal is where outcomes wait to be judged. Nearly all of them need no action at once: they are written into the journal of
// the core that they happened on, and judged in batches under the service's lock. So cores don't wait for each other's cache
// lines, and what judges them is plain code without atomics.
type journal struct {
	mu      sync.Mutex    // taken before the service's
	entries []Observation // room for as many as ever waited at once, up to journalSize
	used    int
	counts  [results]uint64 // of all that was ever written
	_       [64]byte        // keeps the next journal out of this one's last cache line
}

// journalSize is how many outcomes a journal holds. When it is half full, it is judged if the service's lock happens to be free;
// only when it is full does anybody wait for the lock.
const journalSize = 128

// leastEntries is how many entries a journal begins with: of most callees no more wait at once, and a thousand callees whose
// journals were made at full size on 16 cores would take 130 MiB.
const leastEntries = 4

// grow makes room for more entries.
func (j *journal) grow() {
	larger := make([]Observation, min(max(2*len(j.entries), leastEntries), journalSize))
	copy(larger, j.entries)
	j.entries = larger
}

// mostJournals bounds a callee's journals, to 128 KiB.
const mostJournals = 16

// urgent tells whether an outcome has to be judged now: it may ban the instance, or end its ban.
func (o *Observation) urgent() bool { return o.Urgent || o.Result.Failure() || o.Trial }

// Record takes the outcome of an attempt. The stripe chooses the journal: any number is right, and one that differs from core
// to core is fastest.
func (s *Service) Record(stripe uint32, o *Observation) {
	journals := s.open()
	j := &journals[int(stripe)%len(journals)]
	j.mu.Lock()
	if j.used == len(j.entries) {
		j.grow()
	}
	j.entries[j.used] = *o
	j.used++
	j.counts[o.Result]++
	read := j.used >= journalSize/2 && s.readSoon(j)
	j.mu.Unlock()
	if o.urgent() {
		s.CatchUp()
	} else if read {
		s.deliver()
	}
	if !s.awake.Load() {
		s.wake()
	}
}

// Outcomes counts the outcomes of the callee's attempts by result, whatever became of their instances.
func (s *Service) Outcomes() (total [Results]uint64) {
	journals := s.journals.Load()
	if journals == nil {
		return total
	}
	for n := range *journals {
		j := &(*journals)[n]
		j.mu.Lock()
		for result, count := range j.counts {
			total[result] += count
		}
		j.mu.Unlock()
	}
	return total
}

// open returns the journals. They are made when they are first needed: an agent knows a thousand callees and calls a few.
func (s *Service) open() []journal {
	if journals := s.journals.Load(); journals != nil {
		return *journals
	}
	made := make([]journal, min(runtime.GOMAXPROCS(0), mostJournals))
	s.journals.CompareAndSwap(nil, &made)
	return *s.journals.Load()
}

// readSoon judges a journal if the service's lock is free or the journal is full, and tells whether it did. The journal's lock is
// held.
func (s *Service) readSoon(j *journal) bool {
	if j.used < journalSize {
		if !s.mu.TryLock() {
			return false
		}
	} else {
		s.mu.Lock()
	}
	s.read(j)
	s.mu.Unlock()
	return true
}

// read judges a journal's entries and empties it. The locks of the journal and the service are held.
func (s *Service) read(j *journal) {
	if j.used == 0 {
		return
	}
	now := s.monitor.now()
	if s.heard != nil {
		s.heard(j.entries[:j.used])
	}
	for n := range j.entries[:j.used] {
		s.take(&j.entries[n], now)
	}
	j.used = 0
}

// take judges one outcome. The lock is held.
func (s *Service) take(o *Observation, now time.Duration) {
	s.fresh = true
	if o.Result == OK && o.Stratum != nil && !o.Trial {
		if p := o.presentOf(); p != nil && !s.dirty[o.Slot] {
			s.peers.pass(o.Instance)
			s.compare(p, o, now)
			return // fast path: a success of an instance that nothing is held against
		}
	}
	s.takeSlowly(o, now)
}

func (s *Service) takeSlowly(o *Observation, now time.Duration) {
	i, policy := o.Instance, s.policy.Load()
	past := i.known()
	if o.Result == Canceled || o.Generation != i.Generation() || i.gone || i.ban != nil {
		past.outcomes[o.Result]++
		if i.ban != nil && i.ban.halfOpen && o.Result != Canceled && o.Generation == i.Generation() && !i.gone {
			s.tried(i, o)
		}
		return
	}
	failed := o.Result.Failure()
	s.peers.pass(i)
	past.record.heal(policy, failed, now)
	if o.Stratum != nil && !failed {
		s.compare(s.newPresent(o, now), o, now) // counts the outcome, too
	} else {
		past.outcomes[o.Result]++
		if failed {
			s.peers.add(i, 0, 1)
		} else {
			s.peers.add(i, 1, 0)
		}
	}
	s.byRequests(i, failed, now)
	if i.ban == nil && (o.Result == ConnectError || o.Result == ConnectTimeout) {
		s.prove(i, "no connection ("+o.Result.String()+")")
	}
	s.dirty[i.slot] = past.test.score > 0 || past.window.bits != 0 || past.record.level > 0
}

// CatchUp judges all outcomes that wait. No lock may be held.
func (s *Service) CatchUp() {
	journals := s.journals.Load()
	for n := 0; journals != nil && n < len(*journals); n++ {
		j := &(*journals)[n]
		j.mu.Lock()
		s.mu.Lock()
		s.read(j)
		s.mu.Unlock()
		j.mu.Unlock()
	}
	s.deliver()
}
