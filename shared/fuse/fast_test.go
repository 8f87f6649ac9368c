package fuse

import (
	"testing"
	"time"
)

// In the normal state a request takes no lock, and no memory.
func TestNormalStateIsFree(t *testing.T) {
	f := New(policy(), nowhere)
	f.Tick(time.Hour)
	done := make(chan struct{})
	f.mu.Lock()
	go func() {
		defer close(done)
		if !f.Admit(time.Hour, 0).Admitted || f.Avalanche() {
			t.Error("refused in normal times")
		}
		f.Began(1, time.Hour)
		f.Answered(1, &Outcome{Begun: time.Hour, Result: Delivered, Counted: true})
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a request waits for the lock")
	}
	f.mu.Unlock()
	if n := testing.AllocsPerRun(100, func() {
		f.Admit(time.Hour, usually)
		f.Began(1, time.Hour)
		f.Answered(1, &Outcome{Begun: time.Hour, Result: Delivered, Counted: true})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// In an avalanche a request takes the lock, but still no memory.
func TestAvalancheTakesNoMemory(t *testing.T) {
	f := burning(time.Hour, 100, 10*time.Millisecond)
	if n := testing.AllocsPerRun(100, func() {
		f.Admit(time.Hour, usually)
		f.Began(1, time.Hour)
		f.Answered(1, &Outcome{Begun: time.Hour, Result: Delivered, Counted: true})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNormal(b *testing.B) {
	f := New(policy(), nowhere)
	b.ReportAllocs()
	for b.Loop() {
		f.Admit(time.Hour, usually)
		f.Began(1, time.Hour)
		f.Answered(1, &Outcome{Begun: time.Hour, Result: Delivered, Counted: true})
	}
}

func BenchmarkAvalanche(b *testing.B) {
	f := burning(time.Hour, 100, 10*time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		f.Admit(time.Hour, usually)
		f.Began(1, time.Hour)
		f.Answered(1, &Outcome{Begun: time.Hour, Result: Delivered, Counted: true})
	}
}
