package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

var (
	// ErrUnknownService says that etcd has neither the document of a service nor an instance of it.
	ErrUnknownService = errors.New("etcd knows no such service")
	// ErrNotBanned says that there is no ban by hand to lift.
	ErrNotBanned = errors.New("is not banned by hand")
)

// BanEntry is one ban in etcd: by hand, or told by an agent.
type BanEntry struct {
	Service, Address string // as written in the key
	Host             string // of the agent that told it; empty: by hand
	Hand             *model.HandBan
	Told             *model.ToldBan
	Err              error // why key or value can't be read; Hand and Told are nil then
}

// Ban bans an instance by hand, in the place of an older ban by hand. listed tells whether the service has the instance
// now; a ban of one that comes later is as good. The error is ErrUnknownService if etcd doesn't know the service, or names
// the field that is wrong.
//
// A ban with an end lies under a lease that ends with it, so that nobody has to clean up; agents that don't hear etcd go by
// Until itself.
func (c *Client) Ban(ctx context.Context, service string, address netip.AddrPort, ban *model.HandBan) (listed bool, err error) {
	doing := fmt.Sprintf("ban %s of service %q", address, service)
	if err := errors.Join(model.CheckName(service), model.CheckAddress(address.String()), ban.Valid(service, address)); err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	known, listed, err := c.knows(ctx, doing, service, address.String())
	if err != nil {
		return false, err
	}
	if !known {
		return false, fmt.Errorf("%s: %w", doing, ErrUnknownService)
	}
	options, err := c.leaseUntil(ctx, doing, ban.Until)
	if err != nil {
		return listed, err
	}
	_, err = call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.PutResponse, error) {
		return c.link.Put(ctx, c.keys.ban(service, address.String()), string(ban.JSON()), options...)
	})
	return listed, err
}

// knows asks whether etcd has the service at all, and whether it has the instance, at one revision.
func (c *Client) knows(ctx context.Context, doing, service, address string) (known, listed bool, err error) {
	instances := c.keys.instances(service)
	answer, err := call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.link.Txn(ctx).Then(
			clientv3.OpGet(c.keys.service(service), clientv3.WithCountOnly()),
			clientv3.OpGet(instances, clientv3.WithRange(rangeEnd(instances)), clientv3.WithCountOnly()),
			clientv3.OpGet(c.keys.instance(service, address), clientv3.WithCountOnly()),
		).Commit()
	})
	if err != nil {
		return false, false, err
	}
	count := func(n int) int64 { return answer.Responses[n].GetResponseRange().GetCount() }
	return count(0)+count(1) > 0, count(2) > 0, nil
}

// leaseUntil makes a lease that ends shortly after a moment, and returns the option that puts a key under it. Without an
// end there is none.
func (c *Client) leaseUntil(ctx context.Context, doing string, until time.Time) ([]clientv3.OpOption, error) {
	if until.IsZero() {
		return nil, nil
	}
	seconds := max(int64(time.Until(until)/time.Second), 0) + 2 // not a moment before the end
	lease, err := call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.LeaseGrantResponse, error) {
		return c.link.Grant(ctx, seconds)
	})
	if err != nil {
		return nil, err
	}
	return []clientv3.OpOption{clientv3.WithLease(lease.ID)}, nil
}

// Unban lifts a ban that was made by hand. The error is ErrNotBanned if there is none. An odd service or address is taken
// as it is, so that a key that should not be there can be deleted.
func (c *Client) Unban(ctx context.Context, service, address string) error {
	if service == "" || strings.Contains(service, "/") {
		return fmt.Errorf("unban: %q is not the name of a service", service)
	}
	doing := fmt.Sprintf("unban %s of service %q", address, service)
	answer, err := call(ctx, c.link, doing, func(ctx context.Context) (*clientv3.DeleteResponse, error) {
		return c.link.Delete(ctx, c.keys.ban(service, address))
	})
	if err == nil && answer.Deleted == 0 {
		err = fmt.Errorf("%s: %w", doing, ErrNotBanned)
	}
	return err
}

// Bans returns the bans of a service, or of all without a name: those made by hand, and those that the agents of all hosts
// tell. They are sorted by service, address and host, by hand first. Told ones are of another revision than those by hand.
func (c *Client) Bans(ctx context.Context, service string) ([]BanEntry, error) {
	if strings.Contains(service, "/") {
		return nil, fmt.Errorf("bans of %q: a service's name has no slash", service)
	}
	folder := c.keys.allBans()
	if service != "" {
		folder = c.keys.bans(service)
	}
	byHand, err := c.getFolder(ctx, folder)
	if err != nil {
		return nil, err
	}
	bans := make([]BanEntry, 0, len(byHand))
	for i := range byHand {
		bans = append(bans, handEntry(&byHand[i]))
	}
	err = c.link.readPages(ctx, c.keys.told, pageSize, func(next page) error {
		for _, kv := range next.keys {
			if ban := c.toldEntry(kv.Key, kv.Value); service == "" || ban.Service == service {
				bans = append(bans, ban)
			}
		}
		return nil
	})
	slices.SortStableFunc(bans, func(a, b BanEntry) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Host, b.Host))
	})
	return bans, err
}

func handEntry(entry *Entry) BanEntry {
	ban := BanEntry{Service: entry.Name, Address: entry.Address}
	if ban.Err = model.CheckAddress(entry.Address); ban.Err == nil {
		ban.Hand, _, ban.Err = model.ParseBan(entry.Name, entry.Address, entry.Value)
	}
	return ban
}

func (c *Client) toldEntry(key, value []byte) (ban BanEntry) {
	ban.Host, ban.Service, ban.Address, ban.Err = c.keys.parseTold(key)
	if ban.Err == nil {
		ban.Told, _, ban.Err = model.ParseToldBan(ban.Service, ban.Address, value)
	}
	return ban
}
