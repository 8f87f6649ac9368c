package agent

import (
	"testing"
	"time"
)

func TestLatencies(t *testing.T) {
	var l latencies
	observe := func(from, n int, latency time.Duration) {
		for i := range n {
			l.observe(time.Duration(from+i)*time.Millisecond, latency)
		}
	}
	observe(0, 19, time.Millisecond)
	if _, ok := l.quantile(time.Second, 0.5); ok {
		t.Error("19 samples are enough")
	}
	observe(1000, 1000, time.Millisecond)
	observe(12_000, 1000, time.Second)
	if got, ok := l.quantile(13*time.Second, 0.5); !ok || got > 2*time.Millisecond {
		t.Errorf("both windows count: %v %v", got, ok)
	}
	observe(23_000, 20, time.Second)
	if got, ok := l.quantile(24*time.Second, 0.5); !ok || got < time.Second {
		t.Errorf("what is older than two windows is forgotten: %v %v", got, ok)
	}
}
