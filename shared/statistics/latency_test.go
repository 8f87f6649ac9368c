package statistics

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A quantile is at least the real one, and too high by at most the width of a bucket: an eighth of an octave's beginning.
func TestQuantileIsNearlyExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var counts [LatencyBuckets]uint32
		var exact []time.Duration
		scale := time.Duration(1) << (14 + random.IntN(22)) // 16 µs to a minute
		for range 1 + random.IntN(1000) {
			latency := 8*time.Microsecond + time.Duration(random.Int64N(int64(scale))).Truncate(time.Microsecond)
			counts[LatencyBucket(latency)]++
			exact = append(exact, latency)
		}
		slices.Sort(exact)
		for _, share := range []float64{0.5, 0.95} {
			got, n := LatencyQuantile(&counts, share), int(share*float64(len(exact))+0.999999)-1
			if want := exact[n]; got < want || got > want+want/8+time.Microsecond {
				t.Fatalf("the %v quantile of %d latencies is %v, not %v", share, len(exact), got, want)
			}
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	for _, latency := range []time.Duration{0, 1, 8 * time.Microsecond, 9 * time.Microsecond, 999 * time.Microsecond, time.Millisecond, time.Second, time.Hour} {
		upper := latencyUpper(LatencyBucket(latency))
		if floor := max(latency, 8*time.Microsecond); upper < floor || float64(upper) > 1.125*float64(floor)+1000 {
			t.Errorf("%v is in the bucket up to %v", latency, upper)
		}
	}
	var none [LatencyBuckets]uint64
	if q := LatencyQuantile(&none, 0.5); q != 0 {
		t.Errorf("the median of none is %v", q)
	}
	for _, odd := range []time.Duration{-1, 1 << 62} {
		if b := LatencyBucket(odd); b < 0 || b >= LatencyBuckets {
			t.Errorf("%v is in bucket %d", odd, b)
		}
	}
}
