package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// announcer writes a Presence's key. All of it is its goroutine's.
type announcer struct {
	presence *Presence
	lease    lease
	complain complaints

	id       string // of the agent
	suffix   string // added to it
	revision int64  // of the key; 0: there is none of ours
	told     model.Agent
	due      time.Time // when it is to be written
	taken    time.Time // since when another has our key; zero: nobody has
}

// errTwin says that another agent has this one's id.
var errTwin = errors.New("another agent has the same agent_id")

func newAnnouncer(p *Presence) *announcer {
	return &announcer{
		presence: p, lease: lease{of: "the agent's presence", ttl: p.timing.ttl, every: p.timing.renew},
		complain: complaints{
			logger: p.follower.cfg.Logger, trouble: "etcd isn't told that this agent is there", relief: "etcd is told again that this agent is there",
		},
	}
}

// run tells until ctx ends, and then takes the key back.
func (a *announcer) run(ctx context.Context) {
	if a.lease.link = a.presence.follower.connection(ctx); a.lease.link == nil {
		return
	}
	a.later(rand.Float64())
	for ctx.Err() == nil {
		a.rest(ctx, a.wait())
		if ctx.Err() != nil {
			break
		}
		err := a.step(ctx)
		if ctx.Err() == nil {
			a.note(err)
		}
	}
	if a.complain.text == "" { // an etcd that is away would only be waited for
		a.lease.leave(ctx)
	}
}

// later puts the next write off, so that not all agents write at once.
func (a *announcer) later(random float64) {
	a.due = time.Now().Add(time.Duration(random * float64(a.presence.timing.first)))
}

// wait is how long there is nothing to do.
func (a *announcer) wait() time.Duration {
	wait := time.Until(a.due)
	if a.lease.id != 0 {
		wait = min(wait, time.Until(a.lease.renewal))
	}
	return wait
}

// rest waits, unless the agent has another name.
func (a *announcer) rest(ctx context.Context, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-a.presence.moved:
	}
}

// step does what is due.
func (a *announcer) step(ctx context.Context) error {
	id, self := a.presence.self()
	if id != a.id {
		if err := a.rename(ctx, id); err != nil {
			return a.failed(ctx, err)
		}
	}
	if a.lease.due() {
		err := a.lease.renew(ctx)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			a.anew()
			return nil
		}
		if err != nil {
			return a.failed(ctx, err)
		}
		if a.revision != 0 && a.told.Synced != self.Synced {
			a.due = time.Now()
		}
	}
	renamed := a.told.Host != self.Host || a.told.IDC != self.IDC
	if renamed && a.revision != 0 && time.Until(a.due) > a.presence.timing.first {
		a.later(rand.Float64())
	}
	if time.Now().Before(a.due) {
		return nil
	}
	if err := a.write(ctx, self); err != nil {
		return a.failed(ctx, err)
	}
	return nil
}

// rename takes the key of an old name back.
func (a *announcer) rename(ctx context.Context, id string) error {
	if err := a.lease.revoke(ctx); err != nil {
		return err
	}
	before := a.id
	a.id, a.suffix, a.taken = id, "", time.Time{}
	if before != "" {
		a.anew()
	}
	return nil
}

// anew begins anew without a lease, and without the key that lay under it.
func (a *announcer) anew() {
	a.lease.id, a.revision, a.told = 0, 0, model.Agent{}
	a.later(rand.Float64())
}

// failed waits before it tries again what failed: shortly if etcd is away, long if it refuses.
func (a *announcer) failed(ctx context.Context, err error) error {
	var refusal rpctypes.EtcdError
	switch {
	case errors.Is(err, errTwin):
		a.due = time.Now().Add(a.presence.timing.renew)
		return err
	case errors.As(err, &refusal) && !away(err):
		_ = a.lease.revoke(ctx) // else it ends by itself
		a.anew()
		a.due = time.Now().Add(a.presence.timing.every)
		return err
	}
	a.later(0.1 + 0.9*rand.Float64())
	if a.lease.id != 0 && a.lease.renewal.Before(a.due) {
		a.lease.renewal = a.due
	}
	return err
}

// note keeps the status, and tells of trouble.
func (a *announcer) note(err error) {
	switch {
	case err == nil && a.revision != 0:
		a.complain.over()
	case errors.Is(err, errTwin) && time.Since(a.taken) < a.presence.timing.twin:
		// Most likely it is a predecessor's.
	case err != nil:
		a.complain.about(err)
	}
	status := PresenceStatus{Error: textOf(err)}
	if a.revision != 0 {
		written := a.told.Written
		status.ID, status.Written = a.id+a.suffix, &written
	} else if err == nil {
		status.Error = a.presence.Status().Error // nothing was tried
	}
	a.presence.mu.Lock()
	defer a.presence.mu.Unlock()
	a.presence.status = status
}

// write writes the key, unless it is another's.
func (a *announcer) write(ctx context.Context, self model.Agent) error {
	if a.lease.id == 0 {
		if err := a.lease.grant(ctx); err != nil {
			return err
		}
	}
	self.Written = time.Now()
	self = self.Tidy()
	for range 4 { // a try for each thing that may stand in the way
		key := a.presence.follower.keys.agent(a.id + a.suffix)
		answer, err := call(ctx, a.lease.link, fmt.Sprintf("write %q", key), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return a.lease.link.Txn(ctx).
				If(clientv3.Compare(clientv3.ModRevision(key), "=", a.revision)).
				Then(clientv3.OpPut(key, string(self.JSON()), clientv3.WithLease(a.lease.id))).
				Else(clientv3.OpGet(key)).Commit()
		})
		if err != nil {
			if errors.Is(err, rpctypes.ErrLeaseNotFound) {
				a.anew()
				return nil
			}
			return err
		}
		if answer.Succeeded {
			a.revision, a.told, a.taken = answer.Header.Revision, self, time.Time{}
			every := float64(a.presence.timing.every)
			a.due = time.Now().Add(time.Duration(every * (0.9 + 0.2*rand.Float64())))
			return nil
		}
		if err := a.yield(answer.Responses[0].GetResponseRange().Kvs, self.Face); err != nil {
			return err
		}
	}
	return fmt.Errorf("write the key of agent %q: it changes all the time", a.id+a.suffix)
}

// yield looks at the key that isn't as it was thought to be, and decides on the next one to try.
func (a *announcer) yield(found []*mvccpb.KeyValue, face string) error {
	a.revision = 0
	if len(found) == 0 { // somebody deleted it
		return nil
	}
	if found[0].Lease == int64(a.lease.id) { // an attempt that seemed to fail had been done
		a.revision = found[0].ModRevision
		return nil
	}
	other, _, err := model.ParseAgent(a.id, found[0].Value)
	if a.suffix == "" && face != "" && (err != nil || other.Face != face) {
		a.suffix = "+" + face
		return nil
	}
	if a.taken.IsZero() {
		a.taken = time.Now()
	}
	return fmt.Errorf("key %q: %w", found[0].Key, errTwin)
}
