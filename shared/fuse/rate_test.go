package fuse

import (
	"testing"
	"time"
)

func TestQuantileOfFewAndOfOddOnes(t *testing.T) {
	var l latencies
	for range leastLatencies - 1 {
		l.add(time.Second)
	}
	if q := l.quantile(0.95); q != 0 {
		t.Errorf("%v of less than %d", q, leastLatencies)
	}
	for _, odd := range []time.Duration{-1, 0, 1, time.Microsecond, 1000 * time.Hour} {
		var l latencies
		for range leastLatencies {
			l.add(odd)
		}
		if q := l.quantile(0.95); q <= 0 {
			t.Errorf("%v is taken for %v", odd, q)
		}
	}
}

// When there are mostLatencies, all counts are halved: what is new enoughOutcomes outweighs what is old.
func TestCountsAreHalved(t *testing.T) {
	var l latencies
	for range 10 * mostLatencies {
		l.add(10 * time.Millisecond)
		sum := uint32(0)
		for _, n := range l.counts {
			sum += n
		}
		if sum != l.total || l.total >= mostLatencies {
			t.Fatalf("a total of %d, while the counts are %d", l.total, sum)
		}
	}
	for range 4 * mostLatencies {
		l.add(100 * time.Millisecond)
	}
	if q := l.quantile(0.5); q < 100*time.Millisecond {
		t.Errorf("the median is %v after four times as many as are remembered", q)
	}
}

// All latencies are taken until there are some hundred, and then each eighth.
func TestSample(t *testing.T) {
	var l latencies
	for range mostLatencies / 16 {
		l.sample(time.Millisecond)
	}
	if l.total != mostLatencies/16 {
		t.Errorf("%d of the first %d are taken", l.total, mostLatencies/16)
	}
	for range 800 {
		l.sample(time.Millisecond)
	}
	if more := l.total - mostLatencies/16; more < 99 || more > 101 {
		t.Errorf("%d of 800 more", more)
	}
}

// The usual latency is that of the best of the last latencyMinutes.
func TestTheBestMinuteIsRemembered(t *testing.T) {
	var l latencies
	minute := func(m int, latency time.Duration) time.Duration {
		for range 8 * mostLatencies { // so many that hardly one of before is left
			l.add(latency)
		}
		_, p95 := l.usual(time.Duration(m)*time.Minute + 30*time.Second)
		return p95
	}
	quick, slow := 50*time.Millisecond, 500*time.Millisecond
	f := func(m int, latency, want time.Duration) {
		t.Helper()
		if p95 := minute(m, latency); p95 < want || p95 > want+want/8 {
			t.Errorf("minute %d: the 95th percentile is %v, want %v", m, p95, want)
		}
	}
	f(100, quick, quick)
	for m := 101; m < 100+latencyMinutes; m++ {
		f(m, slow, quick)
	}
	f(100+latencyMinutes, slow, slow)
	f(101+latencyMinutes, quick, quick) // what is quicker holds at once
	f(102+latencyMinutes, slow, quick)
	f(1000, slow, slow) // and silence makes old ones no newer
}

func TestUsualIsUnknownAtFirst(t *testing.T) {
	var l latencies
	if median, p95 := l.usual(time.Hour); median != 0 || p95 != 0 {
		t.Errorf("%v, %v", median, p95)
	}
}

// The highest rate since a moment, as long as it is among those remembered: two judgements a second for a minute.
func TestHighestRate(t *testing.T) {
	var r rates
	if r.most(0) != 0 {
		t.Error("a rate of nothing")
	}
	for n := range 500 {
		now := time.Duration(n) * enoughTime
		r.add(now, float64(1000-n)) // falling: the highest is the oldest that counts
		for _, memory := range []time.Duration{entryTime, growMemory, flightMemory} {
			oldest := max(n+1-int(memory/enoughTime), 0)
			if got := r.most(now - memory); n >= int(memory/enoughTime) && got != float64(1000-oldest) {
				t.Fatalf("after %d the highest rate of %v is %v, not %d", n, memory, got, 1000-oldest)
			}
		}
	}
}

// The rate is measured over so many answers, or so much time, that it is one.
func TestPace(t *testing.T) {
	f := func(delivered int, age time.Duration, want float64) {
		t.Helper()
		p := pace{begun: time.Hour, delivered: delivered}
		got, known := p.take(time.Hour+age, 0)
		if known != (want >= 0) || known && (got != want || p != pace{begun: time.Hour + age}) {
			t.Errorf("%d in %v: %v, %v; left %+v", delivered, age, got, known, p)
		}
	}
	f(enoughOutcomes, enoughTime, enoughOutcomes/enoughTime.Seconds())
	f(enoughOutcomes-1, enoughTime, -1)
	f(1000, enoughTime-1, -1)
	f(1, fewTime-1, -1)
	f(fewOutcomes, fewTime, fewOutcomes/fewTime.Seconds())
	f(0, fewTime, 0)
}
