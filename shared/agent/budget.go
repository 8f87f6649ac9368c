package agent

import "sync/atomic"

// bucket is a token bucket that requests fill and extra attempts empty, so that extra load stays a share of the load. Time
// plays no part: at a low rate a time-filled bucket would be of no use, at a high one too generous (Finagle's retry budget).
type bucket struct {
	millitokens atomic.Int64
}

const (
	token      = 1000
	bucketSize = 10 * token
)

// fill is where a bucket begins, so that the first failures of a quiet callee can be retried.
func (b *bucket) fill() { b.millitokens.Store(bucketSize) }

// earn adds a share of a token, up to the size. A full bucket, as nearly all are, is only read.
func (b *bucket) earn(share float64) {
	more := int64(share * token)
	for {
		have := b.millitokens.Load()
		if have >= bucketSize || more == 0 || b.millitokens.CompareAndSwap(have, min(have+more, bucketSize)) {
			return
		}
	}
}

// holds tells whether there is a token.
func (b *bucket) holds() bool { return b.millitokens.Load() >= token }

// spend takes a token, if there is one.
func (b *bucket) spend() bool {
	for {
		have := b.millitokens.Load()
		if have < token {
			return false
		}
		if b.millitokens.CompareAndSwap(have, have-token) {
			return true
		}
	}
}
