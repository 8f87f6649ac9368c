package health

import (
	"testing"
	"time"
)

func TestServiceFaultBansNobodyBySuspicion(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		for range 25 {
			for _, i := range w.all {
				w.observe(i, "....")
			}
		}
		for range 100 { // all fail at once
			for _, i := range w.all {
				w.observe(i, "f")
			}
		}
		if bans := w.told(Banned); len(bans) != 0 {
			t.Errorf("%+v", bans)
		}
		if p0 := w.all[0].Explain().Sequential.P0; p0 < faultShare {
			t.Errorf("p0 is %v while all fail", p0)
		}
	})
}

// Of 1,000 instances with two outcomes each, of which 20 % fail, the worst 30 % must not be left out as if they were bad: the
// share of failures among the others is 20 %.
func TestPeersOfManyInstances(t *testing.T) {
	inWorld(t, 1000, nil, func(t *testing.T, w *world) {
		for n, i := range w.all {
			w.service.mu.Lock()
			i.known()
			for k := range 2 {
				w.service.peers.pass(i)
				w.service.peers.add(i, 1, 0)
				if (2*n+k)%5 == 0 {
					i.past.recent.fail[0]++
				}
			}
			w.service.mu.Unlock()
		}
		w.service.mu.Lock()
		p0 := w.service.p0(w.all[0])
		w.service.mu.Unlock()
		if p0 < 0.17 || p0 > 0.23 {
			t.Errorf("the others' share is %v", p0)
		}
	})
}

// Who has left the list is nobody's peer, whatever of his outcomes waited to be counted.
func TestWhoHasLeftIsNobodysPeer(t *testing.T) {
	inWorld(t, 4, nil, func(t *testing.T, w *world) {
		in := NewStratum("caller web")
		for range 3 {
			for _, i := range w.all {
				w.answers(in, i, 200, time.Millisecond, 10)
			}
			w.service.CatchUp()
			w.list(0)
			w.list(4)
		}
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		if n := len(w.service.peers.all); n != 0 {
			t.Errorf("%d instances that left are compared with", n)
		}
	})
}

func TestPeersLeaveInAnyOrder(t *testing.T) {
	inWorld(t, 50, nil, func(t *testing.T, w *world) {
		for _, i := range w.all {
			w.observe(i, ".")
		}
		w.service.CatchUp()
		p := &w.service.peers
		for _, n := range []int{49, 0, 20, 21, 48, 1, 20} {
			w.service.mu.Lock()
			p.drop(w.all[n])
			w.service.mu.Unlock()
		}
		if len(p.all) != 44 {
			t.Errorf("%d peers are left of 50 when six have gone", len(p.all))
		}
		for n, i := range p.all {
			if i.past.recent.place != n+1 {
				t.Errorf("%s is in place %d, and takes itself to be in %d", i.Address, n+1, i.past.recent.place)
			}
		}
	})
}
