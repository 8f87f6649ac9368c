package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// grant makes a lease if there is none and one of the tasks needs one.
func (p *publisher) grant(ctx context.Context, tasks []task) error {
	if p.lease != 0 || !slices.ContainsFunc(tasks, func(t task) bool { return t.ban != nil }) {
		return nil
	}
	began := time.Now()
	lease, err := call(ctx, p.link, "ask for a lease", func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return p.link.Grant(ctx, p.board.timing.ttl)
	})
	if err != nil {
		return err
	}
	p.lease, p.idle = lease.ID, time.Time{}
	p.nextRenewal(began)
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leases = append(b.leases, lease.ID)
	if more := len(b.leases) - maxLeases; more > 0 {
		b.leases = slices.Delete(b.leases, 0, more)
	}
	return nil
}

// renew renews the lease, and takes back what is overdue.
func (p *publisher) renew(ctx context.Context) error {
	p.expire()
	began := time.Now()
	ttl, err := p.keepAlive(ctx)
	if err != nil && p.link.token.Swap(nil) != nil { // the last sign-in may be no good any more
		ttl, err = p.keepAlive(ctx)
	}
	if err == nil && ttl <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		p.board.logger.Info("the lease of the bans told to others was lost: they are told again")
		p.lost()
		return nil
	}
	if err != nil {
		return err
	}
	p.complain.over()
	p.nextRenewal(began)
	p.board.hurry()
	return nil
}

// keepAlive renews the lease once, and returns its time to live. Etcd's client could do it by itself, over a stream that it
// never closes: that is 18 KB of etcd's memory for each agent that ever had a ban, more than a renewal each 10 s costs. Its
// single renewal, on the other hand, tries without a pause for as long as etcd refuses the connection.
func (p *publisher) keepAlive(ctx context.Context) (ttl int64, err error) {
	return call(ctx, p.link, "renew the lease of the bans", func(ctx context.Context) (int64, error) {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, signedIn{}, true)) // which ends the stream
		defer cancel()
		stream, err := clientv3.RetryLeaseClient(p.link.Client).LeaseKeepAlive(ctx)
		if err == nil {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(p.lease)})
		}
		if err != nil {
			return 0, clientv3.ContextError(ctx, err)
		}
		answer, err := stream.Recv()
		if err != nil {
			return 0, clientv3.ContextError(ctx, err)
		}
		return answer.TTL, nil
	})
}

func (p *publisher) nextRenewal(began time.Time) {
	p.renewal = began.Add(time.Duration(float64(p.board.timing.renew) * (0.9 + 0.2*rand.Float64())))
}

// lost begins anew without the lease, which has ended by itself.
func (p *publisher) lost() {
	p.board.note(func(status *BoardStatus) { status.LeasesLost++ })
	p.anew()
}

// anew begins anew without a lease: what was published is gone with it, and is to be published again.
func (p *publisher) anew() {
	p.lease, p.idle = 0, time.Time{}
	clear(p.written)
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := range b.wanted {
		b.mark(at, 0)
	}
}

// expire takes back bans that nobody has ended.
func (p *publisher) expire() {
	b := p.board
	latest := time.Now().Add(-b.timing.overdue)
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, ban := range b.wanted {
		if ban.Until.Before(latest) {
			delete(b.wanted, at)
			b.mark(at, 0)
		}
	}
}
