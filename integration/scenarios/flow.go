package scenarios

import "time"

// wave is what came of a second. Pairs are of the lighter half of the requests and the heavier one.
type wave struct {
	offered  [2]int // clients' requests, without repeats
	served   int    // those of them that were answered in the end
	calls    [2]int // with repeats
	refused  [2]int // calls that the guard refused
	attempts int    // sent
	good     [2]int // answers in time to a client that still waited
	wasted   int    // answers to nobody
}

func (v *wave) add(other *wave) {
	for n := range 2 {
		v.offered[n] += other.offered[n]
		v.calls[n] += other.calls[n]
		v.refused[n] += other.refused[n]
		v.good[n] += other.good[n]
	}
	v.served += other.served
	v.attempts += other.attempts
	v.wasted += other.wasted
}

func (v *wave) allOffered() int { return v.offered[0] + v.offered[1] }
func (v *wave) allCalls() int   { return v.calls[0] + v.calls[1] }
func (v *wave) allRefused() int { return v.refused[0] + v.refused[1] }
func (v *wave) allGood() int    { return v.good[0] + v.good[1] }

// admitted is the share of the calls that weren't refused; 1 if there were none.
func (v *wave) admitted() float64 {
	return 1 - ratio(v.allRefused(), v.allCalls())
}

// flow is the ledger of a rush, by seconds.
type flow struct {
	load   *load
	onset  time.Duration
	before int // seconds before the onset, with which one begins
	waves  []wave
}

func newFlow(l *load, onset time.Duration) *flow {
	f := &flow{load: l, onset: onset, before: int((onset + time.Second - 1) / time.Second)}
	f.waves = make([]wave, f.before+int((l.after+time.Second-1)/time.Second))
	return f
}

// bin returns the second of a moment since the world's beginning.
func (f *flow) bin(now time.Duration) *wave { return &f.waves[f.binOf(now-f.onset)] }

func (f *flow) binOf(since time.Duration) int {
	return int((since + time.Duration(f.before)*time.Second) / time.Second)
}

// between sums the whole seconds of a time since the onset.
func (f *flow) between(from, to time.Duration) (sum wave) {
	first, last := min(max(f.binOf(from), 0), len(f.waves)), min(max(f.binOf(to), 0), len(f.waves))
	for n := first; n < last; n++ {
		sum.add(&f.waves[n])
	}
	return sum
}

// capacity returns how many requests all instances can do in a time since the onset.
func (f *flow) capacity(from, to time.Duration) float64 {
	total := 0.0
	for at := from; at < to; at += time.Second {
		total += f.load.left(at) * f.load.capacity()
	}
	return total
}

// goodput is the share of the capacity that came to something.
func (f *flow) goodput(from, to time.Duration) float64 {
	sum, capacity := f.between(from, to), f.capacity(from, to)
	if capacity == 0 {
		return 0
	}
	return float64(sum.allGood()) / capacity
}
