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

// lease is a lease of this process's, which is renewed call by call: its owner looks when it is due. It is for one goroutine.
type lease struct {
	link  *link
	of    string        // what lies under it, for errors
	ttl   int64         // in seconds
	every time.Duration // between renewals, ±10 %

	id      clientv3.LeaseID // 0: there is none
	renewal time.Time        // when it is to be renewed
}

// grant makes the lease.
func (l *lease) grant(ctx context.Context) error {
	began := time.Now()
	answer, err := call(ctx, l.link, "ask for a lease of "+l.of, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return l.link.Grant(ctx, l.ttl)
	})
	if err != nil {
		return err
	}
	l.id = answer.ID
	l.nextRenewal(began)
	return nil
}

// due tells whether there is a lease to be renewed now.
func (l *lease) due() bool { return l.id != 0 && !time.Now().Before(l.renewal) }

// renew renews the lease. If it has ended by itself the error is rpctypes.ErrLeaseNotFound, and there is none any more.
func (l *lease) renew(ctx context.Context) error {
	began := time.Now()
	ttl, err := l.keepAlive(ctx)
	if err != nil && l.link.token.Swap(nil) != nil { // the last sign-in may be no good any more
		ttl, err = l.keepAlive(ctx)
	}
	if err == nil && ttl <= 0 {
		err = rpctypes.ErrLeaseNotFound
	}
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		l.id = 0
	case err == nil:
		l.nextRenewal(began)
	}
	return err
}

// keepAlive renews the lease once, and returns its time to live. Etcd's client could do it by itself, over a stream that it
// never closes: that is 18 KB of etcd's memory for each agent that ever had a ban, more than a renewal each 10 s costs. Its
// single renewal, on the other hand, tries without a pause for as long as etcd refuses the connection.
func (l *lease) keepAlive(ctx context.Context) (ttl int64, err error) {
	return call(ctx, l.link, "renew the lease of "+l.of, func(ctx context.Context) (int64, error) {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, signedIn{}, true)) // which ends the stream
		defer cancel()
		stream, err := clientv3.RetryLeaseClient(l.link.Client).LeaseKeepAlive(ctx)
		if err == nil {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)})
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

func (l *lease) nextRenewal(began time.Time) {
	l.renewal = began.Add(time.Duration(float64(l.every) * (0.9 + 0.2*rand.Float64())))
}

// revoke gives the lease back, and with it goes what lies under it. Without one it does nothing. After an error it is still
// there, though it may be gone.
func (l *lease) revoke(ctx context.Context) error {
	if l.id == 0 {
		return nil
	}
	_, err := call(ctx, l.link, "revoke the lease of "+l.of, func(ctx context.Context) (*clientv3.LeaseRevokeResponse, error) {
		return l.link.Revoke(ctx, l.id)
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	l.id = 0
	return nil
}

// leave gives the lease back at the end of the process, for which it takes a second at most.
func (l *lease) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.revoke(ctx) // else it ends by itself
}

// grant makes a lease if there is none and one of the tasks needs one.
func (p *publisher) grant(ctx context.Context, tasks []task) error {
	if p.lease.id != 0 || !slices.ContainsFunc(tasks, func(t task) bool { return t.ban != nil }) {
		return nil
	}
	if err := p.lease.grant(ctx); err != nil {
		return err
	}
	p.idle = time.Time{}
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leases = append(b.leases, p.lease.id)
	if more := len(b.leases) - maxLeases; more > 0 {
		b.leases = slices.Delete(b.leases, 0, more)
	}
	return nil
}

// renew renews the lease, and takes back what is overdue.
func (p *publisher) renew(ctx context.Context) error {
	p.expire()
	err := p.lease.renew(ctx)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		p.board.logger.Info("the lease of the bans told to others was lost: they are told again")
		p.lost()
		return nil
	}
	if err != nil {
		return err
	}
	p.complain.over()
	p.board.hurry()
	return nil
}

// lost begins anew without the lease, which has ended by itself.
func (p *publisher) lost() {
	p.board.note(func(status *BoardStatus) { status.LeasesLost++ })
	p.anew()
}

// anew begins anew without a lease: what was published is gone with it, and is to be published again.
func (p *publisher) anew() {
	p.lease.id, p.idle = 0, time.Time{}
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
