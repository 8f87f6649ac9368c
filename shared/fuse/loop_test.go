package fuse

import (
	"testing"
	"time"
)

// A callee of a capacity C, with one queue without bound, of which no request leaves when its caller has: at a demand over C it
// delivers at least 0.9 C in time, from 10 s on. Without a fuse it would deliver next to nothing.
func TestGoodputInAnOverload(t *testing.T) {
	for _, overload := range []float64{1.5, 3, 10} {
		w := newWorld(t, 1, 9, policy())
		q := newQueue(20, usualLatency)
		w.serve = w.through(q)
		w.ask(0.7*q.capacity(), 30*time.Second, w.anyOf(usually))
		if w.fuse.Avalanche() {
			t.Fatal("an avalanche at a load of 0.7")
		}
		w.ask(overload*q.capacity(), 10*time.Second, w.anyOf(usually))
		w.good = 0
		seconds := 40.0
		w.ask(overload*q.capacity(), time.Duration(seconds)*time.Second, w.anyOf(usually))
		if share := float64(w.good) / seconds / q.capacity(); share < 0.9 {
			t.Errorf("at %v times its capacity it delivers %.2f of it: %+v", overload, share, w.fuse.Info())
		}
		w.ask(0.7*q.capacity(), 20*time.Second, w.anyOf(usually))
		if w.fuse.Avalanche() {
			t.Errorf("20 s after the overload there is still an avalanche: %+v", w.fuse.Info())
		}
	}
}
