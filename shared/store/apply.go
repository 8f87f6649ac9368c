package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

const (
	// maxBatch is how many operations etcd takes in one transaction unless it is told otherwise.
	maxBatch = 128
	// maxBatchBytes keeps a transaction far under etcd's 1.5 MiB.
	maxBatchBytes = 512 << 10
)

// Apply does what a plan says: documents first, each in one write, then new instances, changed ones, and only then
// deletions, so that a service that moves has instances at any time. Each write is made only if its key is still what was
// planned; else the error is ErrConflict, and what was written before it stays. Applying the documents anew goes on there.
func (c *Client) Apply(ctx context.Context, plan *Plan) error {
	_, err := c.apply(ctx, plan)
	return err
}

// apply returns how many keys were written or deleted.
func (c *Client) apply(ctx context.Context, plan *Plan) (done int, err error) {
	for _, batch := range batches(plan.Changes) {
		if err := c.commit(ctx, batch); err != nil {
			if total := plan.Count(); total > len(batch) {
				err = fmt.Errorf("after %d of %d changes: %w", done, total, err)
			}
			return done, err
		}
		done += len(batch)
	}
	return done, nil
}

// batches puts the changes in order, and cuts them into transactions.
func batches(changes []Change) (all [][]*Change) {
	documents := func(c *Change) bool { return c.Kind != model.KindInstances }
	instances := func(c *Change) bool { return c.Kind == model.KindInstances }
	steps := []struct {
		action Action
		of     func(*Change) bool
		limit  int
	}{
		{Create, documents, 1},
		{Update, documents, 1},
		{Create, instances, maxBatch},
		{Update, instances, maxBatch},
		{Delete, instances, maxBatch},
		{Delete, documents, 1},
	}
	for _, step := range steps {
		var batch []*Change
		bytes := 0
		for i := range changes {
			change := &changes[i]
			if change.Action != step.action || !step.of(change) {
				continue
			}
			if len(batch) == step.limit || len(batch) > 0 && bytes+len(change.New) > maxBatchBytes {
				all, batch, bytes = append(all, batch), nil, 0
			}
			batch = append(batch, change)
			bytes += len(change.New)
		}
		if len(batch) > 0 {
			all = append(all, batch)
		}
	}
	return all
}

// commit makes one transaction of a batch.
func (c *Client) commit(ctx context.Context, batch []*Change) error {
	var conditions []clientv3.Cmp
	var writes, reads []clientv3.Op
	for _, change := range batch {
		key := c.keys.of(change.Kind, change.Name, change.Address)
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(key), "=", change.revision))
		reads = append(reads, clientv3.OpGet(key, clientv3.WithKeysOnly()))
		if change.Action == Delete {
			writes = append(writes, clientv3.OpDelete(key))
		} else {
			writes = append(writes, clientv3.OpPut(key, string(change.New)))
		}
	}
	doing := fmt.Sprintf("%s %s", batch[0].Action, batch[0])
	if len(batch) > 1 {
		doing += fmt.Sprintf(" and %d more", len(batch)-1)
	}
	answer, err := call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.link.Txn(ctx).If(conditions...).Then(writes...).Else(reads...).Commit()
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w (it may have been done nevertheless)", err)
	}
	if err != nil || answer.Succeeded {
		return err
	}
	return conflict(batch, answer)
}

// conflict names the keys of a refused batch that aren't what they were.
func conflict(batch []*Change, answer *clientv3.TxnResponse) error {
	var names []string
	for i, change := range batch {
		found := int64(0)
		if kvs := answer.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			found = kvs[0].ModRevision
		}
		if found != change.revision {
			names = append(names, change.String())
		}
	}
	if more := len(names) - 5; more > 0 {
		names = append(names[:5], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("%s: %w", strings.Join(names, ", "), ErrConflict)
}

// String names the key of a change for people.
func (c *Change) String() string {
	switch c.Kind {
	case model.KindService:
		return fmt.Sprintf("service %q", c.Name)
	case model.KindInstances:
		return fmt.Sprintf("instance %q of service %q", c.Address, c.Name)
	default:
		return "topology"
	}
}
