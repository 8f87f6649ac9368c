package statistics

import (
	"math"
	"math/bits"
	"time"
)

// LatencyBuckets is how many buckets a histogram of latencies has: 30 octaves from 8 µs to 2.4 hours, each in 8 equal parts, as
// HdrHistogram has them. A quantile is told as the upper end of its bucket, and so is at most 12.5 % too high.
const LatencyBuckets = 8 * 30

// LatencyBucket returns the bucket of a latency, from 0 on.
func LatencyBucket(latency time.Duration) int {
	micros := uint64(max(latency.Microseconds(), 8)) // below 8 µs, buckets would be narrower than a microsecond
	octave := bits.Len64(micros) - 1
	return min((octave-3)*8+int(micros>>(octave-3)&7), LatencyBuckets-1)
}

// latencyUpper returns the upper end of a bucket.
func latencyUpper(bucket int) time.Duration {
	return time.Duration(8+bucket%8+1) << (bucket / 8) * time.Microsecond
}

// LatencyQuantile returns the latency that a share of all counted ones, 0–1, don't exceed; 0 if there are none.
func LatencyQuantile[N uint32 | uint64](counts *[LatencyBuckets]N, share float64) time.Duration {
	total := N(0)
	for _, count := range counts {
		total += count
	}
	if total == 0 {
		return 0
	}
	seen, wanted := N(0), N(max(math.Ceil(share*float64(total)), 1))
	for bucket, count := range counts {
		if seen += count; seen >= wanted {
			return latencyUpper(bucket)
		}
	}
	return latencyUpper(LatencyBuckets - 1)
}
