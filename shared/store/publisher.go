package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"

	"github.com/ufc-mesh/ufc/shared/model"
)

// publisher writes the difference between what a Board wants published and what etcd has. All of it is its goroutine's.
type publisher struct {
	board    *Board
	link     *link
	host     string
	limiter  *rate.Limiter
	complain complaints

	lease   lease
	idle    time.Time // since when nothing is published; zero: something is
	written map[spot]writing
}

// writing is what etcd has of a key of ours, as far as is known. After a failure the ban is zero, which none is that was
// published: it isn't known then what etcd has.
type writing struct {
	revision int64 // 0: there is none
	ban      model.ToldBan
}

// task is one key to write or, without a ban, to delete, if it is still at the revision.
type task struct {
	at       spot
	ban      *model.ToldBan
	revision int64
}

func newPublisher(b *Board) *publisher {
	return &publisher{
		board: b, host: b.place(), limiter: rate.NewLimiter(writeRate, writeBurst), written: map[spot]writing{},
		lease: lease{of: "the bans", ttl: b.timing.ttl, every: b.timing.renew},
		complain: complaints{
			logger: b.logger, trouble: "bans aren't told to the other agents of this host", relief: "bans are told again",
		},
	}
}

// run publishes until ctx ends, and then takes everything back.
func (p *publisher) run(ctx context.Context) {
	if p.link = p.board.link(ctx); p.link == nil {
		return
	}
	p.lease.link = p.link
	for failures := 0; ctx.Err() == nil; {
		wait, err := p.step(ctx)
		if ctx.Err() != nil {
			break
		}
		p.board.note(func(status *BoardStatus) { status.Told, status.WriteError = len(p.written), textOf(err) })
		if err != nil {
			p.complain.about(err)
			sleep(ctx, p.untilRenewal(pause(failures, away(err), rand.Float64())))
			failures++
			continue
		}
		failures = 0
		if wait > 0 {
			p.rest(ctx, wait)
		}
	}
	if p.complain.text == "" { // an etcd that is away would only be waited for: the lease ends by itself
		p.lease.leave(ctx)
	}
}

// untilRenewal shortens a pause so that refused writes don't cost the lease, and with it what was written before.
func (p *publisher) untilRenewal(pause time.Duration) time.Duration {
	if left := time.Until(p.lease.renewal); p.lease.id != 0 && left > 0 {
		return min(pause, left)
	}
	return pause // the renewal itself was refused
}

// rest waits for something to do.
func (p *publisher) rest(ctx context.Context, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-p.board.wake:
		gather := p.board.timing.gather
		sleep(ctx, gather/2+time.Duration(rand.Float64()*float64(gather/2)))
	}
}

// step does what is due, and returns how long there is nothing more to do.
func (p *publisher) step(ctx context.Context) (time.Duration, error) {
	if host := p.board.place(); host != p.host {
		_ = p.lease.revoke(ctx) // if it fails, what is at the old host ends with the lease
		p.anew()
		p.host = host
	}
	if p.lease.due() {
		if err := p.renew(ctx); err != nil {
			return 0, err
		}
	}
	if !p.pending() {
		return p.settle(ctx)
	}
	if err := p.limiter.Wait(ctx); err != nil {
		return 0, err
	}
	if tasks := p.take(); len(tasks) > 0 {
		return 0, p.write(ctx, tasks)
	}
	return 0, nil
}

func (p *publisher) pending() bool {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	return len(p.board.dirty) > 0
}

// settle gives the lease back when nothing has been published for a while.
func (p *publisher) settle(ctx context.Context) (time.Duration, error) {
	switch {
	case p.lease.id == 0:
		return time.Hour, nil // a change wakes it
	case len(p.written) > 0:
		p.idle = time.Time{}
		return time.Until(p.lease.renewal), nil
	case p.idle.IsZero():
		p.idle = time.Now()
	}
	if left := p.board.timing.linger - time.Since(p.idle); left > 0 {
		return min(left, time.Until(p.lease.renewal)), nil
	}
	if err := p.lease.revoke(ctx); err != nil {
		return 0, err
	}
	p.idle = time.Time{}
	return time.Hour, nil
}

// take takes up to a transaction of what is dirty, and leaves out what etcd has already as it should be.
func (p *publisher) take() []task {
	b := p.board
	b.mu.Lock()
	defer b.mu.Unlock()
	var tasks []task
	for at, gone := range b.dirty {
		if len(tasks) == maxTold {
			break
		}
		delete(b.dirty, at)
		known, ours := p.written[at]
		if gone > known.revision {
			known = writing{}
		}
		ban, wanted := b.wanted[at]
		switch {
		case wanted:
			ban.Agent = b.agent
			if ban = ban.Tidy(); known.ban != ban {
				tasks = append(tasks, task{at, &ban, known.revision})
			}
		case ours:
			tasks = append(tasks, task{at, nil, known.revision})
		}
	}
	return tasks
}

// write makes one transaction of the tasks. Each of them is done only if its key is as it is thought to be, and else tells
// what is there.
func (p *publisher) write(ctx context.Context, tasks []task) error {
	if err := p.grant(ctx, tasks); err != nil {
		p.again(tasks...)
		return err
	}
	operations := make([]clientv3.Op, len(tasks))
	for i, t := range tasks {
		key := p.board.keys.toldBan(p.host, t.at.service, t.at.address.String())
		operation := clientv3.OpDelete(key)
		if t.ban != nil {
			operation = clientv3.OpPut(key, string(t.ban.JSON()), clientv3.WithLease(p.lease.id))
		}
		operations[i] = clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", t.revision)},
			[]clientv3.Op{operation}, []clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())})
	}
	doing := fmt.Sprintf("tell of %d bans and returns", len(tasks))
	answer, err := call(ctx, p.link, doing, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return p.link.Txn(ctx).Then(operations...).Commit()
	})
	if err != nil {
		p.failed(tasks, err)
		return err
	}
	p.complain.over()
	for i, t := range tasks {
		p.done(t, answer.Header.Revision, answer.Responses[i].GetResponseTxn())
	}
	return nil
}

// done takes the result of one task.
func (p *publisher) done(t task, revision int64, result *pb.TxnResponse) {
	switch {
	case result.Succeeded && t.ban != nil:
		p.written[t.at] = writing{revision, *t.ban}
		return
	case result.Succeeded:
		delete(p.written, t.at)
		return
	}
	found := result.Responses[0].GetResponseRange().GetKvs()
	switch {
	case len(found) > 0 && p.board.mine(found[0].Lease): // an attempt that seemed to fail had been done
		p.written[t.at] = writing{revision: found[0].ModRevision}
	case len(found) > 0: // another agent's, or none's. When it is gone the listener says so
		delete(p.written, t.at)
		return
	default: // somebody deleted it
		delete(p.written, t.at)
		if t.ban == nil {
			return
		}
	}
	p.again(t)
}

// failed takes tasks back. They may have been done all the same, unless etcd itself refused.
func (p *publisher) failed(tasks []task, err error) {
	var refusal rpctypes.EtcdError
	if refused := errors.As(err, &refusal) && !away(err); !refused {
		for _, t := range tasks {
			p.written[t.at] = writing{revision: t.revision}
		}
	}
	p.again(tasks...)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		p.lost()
	}
}

func (p *publisher) again(tasks ...task) {
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	for _, t := range tasks {
		p.board.mark(t.at, 0)
	}
}
