package store

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Board is where the agents of one host tell each other whom they have banned, and operators can read it: the keys
// PREFIX/bans/<host>/<service>/<host:port>. It publishes this agent's bans, and follows those of the others.
//
// The keys lie under a lease of this Board's, so that they go with an agent that dies, 30 s later. A lost lease is followed
// by a new one, and everything is published again. While nothing is published there is no lease: an agent without bans
// costs etcd one watch and no write.
//
// Two agents may have banned the same instance, but there is one key. The first writer keeps it; the other one sees that,
// leaves it alone, and writes its own when the key is gone and its ban still stands. So neither ever overwrites the other,
// and who follows learns of the ban as long as anybody's stands. What a Board owns it knows by the lease and not by the
// agent_id, which two agents may share by mistake: both default to the hostname.
//
// Etcd away: nothing is lost. What is to be published is kept, and written when etcd is back; what was told stays until
// 30 s after its Until. A role that may not write follows nevertheless.
type Board struct {
	follower *Follower
	keys     keyspace
	logger   *slog.Logger
	told     ToldFunc
	timing   boardTiming

	mu     sync.Mutex
	host   string
	agent  string
	wanted map[spot]model.ToldBan
	dirty  map[spot]int64     // what must be looked at, and the revision at which its key was found gone; 0: it wasn't
	later  map[spot]struct{}  // what only lasts longer: it becomes dirty when the lease is renewed
	remind map[spot]struct{}  // withdrawn: what others say of them is to be told again
	leases []clientv3.LeaseID // of this Board, the newest last
	status BoardStatus        // but for Waiting

	wake  chan struct{} // dirty has grown, or the host has changed
	moved chan struct{} // the host has changed
	asked chan struct{} // remind has grown

	start, close sync.Once
	ctx          context.Context
	cancel       context.CancelFunc
	running      sync.WaitGroup
}

// ToldFunc takes a ban by another agent of this host, the first time, when it changes, and again when this agent has
// withdrawn its own one, beside which it may have been of no account; nil: it is over. Calls come from one goroutine, and
// must not wait for the Board.
type ToldFunc func(service string, address netip.AddrPort, ban *model.ToldBan)

// spot is one instance of one service: one key of a host's.
type spot struct {
	service string
	address netip.AddrPort
}

const (
	// leaseTTL is how long the bans of an agent outlive it, in seconds. A program that died with its bans is back sooner.
	leaseTTL = 30
	// writeRate and writeBurst bound the writes of one agent, in transactions a second. Etcd takes some 10,000 small writes a
	// second. Of 100,000 agents those that call a callee write when an instance of it dies: some hundreds, once each. What
	// must not happen is that all write all the time, as while a callee flaps. A transaction takes 100 bans and counts as
	// one write, and whatever changes between two of them is written once, as it is then: so the limit delays next to
	// nothing, and one agent gone mad takes a thousandth of etcd.
	writeRate  = 10
	writeBurst = 20
	// maxTold is how many bans one transaction writes. Each is a transaction of its own within, of one operation, and
	// etcd counts both levels against its limit of 128.
	maxTold = 100
	// maxLeases is how many leases of its own a Board remembers. Keys of an older one exist only in a restored etcd.
	maxLeases = 8
)

// boardTiming is what tests shorten.
type boardTiming struct {
	ttl     int64         // of the lease, in seconds
	renew   time.Duration // between renewals, ±10 %
	linger  time.Duration // after the last ban is gone, until the lease is given back
	gather  time.Duration // between a change and its writing, half to whole, so that what comes together goes together
	grace   time.Duration // after its Until, for which a told ban stays while etcd is away
	overdue time.Duration // after its Until, an own ban that nobody has ended is taken back
	silence time.Duration // without a sign of life, the watch is given up
}

// A third of the TTL lets two renewals fail. An own ban is overdue when its instance was forgotten while banned: nobody
// decides on it any more.
var defaultBoardTiming = boardTiming{
	ttl: leaseTTL, renew: leaseTTL * time.Second / 3, linger: time.Minute, gather: 100 * time.Millisecond,
	grace: 30 * time.Second, overdue: 10 * time.Minute, silence: defaultTiming.silence,
}

// NewBoard returns a Board of an agent on a host, which shares the follower's connection and must be closed before it. It
// does nothing before Start. The error is that the host can't be a part of a key.
func NewBoard(follower *Follower, host, agent string, told ToldFunc) (*Board, error) {
	if err := CheckHost(host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Board{
		follower: follower, keys: follower.keys, logger: follower.cfg.Logger, told: told, timing: defaultBoardTiming,
		host: host, agent: agent, wanted: map[spot]model.ToldBan{}, dirty: map[spot]int64{}, later: map[spot]struct{}{},
		remind: map[spot]struct{}{}, wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		ctx: ctx, cancel: cancel,
	}, nil
}

// Start begins to publish and to follow. Further calls do nothing.
func (b *Board) Start() {
	b.start.Do(func() {
		b.running.Go(func() { newPublisher(b).run(b.ctx) })
		b.running.Go(func() { newListener(b).run(b.ctx) })
	})
}

// Close stops both, takes what was published back, for which it waits a second at most, and returns when all is done.
func (b *Board) Close() {
	b.close.Do(func() {
		b.start.Do(func() {}) // a Start that comes late does nothing
		b.cancel()
		b.running.Wait()
	})
}

// Publish tells of a ban of this agent's, or of a change of one. It doesn't wait. That a ban only goes on is told within
// some ten seconds, which is sooner than anybody would believe it over. Agent is set to this one's id, and texts
// that are too long are cut. It stands until Withdraw, or 10 minutes after Until if that never comes.
func (b *Board) Publish(service string, address netip.AddrPort, ban model.ToldBan) {
	at := spot{service, address}
	ban = ban.Tidy()
	ban.Agent = "" // of whoever this is when it is written
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.wanted[at]
	if ok && known == ban {
		return
	}
	b.wanted[at] = ban
	if ok && b.prolongs(known, ban) {
		b.later[at] = struct{}{}
		return
	}
	b.mark(at, 0)
}

// prolongs tells whether a ban goes on as it was, and is known for long enough to be told of with the lease's next renewal.
// Each ban of a dead instance goes on every few seconds, at its own moment: an agent that called a hundred of them would
// write ten times a second for as long as they are dead.
func (b *Board) prolongs(known, ban model.ToldBan) bool {
	return known.Reason == ban.Reason && known.Detail == ban.Detail && time.Since(known.Until) < b.timing.renew
}

// Withdraw says that a ban is over. One that wasn't published is no error. It doesn't wait.
func (b *Board) Withdraw(service string, address netip.AddrPort) {
	at := spot{service, address}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.wanted[at]; ok {
		delete(b.wanted, at)
		b.mark(at, 0)
		b.remind[at] = struct{}{}
		poke(b.asked)
	}
}

// Identify changes who this agent is: what it has published moves, and so does what it follows. It doesn't wait. The error
// is that the host can't be a part of a key; nothing changes then.
func (b *Board) Identify(host, agent string) error {
	if err := CheckHost(host); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if host == b.host && agent == b.agent {
		return nil
	}
	if host != b.host {
		poke(b.moved)
	}
	b.host, b.agent = host, agent
	for at := range b.wanted {
		b.mark(at, 0)
	}
	poke(b.wake)
	return nil
}

// mark notes that a spot must be looked at. The lock is held.
func (b *Board) mark(at spot, gone int64) {
	b.dirty[at] = max(b.dirty[at], gone)
	poke(b.wake)
}

// hurry makes dirty what could wait for the lease's renewal.
func (b *Board) hurry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := range b.later {
		if _, ok := b.wanted[at]; ok {
			b.mark(at, 0)
		}
	}
	clear(b.later)
}

// vacant tells the publisher that a key is gone since a revision: it may be this agent's turn.
func (b *Board) vacant(at spot, revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.wanted[at]; ok {
		b.mark(at, revision)
	}
}

// vacantBut is vacant for all but those that are there.
func (b *Board) vacantBut(present map[spot]bool, revision int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := range b.wanted {
		if !present[at] {
			b.mark(at, revision)
		}
	}
}

// mine tells whether a lease is this Board's.
func (b *Board) mine(lease int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.leases, clientv3.LeaseID(lease))
}

// place returns the host that the Board is at now.
func (b *Board) place() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.host
}

// link waits for the follower's connection. It is nil when ctx ends first.
func (b *Board) link(ctx context.Context) *link {
	return b.follower.connection(ctx)
}

// BoardStatus tells how a Board stands to etcd.
type BoardStatus struct {
	Told       int    `json:"told"`    // bans of this agent's that etcd has
	Waiting    int    `json:"waiting"` // bans and returns that are yet to be written
	Heard      int    `json:"heard"`   // bans of the other agents of this host
	LeasesLost uint64 `json:"leases_lost"`
	WriteError string `json:"write_error,omitempty"` // why what waits can't be written
	ReadError  string `json:"read_error,omitempty"`  // why the others aren't heard
}

// Status tells how the Board stands to etcd.
func (b *Board) Status() BoardStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	status := b.status
	status.Waiting = len(b.dirty)
	return status
}

// note changes the status.
func (b *Board) note(change func(*BoardStatus)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// poke wakes who waits on the channel, if not now, then when he comes to it.
func poke(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
