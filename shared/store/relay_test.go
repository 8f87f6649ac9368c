package store

import (
	"net"
	"sync"
	"time"
)

// relay stands in front of an etcd, and can be cut.
type relay struct {
	address string
	target  string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	mute     bool          // connections stand, but nothing passes
	pace     time.Duration // for each 4 KiB
	taken    int           // connections so far
	wg       sync.WaitGroup
}

func newRelay() *relay { return &relay{address: freeAddress(), conns: map[net.Conn]bool{}} }

// open takes connections for the target.
func (r *relay) open() error {
	listener, err := net.Listen("tcp", r.address)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = listener
	r.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.serve(listener, conn) })
		}
	})
	return nil
}

func (r *relay) serve(listener net.Listener, client net.Conn) {
	r.mu.Lock()
	r.taken++
	r.mu.Unlock()
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		client.Close()
		return
	}
	r.mu.Lock()
	if r.listener != listener { // cut in the meantime
		client.Close()
		server.Close()
	}
	r.conns[client], r.conns[server] = true, true
	r.mu.Unlock()
	r.wg.Go(func() { r.copy(client, server) })
	r.copy(server, client)
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 32<<10)
	for {
		r.mu.Lock()
		pace := r.pace
		r.mu.Unlock()
		part := buffer
		if pace > 0 {
			time.Sleep(pace)
			part = buffer[:4<<10]
		}
		n, err := from.Read(part)
		r.mu.Lock()
		mute := r.mute
		r.mu.Unlock()
		if mute && err == nil {
			continue
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// cut closes everything; connections are refused until open.
func (r *relay) cut() {
	r.mu.Lock()
	if r.listener != nil {
		r.listener.Close()
		r.listener = nil
	}
	for conn := range r.conns {
		conn.Close()
	}
	clear(r.conns)
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *relay) silence(mute bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = mute
}
