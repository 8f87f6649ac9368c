package chaos

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// link is the way by TCP to a part of the mesh, which can be cut, in two ways: refusing, as a machine does whose program
// is gone, and silent, as a network is that loses everything: connections stand and carry nothing, new ones aren't answered.
type link struct {
	t       testing.TB
	address string // where it listens
	target  string // where it leads
	sniffs  bool   // tells etcd's members apart, so that one can be cut off from a peer: see from

	running sync.WaitGroup
	mu      sync.Mutex
	changed *sync.Cond // state, cut off, or a pipe closed
	state   state
	cutOff  string // the member whose connections are silent, by its ID; "": none
	accepts *net.TCPListener
	parked  chan struct{} // accept has stopped, since the link is silent
	fillers []net.Conn    // hold the queue of a silent listener full
	pipes   map[*pipe]struct{}
}

type state int

const (
	open state = iota
	refusing
	silent
	closed
)

// newLink opens one to the target, at an address.
func newLink(t testing.TB, address, target string) *link {
	t.Helper()
	return openLink(t, &link{address: address, target: target})
}

// openLink opens one of which it is said where it listens, where it leads, and whether it sniffs.
func openLink(t testing.TB, l *link) *link {
	t.Helper()
	l.t, l.pipes, l.state, l.parked = t, map[*pipe]struct{}{}, refusing, make(chan struct{})
	l.changed = sync.NewCond(&l.mu)
	l.set(open)
	t.Cleanup(func() {
		l.set(closed)
		l.running.Wait()
	})
	return l
}

// set brings the link into a state. Errors of the kernel's fail the test.
func (l *link) set(to state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == to {
		return
	}
	if l.state == silent {
		l.answer()
	}
	if l.state == refusing && to != closed {
		l.listen()
	}
	l.state = to
	switch to {
	case silent:
		l.fallSilent()
	case refusing, closed:
		if l.accepts != nil {
			l.accepts.Close()
		}
		for p := range l.pipes {
			p.reset()
		}
	}
	l.changed.Broadcast()
}

// cut makes silent what the member with the ID says on this link; "" makes it heard again.
func (l *link) cut(member string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cutOff = member
	l.changed.Broadcast()
}

// listen opens the listener. l.mu is held.
func (l *link) listen() {
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.t.Errorf("opening a link: %v", err)
		return
	}
	accepts := listener.(*net.TCPListener)
	l.accepts = accepts
	l.running.Go(func() { l.accept(accepts) })
}

// fallSilent keeps the kernel from answering new connections: it drops them when the listener's queue is full, so that is made
// short, and filled. l.mu is held.
func (l *link) fallSilent() {
	_ = l.accepts.SetDeadline(time.Unix(1, 0)) // ends a waiting Accept
	<-l.parked
	l.backlog(0)
	for {
		filler, err := net.DialTimeout("tcp", l.address, 50*time.Millisecond)
		if err != nil {
			return // it is full
		}
		l.fillers = append(l.fillers, filler)
	}
}

// answer is the end of fallSilent. l.mu is held.
func (l *link) answer() {
	for _, filler := range l.fillers {
		filler.Close()
	}
	l.fillers = nil
	l.backlog(1024)
	_ = l.accepts.SetDeadline(time.Time{})
}

// backlog sets how many connections the kernel makes before they are accepted.
func (l *link) backlog(length int) {
	raw, err := l.accepts.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), length) })
	}
	if err != nil {
		l.t.Errorf("the queue of a link: %v", err)
	}
}

// accept takes connections until the listener is closed.
func (l *link) accept(listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		switch {
		case err == nil:
			l.running.Go(func() { l.carry(conn) })
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.parked <- struct{}{}
			l.mu.Lock()
			for l.state == silent {
				l.changed.Wait()
			}
			l.mu.Unlock()
		default:
			return
		}
	}
}

// pipe is one connection over a link.
type pipe struct {
	near, far *net.TCPConn
	from      string // the etcd member at the near end, if that can be told
	closed    bool
}

// reset ends both connections as a crashed machine would. The link's mu is held.
func (p *pipe) reset() {
	p.closed = true
	for _, conn := range []*net.TCPConn{p.near, p.far} {
		_ = conn.SetLinger(0)
		conn.Close()
	}
}

// carry connects near to the target, and returns when both are closed.
func (l *link) carry(near *net.TCPConn) {
	defer near.Close()
	conn, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		_ = near.SetLinger(0)
		return
	}
	p := &pipe{near: near, far: conn.(*net.TCPConn)}
	l.mu.Lock()
	if l.state == refusing || l.state == closed {
		p.reset()
	}
	l.pipes[p] = struct{}{}
	l.mu.Unlock()

	var back sync.WaitGroup
	back.Go(func() { l.copy(p, p.near, p.far) })
	l.copy(p, p.far, p.near)
	back.Wait()
	l.mu.Lock()
	delete(l.pipes, p)
	l.mu.Unlock()
}

// copy carries one direction. What was read while the link is silent waits, as TCP would send it again. The end of one
// direction ends both.
func (l *link) copy(p *pipe, to, from *net.TCPConn) {
	defer func() {
		l.mu.Lock()
		p.closed = true
		l.changed.Broadcast()
		l.mu.Unlock()
		to.Close()
		from.Close()
	}()
	buffer := make([]byte, 32<<10)
	for first := l.sniffs && from == p.near; ; first = false {
		n, err := from.Read(buffer)
		if first {
			l.recognize(p, buffer[:n])
		}
		if n > 0 && !l.wait(p) {
			return
		}
		if _, failed := to.Write(buffer[:n]); failed != nil {
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = to.SetLinger(0)
			}
			return
		}
	}
}

// recognize finds out who is at the near end: etcd's members say so in the first request of each connection.
func (l *link) recognize(p *pipe, head []byte) {
	_, rest, found := bytes.Cut(head, []byte("\r\nX-Server-From: "))
	if !found {
		return
	}
	id, _, _ := bytes.Cut(rest, []byte("\r\n"))
	l.mu.Lock()
	defer l.mu.Unlock()
	p.from = string(id)
}

// wait returns when the pipe may carry; false: it is closed.
func (l *link) wait(p *pipe) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !p.closed && (l.state == silent || l.cutOff != "" && l.cutOff == p.from) {
		l.changed.Wait()
	}
	return !p.closed
}
