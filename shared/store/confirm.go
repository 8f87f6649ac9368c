package store

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Remaining returns what a confirmation would confirm: etcd's revision, and what it has at it of a service, or of all
// without a name.
func (c *Client) Remaining(ctx context.Context, service string) (*model.Confirmation, error) {
	services, instances := c.keys.services(), c.keys.allInstances()
	documents := clientv3.OpGet(services, clientv3.WithRange(rangeEnd(services)), clientv3.WithCountOnly())
	if service != "" {
		if err := model.CheckName(service); err != nil {
			return nil, err
		}
		instances = c.keys.instances(service)
		documents = clientv3.OpGet(c.keys.service(service), clientv3.WithCountOnly())
	}
	answer, err := call(ctx, c.link, "count what is left", func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.link.Txn(ctx).Then(
			documents, clientv3.OpGet(instances, clientv3.WithRange(rangeEnd(instances)), clientv3.WithCountOnly()),
		).Commit()
	})
	if err != nil {
		return nil, err
	}
	count := func(n int) int { return int(answer.Responses[n].GetResponseRange().GetCount()) }
	return &model.Confirmation{Revision: answer.Header.Revision, Services: count(0), Instances: count(1)}, nil
}

// Confirm tells all agents that what was removed of a service, or of all without a name, up to what Remaining returned, is
// meant. A confirmation of all takes the place of all older ones, one of a service the place of the service's last one.
func (c *Client) Confirm(ctx context.Context, service, by string, remaining *model.Confirmation) error {
	confirmation := *remaining
	confirmation.By, confirmation.At = by, time.Now().UTC().Truncate(time.Second)
	if _, _, err := model.ParseConfirmation(service, confirmation.JSON()); err != nil {
		return err
	}
	writes := []clientv3.Op{clientv3.OpPut(c.keys.confirm(service), string(confirmation.JSON()))}
	if service == "" {
		folder := c.keys.allConfirms()
		writes = append(writes, clientv3.OpDelete(folder, clientv3.WithRange(rangeEnd(folder))))
	}
	doing := fmt.Sprintf("confirm removals up to revision %d", confirmation.Revision)
	_, err := call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.link.Txn(ctx).Then(writes...).Commit()
	})
	return err
}
