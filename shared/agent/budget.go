package agent

import "sync/atomic"

// bucket is a token bucket that calls fill and extra attempts empty, so that extra attempts stay a share of the calls. It isn't
// filled by time: that would be too little at a low rate of calls and too much at a high one (as in Finagle's retry budget).
type bucket struct {
	millitokens atomic.Int64
}

// In thousandths of a token.
const (
	token      = 1000
	bucketSize = 10 * token
)

// fill makes the bucket full. It begins so, so that the first failures of a callee with few calls can be retried.
func (b *bucket) fill() { b.millitokens.Store(bucketSize) }

// earn adds a share of a token, up to the size. A bucket that is full, which is the usual case, is only read.
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
