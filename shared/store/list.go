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
	for start, more := folder, true; more; {
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
