package forward

import (
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
)

// idleConn returns a connection to host, and a function that tells whether it was closed.
func idleConn(p *idleConns, host string) (*directConn, func() bool) {
	here, there := net.Pipe()
	return newDirectConn(here, p, host), func() bool {
		there.SetReadDeadline(time.Now().Add(time.Nanosecond))
		_, err := there.Read(make([]byte, 1))
		return !health.TimedOut(err)
	}
}

func TestIdleLastUsedFirst(t *testing.T) {
	p := newIdleConns(2, time.Minute)
	defer p.close()
	var conns []*directConn
	for range 3 {
		c, _ := idleConn(p, "a")
		conns = append(conns, c)
	}
	for i, want := range []bool{true, true, false} {
		if got := p.put(conns[i]); got != want {
			t.Errorf("put %d: %t", i, got)
		}
	}
	if p.take("b", time.Now()) != nil {
		t.Error("another instance's connection")
	}
	for _, want := range []*directConn{conns[1], conns[0], nil} {
		if got := p.take("a", time.Now()); got != want {
			t.Errorf("got %p, want %p", got, want)
		}
	}
}

func TestIdleKeepsNone(t *testing.T) {
	p := newIdleConns(0, time.Minute)
	c, _ := idleConn(p, "a")
	if p.put(c) || p.holds() {
		t.Error("one is kept")
	}
}

// TestIdleTimeout looks at the pool for some minutes: what is too old is closed, and what is empty forgotten.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newIdleConns(64, time.Minute)
		old, oldClosed := idleConn(p, "a")
		p.put(old)
		time.Sleep(30 * time.Second)
		young, youngClosed := idleConn(p, "a")
		p.put(young)

		time.Sleep(29 * time.Second)
		synctest.Wait()
		if oldClosed() {
			t.Error("closed after 59 s")
		}
		time.Sleep(1*time.Second + time.Millisecond)
		synctest.Wait()
		if !oldClosed() || youngClosed() {
			t.Errorf("after a minute: old closed %t, young closed %t", oldClosed(), youngClosed())
		}
		if p.take("a", time.Now()) != young {
			t.Error("the young one isn't there")
		}
		p.put(young)
		time.Sleep(time.Minute + time.Millisecond)
		if got := p.take("a", time.Now()); got != nil { // the sweep may be later than that, by a sixteenth
			t.Error("taken after its time")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if !youngClosed() {
			t.Error("young isn't closed")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if p.holds() || p.swept.Load() {
			t.Errorf("instances are held: %t, a sweep is due: %t", p.holds(), p.swept.Load())
		}
		again, againClosed := idleConn(p, "a")
		p.put(again)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !againClosed() {
			t.Error("after the timer had ended, nobody sweeps")
		}
	})
}

func TestIdleClose(t *testing.T) {
	p := newIdleConns(64, time.Minute)
	for i := range 100 {
		c, _ := idleConn(p, fmt.Sprint(i))
		p.put(c)
	}
	kept, closed := idleConn(p, "5")
	p.put(kept)
	p.close()
	if !closed() || p.holds() {
		t.Error("not closed")
	}
	late, _ := idleConn(p, "5")
	if p.put(late) {
		t.Error("kept after close")
	}
}

func BenchmarkIdle(b *testing.B) {
	p := newIdleConns(64, time.Minute)
	defer p.close()
	for i := range 1000 {
		c, _ := idleConn(p, fmt.Sprint("10.0.0.1:", i))
		p.put(c)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.put(p.take("10.0.0.1:500", time.Now()))
	}
}
