package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Board tells the other agents of a host, and operators, of this agent's bans, and hears of those of the others. Each ban is
// one key, bans/<host>/<service>/<host:port>, under a lease of this agent: they vanish by themselves soon after it.
//
// If two agents of a host ban the same instance, the key is the first one's; when he takes it away, the other one writes
// it. Should both write at once, the later value stays, and the earlier writer comes back to it when it goes.
//
// Writes are put off while there are many, and only what still stands is written: at most boardRate transactions of at most
// 128 keys a second. Nothing is lost when etcd is away: what stands then is written when it is back. An agent without bans
// holds no lease, and costs etcd nothing but a watch.
type Board struct {
	cfg      Config
	keys     keyspace
	host     string
	agent    string
	told     func(service string, address netip.AddrPort, ban *model.ToldBan)
	complain complaints

	mu     sync.Mutex
	wanted map[banKey]string // values
	kick   chan struct{}     // something has changed

	// Of the goroutine that runs.
	link    *link
	written map[banKey]string
	others  map[banKey]string // values of the host's other agents
	lease   clientv3.LeaseID
	alive   <-chan *clientv3.LeaseKeepAliveResponse
	writes  int // transactions, for tests

	start, close sync.Once
	cancel       context.CancelFunc
	done         chan struct{}
}

type banKey struct {
	service string
	address netip.AddrPort
}

const (
	// boardLease is how long the bans of an agent that died stand, in seconds.
	boardLease = 30
	// boardRate bounds the transactions of an agent. If of 100,000 agents a hundredth lives through a collapse at once, that
	// is 5,000 small writes a second, which an etcd on SSDs takes.
	boardRate  = 5
	boardBatch = 128 // operations that etcd takes in a transaction
	// boardIdle is how long a lease without bans is kept, so that a flapping instance doesn't make a lease each time.
	boardIdle = time.Minute
)

// NewBoard returns the board of an agent of a host, under a name that no other agent of the host has. told is called, from one goroutine, for each ban of another agent, and
// without a ban when that is over. It asks etcd nothing yet.
func NewBoard(cfg Config, host, agent string, told func(string, netip.AddrPort, *model.ToldBan)) (*Board, error) {
	if err := errors.Join(cfg.Validate(), CheckHost(host)); err != nil {
		return nil, err
	}
	return &Board{
		cfg: cfg, keys: newKeyspace(cfg.Prefix), host: host, agent: agent, told: told, complain: complaints{logger: cfg.Logger},
		wanted: map[banKey]string{}, kick: make(chan struct{}, 1), written: map[banKey]string{}, others: map[banKey]string{},
	}, nil
}

// Publish tells of a ban, or of what has changed of it. It doesn't wait.
func (b *Board) Publish(service string, address netip.AddrPort, ban *model.ToldBan) {
	told := *ban
	told.Agent = b.agent
	b.want(func() { b.wanted[banKey{service, address}] = string(told.JSON()) })
}

// Withdraw tells that a ban is over. It doesn't wait.
func (b *Board) Withdraw(service string, address netip.AddrPort) {
	b.want(func() { delete(b.wanted, banKey{service, address}) })
}

func (b *Board) want(change func()) {
	b.mu.Lock()
	change()
	b.mu.Unlock()
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// Start begins to tell and to hear. A second call does nothing.
func (b *Board) Start() {
	b.start.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		b.cancel, b.done = cancel, make(chan struct{})
		go b.run(ctx)
	})
}

// Close takes the agent's bans away, as far as etcd is there to hear it, and ends.
func (b *Board) Close() {
	b.start.Do(func() {})
	b.close.Do(func() {
		if b.done != nil {
			b.cancel()
			<-b.done
		}
	})
}

func (b *Board) run(ctx context.Context) {
	defer close(b.done)
	for failures := 0; ctx.Err() == nil; failures++ {
		begun := time.Now()
		err := b.session(ctx)
		b.leave()
		if ctx.Err() != nil {
			return
		}
		b.complain.about(fmt.Errorf("bans of this host: %w", err))
		if time.Since(begun) > time.Minute {
			failures = 0
		}
		sleep(ctx, pause(failures, away(err), rand.Float64()))
	}
}

// leave gives the lease back, and with it all of the agent's bans.
func (b *Board) leave() {
	if b.link == nil {
		return
	}
	if b.lease != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, _ = b.link.Revoke(ctx, b.lease) // else it ends by itself
		cancel()
	}
	b.link.Close()
	b.link, b.lease, b.alive = nil, 0, nil
	clear(b.written)
}

// session tells and hears until something fails.
func (b *Board) session(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if b.link, err = openLink(context.WithoutCancel(ctx), &b.cfg, callTimeout); err != nil {
		return err
	}
	revision, err := b.list(ctx)
	if err != nil {
		return err
	}
	folder := b.keys.toldOf(b.host)
	watch := b.link.Watch(clientv3.WithRequireLeader(ctx), folder, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	ticker := time.NewTicker(time.Second / boardRate)
	defer ticker.Stop()
	idle, dirty := time.Now(), true
	for {
		due := ticker.C
		if !dirty && b.lease == 0 {
			due = nil // nothing to do: no timer wakes the processor
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case answer, ok := <-watch:
			if err := answer.Err(); err != nil || !ok {
				return errors.Join(err, errSilent)
			}
			dirty = b.hear(answer.Events) || dirty
		case <-b.kick:
			dirty = true
		case _, ok := <-b.alive:
			if !ok {
				return rpctypes.ErrLeaseNotFound
			}
		case <-due:
			if dirty {
				if dirty, err = b.write(ctx); err != nil {
					return err
				}
			}
			if len(b.written) > 0 {
				idle = time.Now()
			} else if time.Since(idle) > boardIdle && b.lease != 0 {
				if err := b.giveBack(ctx); err != nil {
					return err
				}
			}
		}
	}
}

// list reads the host's bans, and tells what is new or gone.
func (b *Board) list(ctx context.Context) (int64, error) {
	answer, err := call(ctx, b.link, "read the host's bans", func(ctx context.Context) (*clientv3.GetResponse, error) {
		return b.link.Get(ctx, b.keys.toldOf(b.host), clientv3.WithPrefix())
	})
	if err != nil {
		return 0, err
	}
	found := map[banKey]bool{}
	for _, kv := range answer.Kvs {
		if key, ok := b.take(kv.Key, kv.Value); ok {
			found[key] = true
		}
	}
	for key := range b.others {
		if !found[key] {
			b.gone(key)
		}
	}
	b.complain.over()
	return answer.Header.Revision, nil
}

// take hears of a ban; false if it isn't another agent's.
func (b *Board) take(key, value []byte) (banKey, bool) {
	_, service, text, err := b.keys.parseTold(key)
	if err != nil {
		return banKey{}, false // refused where bans are shown
	}
	ban, _, err := model.ParseToldBan(service, text, value)
	address, parseErr := netip.ParseAddrPort(text)
	of := banKey{service, address}
	if err != nil || parseErr != nil || ban.Agent == b.agent {
		b.gone(of)
		return of, false
	}
	if b.others[of] != string(value) {
		b.others[of] = string(value)
		b.told(service, address, ban)
	}
	return of, true
}

// gone hears that another agent's ban is over.
func (b *Board) gone(of banKey) {
	if _, known := b.others[of]; known {
		delete(b.others, of)
		b.told(of.service, of.address, nil)
	}
}

// hear takes changes of the host's bans, and tells whether there may be something to write for them.
func (b *Board) hear(events []*clientv3.Event) (write bool) {
	for _, event := range events {
		if event.Type == clientv3.EventTypePut {
			b.take(event.Kv.Key, event.Kv.Value)
			continue
		}
		if _, service, text, err := b.keys.parseTold(event.Kv.Key); err == nil {
			if address, err := netip.ParseAddrPort(text); err == nil {
				of := banKey{service, address}
				b.gone(of)
				delete(b.written, of)
				write = true
			}
		}
	}
	return write
}

// write writes one batch of what is wanted and isn't there, or the other way round; more is left if it returns true.
func (b *Board) write(ctx context.Context) (more bool, err error) {
	b.mu.Lock()
	wanted := maps.Clone(b.wanted)
	b.mu.Unlock()
	next := maps.Clone(b.written)
	var puts []banKey
	var operations []clientv3.Op
	for key := range b.written {
		if _, stands := wanted[key]; !stands && len(operations) < boardBatch {
			if _, other := b.others[key]; !other {
				operations = append(operations, clientv3.OpDelete(b.keyOf(key)))
			}
			delete(next, key)
		}
	}
	for key, value := range wanted {
		if _, other := b.others[key]; !other && b.written[key] != value {
			puts = append(puts, key)
		}
	}
	if len(puts) > 0 && b.lease == 0 {
		if err := b.borrow(ctx); err != nil {
			return true, err
		}
	}
	room := min(len(puts), boardBatch-len(operations))
	for _, key := range puts[:room] {
		operations = append(operations, clientv3.OpPut(b.keyOf(key), wanted[key], clientv3.WithLease(b.lease)))
		next[key] = wanted[key]
	}
	if len(operations) > 0 {
		b.writes++
		_, err := call(ctx, b.link, "write bans", func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return b.link.Txn(ctx).Then(operations...).Commit()
		})
		if err != nil {
			return true, err
		}
	}
	b.written = next
	return room < len(puts) || slices.ContainsFunc(slices.Collect(maps.Keys(next)), func(key banKey) bool {
		_, stands := wanted[key]
		return !stands
	}), nil
}

func (b *Board) keyOf(key banKey) string {
	return b.keys.toldBan(b.host, key.service, key.address.String())
}

// borrow gets a lease, and keeps it.
func (b *Board) borrow(ctx context.Context) error {
	lease, err := call(ctx, b.link, "get a lease for bans", func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return b.link.Grant(ctx, boardLease)
	})
	if err != nil {
		return err
	}
	alive, err := b.link.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	b.lease, b.alive = lease.ID, alive
	return nil
}

// giveBack ends a lease that nothing stands under.
func (b *Board) giveBack(ctx context.Context) error {
	lease := b.lease
	b.lease, b.alive = 0, nil
	_, err := call(ctx, b.link, "give a lease back", func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return b.link.Revoke(ctx, lease)
	})
	return err
}
