package forward

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// idleShards is how many locks share the instances. 16 are enough that two requests seldom meet.
const idleShards = 16

// idleConns keeps the connections that no request uses: the last used one is taken first, so that those that aren't needed
// grow old and are closed. It is used by many goroutines at once.
//
// One timer closes what is too old, for all instances; there is none while nothing is kept.
type idleConns struct {
	most    int           // for each instance; 0: none is kept
	timeout time.Duration // how long a connection may be idle
	seed    maphash.Seed
	closed  atomic.Bool // nothing is kept any more
	swept   atomic.Bool // a sweep is due
	shards  [idleShards]idleShard
}

type idleShard struct {
	mu        sync.Mutex
	instances map[string]*idleStack
	_         [64]byte // its own cache line
}

// idleStack is the idle connections of one instance, the oldest first.
type idleStack struct {
	conns []*directConn
	used  bool // since the last sweep: stays, though it is empty
}

func newIdleConns(most int, timeout time.Duration) *idleConns {
	p := &idleConns{most: most, timeout: timeout, seed: maphash.MakeSeed()}
	for i := range p.shards {
		p.shards[i].instances = map[string]*idleStack{}
	}
	return p
}

func (p *idleConns) shard(host string) *idleShard {
	return &p.shards[maphash.String(p.seed, host)%idleShards]
}

// take returns a connection to the instance, nil if there is none.
func (p *idleConns) take(host string, now time.Time) *directConn {
	for {
		c := p.shard(host).pop(host)
		if c == nil || now.Sub(c.since) < p.timeout {
			return c
		}
		c.conn.Close()
	}
}

func (s *idleShard) pop(host string) *directConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	stack := s.instances[host]
	if stack == nil || len(stack.conns) == 0 {
		return nil
	}
	last := len(stack.conns) - 1
	c := stack.conns[last]
	stack.conns[last] = nil
	stack.conns, stack.used = stack.conns[:last], true
	return c
}

// put keeps a connection, or returns false.
func (p *idleConns) put(c *directConn) bool {
	if p.most == 0 {
		return false
	}
	c.since = time.Now()
	s := p.shard(c.host)
	s.mu.Lock()
	// Asked under the lock: whoever closes takes it after closed is set.
	if p.closed.Load() || !s.push(c, p.most) {
		s.mu.Unlock()
		return false
	}
	s.mu.Unlock()
	p.schedule(p.timeout)
	return true
}

func (s *idleShard) push(c *directConn, most int) bool {
	stack := s.instances[c.host]
	if stack == nil {
		stack = &idleStack{}
		s.instances[c.host] = stack
	}
	if len(stack.conns) >= most {
		return false
	}
	stack.conns = append(stack.conns, c)
	return true
}

func (p *idleConns) schedule(after time.Duration) {
	if !p.swept.Load() && p.swept.CompareAndSwap(false, true) {
		time.AfterFunc(after, p.sweep)
	}
}

// sweep closes the connections whose time is over, and forgets instances of which none was used since the last sweep.
func (p *idleConns) sweep() {
	next, more := p.collect(time.Now())
	if more {
		// Not for each connection by itself: what is due soon waits for the others.
		time.AfterFunc(max(next, p.timeout/16), p.sweep)
		return
	}
	p.swept.Store(false)
	if p.holds() { // put while swept was still set
		p.schedule(p.timeout)
	}
}

// collect closes what is too old. It returns whether anything is left to watch, and when the next one is due.
func (p *idleConns) collect(now time.Time) (next time.Duration, more bool) {
	next = p.timeout
	var old []*directConn
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		for host, stack := range s.instances {
			n, due := stack.old(now, p.timeout)
			old = append(old, stack.conns[:n]...)
			stack.conns = slices.Delete(stack.conns, 0, n)
			if len(stack.conns) == 0 && !stack.used {
				delete(s.instances, host)
				continue
			}
			stack.used, more, next = false, true, min(next, due)
		}
		s.mu.Unlock()
	}
	for _, c := range old {
		c.conn.Close()
	}
	return next, more
}

// old returns how many connections are too old, and when the next one will be.
func (s *idleStack) old(now time.Time, timeout time.Duration) (n int, due time.Duration) {
	for i, c := range s.conns {
		if left := timeout - now.Sub(c.since); left > 0 {
			return i, left
		}
	}
	return len(s.conns), timeout
}

func (p *idleConns) holds() bool {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		n := len(s.instances)
		s.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// close closes all connections, and those to come when they are put. A sweep that is due finds nothing.
func (p *idleConns) close() {
	p.closed.Store(true)
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		gone := s.instances
		s.instances = map[string]*idleStack{}
		s.mu.Unlock()
		for _, stack := range gone {
			for _, c := range stack.conns {
				c.conn.Close()
			}
		}
	}
}
