package store

import (
	"context"
	"sync"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Presence tells those who watch over the mesh that an agent is there, and how it stands: the key PREFIX/agents/<id>, under a
// lease, so that it goes with an agent that dies, five minutes later. A clean end takes it back at once.
//
// It is written at the start, each 10 minutes, when the agent has another name, and when it has come in step with etcd or
// has fallen out of it, which is looked at with each renewal of the lease, each 100 s. So 100,000 agents make
//
//	100,000 / 600 s =   167 writes a second, of some 300 bytes each: etcd takes 10,000
//	100,000 / 100 s = 1,000 renewals a second, which etcd's leader answers without writing them
//
// and, since the first write and any after a failure or a lost lease wait for up to a minute at random, a restart of all
// of them at once makes 100,000 · 2 / 60 s = 3,300 writes a second for that minute, a lease and a key each.
//
// Two agents may share an id: that of a machine and the DNS beside it, which both default to the hostname. The first one
// keeps the key. The second adds its face to the id: host-1+coredns. If that is another's, too, the one is the other's
// predecessor, which died lately, or its twin: it waits until the key goes, and warns if it doesn't.
//
// Etcd away: nothing but this waits for it. A role that may not write is told of once in the log, and each 10 minutes tried
// again; the lease is given back meanwhile.
type Presence struct {
	follower *Follower
	self     SelfFunc
	timing   presenceTiming
	moved    chan struct{}

	mu     sync.Mutex
	status PresenceStatus

	start, close sync.Once
	ctx          context.Context
	cancel       context.CancelFunc
	running      sync.WaitGroup
}

// SelfFunc tells who the agent is and how it stands now. The id must be one that CheckAgentID allows; Written is left out.
type SelfFunc func() (id string, self model.Agent)

// PresenceStatus tells how a Presence stands to etcd.
type PresenceStatus struct {
	ID      string     `json:"id,omitempty"`      // that etcd has it under; empty: it hasn't yet
	Written *time.Time `json:"written,omitempty"` // when it was written last
	Error   string     `json:"error,omitempty"`   // why it can't be written
}

// presenceTiming is what tests shorten.
type presenceTiming struct {
	ttl   int64         // of the lease, in seconds
	renew time.Duration // between renewals, ±10 %
	first time.Duration // until the first write at most, and after a failure
	every time.Duration // between writes, ±10 %
	twin  time.Duration // for which another's key may be a predecessor's
}

const presenceEvery = 10 * time.Minute

// A third of the TTL lets two renewals fail. The lease of a predecessor ends within the TTL, and an election begins it anew.
var defaultPresenceTiming = presenceTiming{
	ttl: 300, renew: 100 * time.Second, first: time.Minute, every: presenceEvery, twin: 11 * time.Minute,
}

// NewPresence returns a Presence, which shares the follower's connection and must be closed before it. It does nothing
// before Start.
func NewPresence(follower *Follower, self SelfFunc) *Presence {
	ctx, cancel := context.WithCancel(context.Background())
	return &Presence{
		follower: follower, self: self, timing: defaultPresenceTiming, moved: make(chan struct{}, 1), ctx: ctx, cancel: cancel,
	}
}

// Start begins to tell. Further calls do nothing.
func (p *Presence) Start() {
	p.start.Do(func() {
		p.running.Go(func() { newAnnouncer(p).run(p.ctx) })
	})
}

// Close takes the key back, for which it waits a second at most, and returns when all is done.
func (p *Presence) Close() {
	p.close.Do(func() {
		p.start.Do(func() {}) // a Start that comes late does nothing
		p.cancel()
		p.running.Wait()
	})
}

// Moved says that the agent may be another one now: what is told of it is told anew if so. It doesn't wait.
func (p *Presence) Moved() { poke(p.moved) }

// Status tells how the Presence stands to etcd.
func (p *Presence) Status() PresenceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}
