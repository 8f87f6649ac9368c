package balance

import (
	"math"
	"testing"
	"time"
)

func near(a, b, off float64) bool { return math.Abs(a-b) <= off*math.Abs(b) }

func TestSlowStartRises(t *testing.T) {
	const begin = 5 * time.Hour
	var target Target
	if f := target.Factor(begin); f != 1 {
		t.Fatalf("a new instance has the factor %v", f)
	}
	target.SlowStart(begin)
	for after, want := range map[time.Duration]float64{
		-time.Millisecond: 1. / 32, 0: 1. / 32, 3 * time.Second: 0.1, 15 * time.Second: 0.5, 27 * time.Second: 0.9,
		SlowStartTime: 1, time.Hour: 1,
	} {
		if f := target.Factor(begin + after); !near(f, want, 1e-9) {
			t.Errorf("%v after its begin the factor is %v, not %v", after, f, want)
		}
	}
	before := 0.0
	for after := time.Duration(0); after <= SlowStartTime; after += 100 * time.Millisecond {
		f := target.Factor(begin + after)
		if f < before || f-before > 0.035 {
			t.Fatalf("the factor goes from %v to %v at %v", before, f, after)
		}
		before = f
	}
}

func TestPenaltyRecovers(t *testing.T) {
	const now = 100 * time.Second
	f := func(after time.Duration, want float64, penalties ...float64) {
		t.Helper()
		var target Target
		for _, factor := range penalties {
			target.Penalize(now, factor)
		}
		if got := target.Factor(now + after); !near(got, want, 1e-6) {
			t.Errorf("%v after penalties of %v the factor is %v, not %v", after, penalties, got, want)
		}
	}
	f(0, 0.5, 0.5)
	f(0, 0.25, 0.5, 0.5)
	f(0, 0.27, 0.3, 0.9)
	f(PenaltyRecovery, 0.5, 0.25)
	f(2*PenaltyRecovery, 1, 0.25)
	f(PenaltyRecovery/2, math.Sqrt2/2, 0.5)
	f(time.Hour, 1, 0.01)
	f(0, 1./32, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
	f(0, 1./32, 0)
	f(0, 1./32, -3)
	f(0, 1, 1)
	f(0, 1, 1.5)
	f(0, 1, math.NaN())
	f(0, 1, math.Inf(1))
	f(5*PenaltyRecovery, 1, 0, 0, 0)
}

func TestPenaltyInSlowStart(t *testing.T) {
	var target Target
	target.SlowStart(time.Second)
	target.Penalize(16*time.Second, 0.5)
	if f := target.Factor(16 * time.Second); !near(f, 0.25, 1e-9) {
		t.Errorf("half of half is %v", f)
	}
	if f := target.Factor(26 * time.Second); !near(f, 25./30, 1e-9) {
		t.Errorf("the penalty over, slow start's factor is %v", f)
	}
}

func TestLatencyPeaksAtOnceAndFallsWithTime(t *testing.T) {
	const second, ms = time.Second, time.Millisecond
	now := 50 * second
	var target Target
	want := func(want time.Duration) {
		t.Helper()
		if got := target.Latency(now); !near(float64(got), float64(want), 0.01) {
			t.Errorf("at %v the latency is %v, not about %v", now, got, want)
		}
	}
	ended := func(latency time.Duration, failed bool) {
		target.Began()
		target.Ended(now, latency, failed)
	}
	want(0)
	ended(0, false) // canceled
	want(0)
	ended(20*ms, false)
	want(20 * ms)
	ended(10*ms, false) // at the same moment: the peak stays
	want(20 * ms)
	now += 10 * second // 1/e of the old, the rest of the new
	ended(10*ms, false)
	want(13678 * time.Microsecond)
	ended(300*ms, false)
	want(300 * ms)
	now += 30 * second // unseen, it fades
	want(14936 * time.Microsecond)
	now += 100 * second
	want(0)
	ended(40*ms, false) // and says no more
	want(40 * ms)
	if n := target.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

func TestAFailureCountsAsSlow(t *testing.T) {
	f := func(before, took, want time.Duration) {
		t.Helper()
		var target Target
		if before > 0 {
			target.Ended(time.Second, before, false)
		}
		target.Ended(time.Second, took, true)
		if got := target.Latency(time.Second); !near(float64(got), float64(want), 1e-4) {
			t.Errorf("a failure after %v, at %v, makes it %v, not %v", took, before, got, want)
		}
	}
	f(0, 100*time.Microsecond, 10*time.Millisecond)
	f(0, 0, 10*time.Millisecond)
	f(time.Millisecond, time.Microsecond, 10*time.Millisecond)
	f(30*time.Millisecond, time.Microsecond, 60*time.Millisecond)
	f(30*time.Millisecond, time.Second, time.Second)
	f(8*time.Second, time.Microsecond, 10*time.Second)
	f(20*time.Second, time.Microsecond, 20*time.Second)
	f(20*time.Second, 25*time.Second, 25*time.Second)
}

// However the answers are spread over time, the estimate follows their mean when the latency has changed for good.
func TestLatencyFollowsAtAnyRate(t *testing.T) {
	for _, every := range []time.Duration{50 * time.Microsecond, time.Millisecond, 40 * time.Millisecond, 3 * time.Second} {
		var target Target
		target.Ended(0, 100*time.Millisecond, false)
		for now := time.Duration(0); now <= 20*time.Second; now += every {
			target.Ended(now, 10*time.Millisecond, false)
		}
		want := 10 + 90*math.Exp(-2) // ms, after two decays; the last of the slow rate's answers is of a second before
		if got := target.Latency(20*time.Second).Seconds() * 1e3; !near(got, want, 0.2) {
			t.Errorf("an answer each %v: %v ms, not about %v", every, got, want)
		}
	}
}

// The clock of the estimates wraps after 2⁵⁶ ns.
func TestLatencyWhenItsClockWraps(t *testing.T) {
	const wrap = time.Duration(1) << (32 + tickBits)
	for _, begin := range []time.Duration{wrap - 5*time.Second, wrap - time.Millisecond, wrap, 3*wrap - time.Second} {
		var target Target
		target.Ended(begin, time.Second, false)
		for after, want := range map[time.Duration]float64{
			0: 1, decay: 1 / math.E, 2 * decay: 1 / math.E / math.E, 200 * time.Second: 0,
			365 * 24 * time.Hour: 0, wrap - 20*time.Second: 0,
		} {
			got := target.Latency(begin + after).Seconds()
			if want == 0 && got != 0 || !near(got, want, 0.003) {
				t.Errorf("%v after %v the estimate is %v s, not %v", after, begin, got, want)
			}
		}
	}
}

func TestLatencyFromAClockReadEarlier(t *testing.T) {
	var target Target
	target.Ended(100*time.Second, 50*time.Millisecond, false)
	target.Ended(99*time.Second, 10*time.Millisecond, false)
	if got := target.Latency(98 * time.Second); got != 50*time.Millisecond {
		t.Errorf("seen from before it is %v", got)
	}
}

func TestLeft(t *testing.T) {
	for ticks := range uint32(12_000) {
		want := math.Exp(-float64(ticks) * (1 << tickBits) / 1e10)
		if got := float64(left(ticks)); math.Abs(got-want) > 1e-6*want+1e-7 {
			t.Fatalf("after %d ticks %v is left, not %v", ticks, got, want)
		}
	}
	if got := left(math.MaxUint32); got != 0 {
		t.Errorf("in the end %v is left", got)
	}
}
