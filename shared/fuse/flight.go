package fuse

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
)

// What is under way is counted by when it began, in spans of 2²⁸ ns ≈ 0.27 s, of the last 68 s.
const (
	spanBits = 28
	span     = time.Duration(1) << spanBits
	spans    = 256
)

func spanOf(begun time.Duration) int64 { return int64(begun >> spanBits) }

// stripe is where the attempts of a core are counted in the normal state.
type stripe struct {
	change   [spans]atomic.Int32          // of what is under way, not taken into the flight yet, by the span in which attempts began
	arrivals [MaxWeight + 1]atomic.Uint32 // a sample of the requests, by weight, not taken into the histogram yet
	answers  atomic.Int32                 // that have begun, and aren't taken into the window yet
	_        [128]byte                    // two cache lines: processors fetch them in pairs
}

const mostStripes = 16

func newStripes() []stripe {
	return make([]stripe, 1<<bits.Len(uint(min(runtime.GOMAXPROCS(0), mostStripes)-1)))
}

// flight is the attempts under way: begun, and neither answered nor failed yet. A count may be under 0 for a moment, when an
// end is heard of before the beginning.
type flight struct {
	bySpan [spans]int32
	total  int
	newest int64 // the newest span that bySpan has room for
	// due is the first span whose attempts have not been looked at for being late, unseen the first one that was since a time
	// when they couldn't be: the ring ends before they are late, or nobody looked for so long.
	due, unseen int64
}

// turn makes room for the spans up to now. What is older than all of them, such as a stream of hours, is counted in the
// oldest.
func (f *flight) turn(now time.Duration) {
	for last := spanOf(now); f.newest < last; {
		f.newest++
		if last-f.newest >= spans { // nobody called for a minute
			f.newest = last - spans
			continue
		}
		slot, next := f.newest%spans, (f.newest+1)%spans
		f.bySpan[next] += f.bySpan[slot]
		f.bySpan[slot] = 0
	}
}

// slot is where an attempt is counted that began then, which is no later than the newest span.
func (f *flight) slot(begun time.Duration) int64 { return max(spanOf(begun), f.newest-spans+1) % spans }

// change counts attempts more, or less, that began then.
func (f *flight) change(begun time.Duration, n int) {
	f.turn(begun)
	f.bySpan[f.slot(begun)] += int32(n)
	f.total += n
}

// collect takes in what the stripes have of all spans.
func (f *flight) collect(stripes []stripe) {
	for n := range stripes {
		for slot := range stripes[n].change {
			if change := stripes[n].change[slot].Load(); change != 0 {
				stripes[n].change[slot].Add(-change)
				f.bySpan[slot] += change
				f.total += int(change)
			}
		}
	}
}

// late counts the attempts that have become older than the limit since it was last asked.
func (f *flight) late(now, limit time.Duration) (late int) {
	end := spanOf(now - limit) // the span that isn't wholly over yet
	f.skip(f.newest - spans + 2)
	for ; f.due < end; f.due++ {
		late += max(int(f.bySpan[f.due%spans]), 0)
	}
	return late
}

// counted tells whether an attempt that began then has been counted as late.
func (f *flight) counted(begun time.Duration) bool {
	return spanOf(begun) < f.due && spanOf(begun) >= f.unseen
}

// older is how many began in spans that were over then.
func (f *flight) older(then time.Duration) (n int) {
	for at := max(f.newest-spans+1, 0); at < spanOf(then); at++ {
		n += max(int(f.bySpan[at%spans]), 0)
	}
	return n
}

// skip says that attempts of spans before that one aren't looked at for being late.
func (f *flight) skip(first int64) {
	if f.due < first {
		f.due, f.unseen = first, first
	}
}

// all is how many are under way, those of the stripes included.
func (f *flight) all(stripes []stripe) int {
	sum := f.total
	for n := range stripes {
		for slot := range stripes[n].change {
			sum += int(stripes[n].change[slot].Load())
		}
	}
	return sum
}
