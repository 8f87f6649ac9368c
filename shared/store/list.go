package store

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pageSize is how many keys are asked for at once: about 3 MiB of instances, so that neither side holds much. For each page
// etcd counts all keys that are left, so that small pages cost it more: reading 200,000 keys took 1.5 s in pages of 5,000,
// 0.7 s in pages of 20,000, and no less in larger ones.
const pageSize = 20000

// page is a part of the keys of a folder, in order. All pages of a folder show it at one revision.
type page struct {
	revision int64
	cluster  uint64 // etcd's cluster id
	total    int64  // keys in the whole folder
	keys     []*mvccpb.KeyValue
}

// readPages reads all keys of a folder at one revision and gives them to take, page by page; at least one, maybe empty. If
// the revision is compacted between two pages the error is rpctypes.ErrCompacted, and the reader must begin again.
func (l *link) readPages(ctx context.Context, folder string, size int64, take func(page) error) error {
	doing, end := fmt.Sprintf("read %q", folder), clientv3.WithRange(rangeEnd(folder))
	// What there is, is asked for apart: so an etcd that is away is noticed soon, and a slow line still gets its pages.
	head, err := call(ctx, l, doing, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return l.Get(ctx, folder, end, clientv3.WithCountOnly())
	})
	if err != nil {
		return err
	}
	next := page{revision: head.Header.Revision, cluster: head.Header.ClusterId, total: head.Count}
	return l.readOn(ctx, folder, folder, next, size, take)
}

// readOn reads the keys of a folder from start on, at the revision of next, which is what all pages have in common.
func (l *link) readOn(ctx context.Context, folder, start string, next page, size int64, take func(page) error) error {
	doing, end := fmt.Sprintf("read %q", folder), clientv3.WithRange(rangeEnd(folder))
	for more := true; more; {
		answer, err := callWithin(ctx, l, pageTimeout, doing, func(ctx context.Context) (*clientv3.GetResponse, error) {
			return l.Get(ctx, start, end, clientv3.WithLimit(size), clientv3.WithRev(next.revision))
		})
		if tooLarge(err) && size > 1 {
			size = max(size/8, 1) // values far larger than instances
			continue
		}
		if err != nil {
			return err
		}
		next.keys = answer.Kvs
		if err := take(next); err != nil {
			return err
		}
		if more = answer.More; more {
			start = string(answer.Kvs[len(answer.Kvs)-1].Key) + "\x00"
		}
	}
	return nil
}

const (
	// serviceBatch is how many services one transaction reads: three operations each, of the 128 that etcd takes.
	serviceBatch = 32
	// servicePage is how many keys of one of a service's folders the transaction reads at most, which keeps the answer of a
	// whole batch under maxMessage. The rest comes in pages.
	servicePage = 2000
)

// readServices reads all keys of services at one revision, that of begin or, if it has none, that of the first answer, and
// returns it. There is at least one page, maybe empty, if there is a service.
func (l *link) readServices(ctx context.Context, keys keyspace, services []string, begin page, size int64, take func(page)) (page, error) {
	batch, size := serviceBatch, min(size, servicePage)
	for len(services) > 0 {
		some := services[:min(batch, len(services))]
		var operations []clientv3.Op
		for _, service := range some {
			operations = append(operations, clientv3.OpGet(keys.service(service), clientv3.WithRev(begin.revision)))
			for _, folder := range []string{keys.instances(service), keys.bans(service)} {
				operations = append(operations, clientv3.OpGet(folder,
					clientv3.WithRange(rangeEnd(folder)), clientv3.WithLimit(size), clientv3.WithRev(begin.revision)))
			}
		}
		doing := fmt.Sprintf("read service %q and %d more", some[0], len(some)-1)
		answer, err := callWithin(ctx, l, pageTimeout, doing, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return l.Txn(ctx).Then(operations...).Commit()
		})
		if tooLarge(err) && batch*int(size) > 1 { // values far larger than instances
			batch, size = max(batch/8, 1), max(size/8, 1)
			continue
		}
		if err != nil {
			return begin, err
		}
		if begin.revision == 0 {
			begin.revision, begin.cluster = answer.Header.Revision, answer.Header.ClusterId
		}
		services = services[len(some):]
		if err := l.takeServices(ctx, keys, some, begin, size, answer, take); err != nil {
			return begin, err
		}
	}
	return begin, nil
}

// takeServices gives the answer of a transaction to take, and reads what was beyond its limits.
func (l *link) takeServices(ctx context.Context, keys keyspace, services []string, next page, size int64,
	answer *clientv3.TxnResponse, take func(page),
) error {
	for n, response := range answer.Responses {
		found := response.GetResponseRange()
		next.keys = found.Kvs
		take(next)
		if !found.More {
			continue
		}
		folder := keys.instances(services[n/3])
		if n%3 == 2 {
			folder = keys.bans(services[n/3])
		}
		after := string(found.Kvs[len(found.Kvs)-1].Key) + "\x00"
		err := l.readOn(ctx, folder, after, next, size, func(next page) error {
			take(next)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tooLarge tells whether the answer was over maxMessage. An etcd that says "too many requests" isn't meant.
func tooLarge(err error) bool { return status.Code(err) == codes.ResourceExhausted }

// readAhead is readPages with the next page being read while take works on the last one.
func (l *link) readAhead(ctx context.Context, folder string, size int64, take func(page)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pages := make(chan page)
	var err error
	go func() {
		defer close(pages)
		err = l.readPages(ctx, folder, size, func(next page) error {
			select {
			case pages <- next:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	for next := range pages {
		take(next)
	}
	return err
}
