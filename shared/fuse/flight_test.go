package fuse

import (
	"sync"
	"testing"
	"time"
)

// sum is what the spans hold.
func (f *flight) sum() (sum int) {
	for _, n := range f.bySpan {
		sum += int(n)
	}
	return sum
}

func (f *flight) want(t *testing.T, total int) {
	t.Helper()
	if f.total != total || f.sum() != total {
		t.Errorf("%d under way, in all spans %d, want %d", f.total, f.sum(), total)
	}
}

// What is under way is counted by when it began. A span is late once all of it is older than the limit, and is counted once.
func TestLateIsCountedOnce(t *testing.T) {
	var f flight
	start := 1000 * span
	for n := range 10 {
		f.change(start+time.Duration(n)*span, 1)
	}
	f.change(start+3*span, -1)
	late := 0
	for now := start; now < start+40*span; now += span / 3 {
		f.turn(now)
		n := f.late(now, 4*span)
		late += n
		begun := 0 // whose span is over, and older than the limit
		for i := range 10 {
			if i != 3 && start+time.Duration(i+1)*span <= now-4*span {
				begun++
			}
		}
		if late != begun {
			t.Fatalf("after %v %d were counted late, not %d", now-start, late, begun)
		}
	}
	if !f.counted(start) || f.counted(start+40*span) {
		t.Error("counted doesn't tell which attempts were")
	}
	f.want(t, 9)
}

// A longer limit, as when the usual latency is found to be longer, makes nobody count twice.
func TestLateUnderALongerLimit(t *testing.T) {
	var f flight
	f.change(500*span, 7)
	f.turn(520 * span)
	if n := f.late(520*span, 10*span); n != 7 {
		t.Fatalf("%d late", n)
	}
	f.turn(600 * span)
	if n := f.late(530*span, 25*span) + f.late(600*span, 40*span) + f.late(600*span, 10*span); n != 0 {
		t.Errorf("%d counted again", n)
	}
}

// What is older than all spans is counted in the oldest one.
func TestOlderThanTheRing(t *testing.T) {
	var f flight
	f.change(10*span, 3)
	for n := 11; n < 3*spans; n += 5 {
		f.turn(time.Duration(n) * span)
		f.want(t, 3)
	}
	if n := f.bySpan[f.slot(0)]; n != 3 {
		t.Errorf("%d in the oldest span", n)
	}
	f.change(10*span, -2)
	if n := f.bySpan[f.slot(0)]; n != 1 {
		t.Errorf("%d left in the oldest span", n)
	}
	f.want(t, 1)
	f.change(10*span, -1)
	f.want(t, 0)
}

func TestSilenceOfAnyLength(t *testing.T) {
	for _, silence := range []int64{1, spans - 1, spans, spans + 1, 2 * spans, 10*spans + 7, 1 << 30} {
		var f flight
		start := int64(77)
		for n := range int64(spans) {
			f.change(time.Duration(start+n)*span, int(n%3))
		}
		total := f.total
		f.turn(time.Duration(start+spans-1+silence) * span)
		f.want(t, total)
		oldest := 0
		for n := range int64(spans) {
			if n <= silence { // the oldest one of now, and those before it
				oldest += int(n % 3)
			}
		}
		if got := int(f.bySpan[f.slot(0)]); got != oldest {
			t.Errorf("after %d spans of silence %d are in the oldest, not %d", silence, got, oldest)
		}
		f.change(time.Duration(start+spans-1+silence)*span, 1)
		f.want(t, total+1)
	}
}

// A count may be under 0 for a moment, when an end is heard of before the beginning.
func TestEndBeforeBeginning(t *testing.T) {
	f := New(policy(), nowhere)
	now := time.Hour
	f.Tick(now)
	f.Answered(1, &Outcome{Begun: now, Result: Delivered, Counted: true})
	f.Tick(now + Interval)
	f.Began(0, now)
	f.Tick(now + 2*Interval)
	f.flight.want(t, 0)
	f.Began(3, now+2*Interval)
	f.Tick(now + 3*Interval)
	f.flight.want(t, 1)
	if late := f.flight.late(now+time.Minute, time.Second); late != 1 {
		t.Errorf("%d late", late)
	}
}

// Attempts that begin in normal times and end in an avalanche, or the other way round, are counted once too.
func TestFlightAcrossStates(t *testing.T) {
	f := New(policy(), nowhere)
	now := time.Hour
	f.Tick(now)
	for n := range uint32(20) {
		f.Began(n, now)
	}
	f.mu.Lock()
	f.enter(now, Decision{})
	f.mu.Unlock()
	for n := range uint32(10) {
		f.Answered(n, &Outcome{Begun: now, Result: Delivered, Counted: true})
		f.Began(n, now+span)
	}
	f.Tick(now + 2*span)
	f.flight.want(t, 20)
	f.mu.Lock()
	f.leave(now+2*span, Decision{})
	f.mu.Unlock()
	for n := range uint32(10) {
		f.Answered(n+5, &Outcome{Begun: now, Result: Delivered, Counted: true})
	}
	f.takeSome(10, Outcome{Begun: now + span, Counted: true})
	f.Tick(now + 3*span)
	f.flight.want(t, 0)
}

// The counts hold whoever counts at a time, in either state.
func TestManyAtATime(t *testing.T) {
	f := New(policy(), func(yield func(slot int32, n int)) { yield(0, 1) })
	start := time.Now()
	clock := func() time.Duration { return time.Hour + 200*time.Since(start) } // many spans, ticks and judgements
	var workers sync.WaitGroup
	done := make(chan struct{})
	for n := range uint32(4) {
		workers.Go(func() {
			for i := range 4000 {
				now := clock()
				if !f.Admit(now, i%(MaxWeight+1)).Admitted {
					continue
				}
				f.Began(n, now)
				o := Outcome{Slot: int32(n), Begun: now, Latency: time.Millisecond, Result: Result(i % 3), Tracked: true}
				if o.Counted = i%2 == 0; !o.Counted {
					f.Answered(n+1, &Outcome{Begun: now, Result: Delivered, Counted: true})
				}
				f.takeSome(1, o)
			}
		})
	}
	var watchers sync.WaitGroup
	watchers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f.Tick(clock())
			}
			f.Info()
			f.Decisions()
			f.LeastTimeout()
			f.SetPolicy(policy())
		}
	})
	workers.Wait()
	close(done)
	watchers.Wait()
	f.Tick(clock())
	f.flight.want(t, 0)
}

// The same, of an attempt that is older than all spans and ends in normal times.
func TestOlderThanTheRingEnds(t *testing.T) {
	f := New(&Policy{Fuse: policy().Fuse, Normal: time.Hour, Avalanche: time.Hour}, nowhere)
	begun := time.Hour
	f.Began(0, begun)
	now := begun
	for range 600 {
		f.Tick(now)
		now += Interval
	}
	f.Answered(0, &Outcome{Begun: begun, Result: Delivered, Counted: true})
	f.Tick(now)
	if f.flight.want(t, 0); f.flight.bySpan[f.flight.slot(begun)] != 0 {
		t.Errorf("%d in the span of what is older than all", f.flight.bySpan[f.flight.slot(begun)])
	}
}
