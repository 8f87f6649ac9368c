package store

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The first change is taken at once; those that come shortly after are taken together.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var takes []int // responses at once
		var lasts time.Duration
		b := newBatch(func(responses []clientv3.WatchResponse) error {
			takes = append(takes, len(responses))
			time.Sleep(lasts)
			return nil
		})
		defer b.stop()
		add := func(n int) {
			for range n {
				if err := b.add(&clientv3.WatchResponse{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		rest := func(want time.Duration) {
			t.Helper()
			begun := time.Now()
			<-b.rest.C
			if err := b.rested(); err != nil {
				t.Fatal(err)
			}
			if rested := time.Since(begun) - lasts; rested != want {
				t.Errorf("rested for %v, want %v", rested, want)
			}
		}
		add(3)
		rest(shortestRest)
		if len(takes) != 2 || takes[0] != 1 || takes[1] != 2 {
			t.Errorf("taken at once: %v, want 1, and then 2", takes)
		}
		rest(shortestRest) // nothing waits
		lasts = 4 * time.Millisecond
		add(1)
		lasts = time.Second
		add(1)
		rest(restFor * 4 * time.Millisecond)
		lasts = 0
		add(1)
		rest(longestRest)
		if len(takes) != 5 {
			t.Errorf("taken at once: %v", takes)
		}
	})
}

// A fault among responses ends the watch, after what came before it was taken.
func TestBatchFault(t *testing.T) {
	fault := errors.New("fault")
	b := newBatch(func([]clientv3.WatchResponse) error { return fault })
	defer b.stop()
	if err := b.add(&clientv3.WatchResponse{}); !errors.Is(err, fault) {
		t.Error(err)
	}
	b = newBatch(func([]clientv3.WatchResponse) error { return nil })
	defer b.stop()
	if err := b.flush(); err != nil || b.resting {
		t.Errorf("%v, resting %v after nothing was taken", err, b.resting)
	}
}
