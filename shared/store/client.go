package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ufc-mesh/ufc/shared/model"
)

var (
	// ErrConflict says that somebody else changed a key after it was planned to be changed. Nothing of theirs was overwritten.
	ErrConflict = errors.New("changed by somebody else in the meantime: plan again")
	// ErrLeased says that some instances registered themselves under a lease, and were left alone.
	ErrLeased = errors.New("under a lease, left alone")
)

// Client reads and writes the configuration, for tools. A call to etcd takes 5 s at most, a page of keys 30 s; an etcd that
// is away is an error after 5 s.
type Client struct {
	cfg  Config
	keys keyspace
	link *link
}

// Entry is one key of the configuration, as it is in etcd, whether it can be read or not.
type Entry struct {
	Kind     model.Kind // KindInstances for one instance; empty for a key that is none of ours
	Name     string     // the service; empty for the topology
	Address  string     // only for KindInstances
	Value    []byte
	Revision int64 // etcd's mod revision
	Leased   bool  // the key goes with its owner's lease
}

// NewClient opens a client. With a user it signs in; else the first call shows whether etcd is there. The caller closes it.
func NewClient(cfg Config) (*Client, error) { return newClient(cfg, callTimeout) }

func newClient(cfg Config, timeout time.Duration) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	link, err := openLink(context.Background(), &cfg, timeout)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, keys: newKeyspace(cfg.Prefix), link: link}, nil
}

// Close ends the connections.
func (c *Client) Close() { c.link.Close() }

// Get returns the keys of a kind, in order, all at one revision: of the service with the name, or of all without. The
// topology has no name. What isn't there isn't an error.
func (c *Client) Get(ctx context.Context, kind model.Kind, name string) ([]Entry, error) {
	if err := checkWanted(kind, name); err != nil {
		return nil, err
	}
	switch {
	case kind == model.KindTopology:
		return c.getKey(ctx, c.keys.topology())
	case kind == model.KindService && name != "":
		return c.getKey(ctx, c.keys.service(name))
	case kind == model.KindService:
		return c.getFolder(ctx, c.keys.services())
	case name != "":
		return c.getFolder(ctx, c.keys.instances(name))
	default:
		return c.getFolder(ctx, c.keys.allInstances())
	}
}

// Delete deletes a Service, a service's instances, or the Topology, and returns how many keys that were. Instances under a
// lease are left alone, since their owners would not notice; the error is ErrLeased then. An odd name is taken as it is,
// so that a key that should not be there can be deleted.
func (c *Client) Delete(ctx context.Context, kind model.Kind, name string) (int, error) {
	if kind != model.KindTopology && name == "" {
		return 0, fmt.Errorf("delete %s: needs the name of a service", strings.ToLower(string(kind)))
	}
	entries, err := c.Get(ctx, kind, name)
	if err != nil {
		return 0, err
	}
	plan := &Plan{}
	leased := 0
	for i := range entries {
		if kind == model.KindInstances && entries[i].Leased {
			leased++
			continue
		}
		plan.Changes = append(plan.Changes, entries[i].change(Delete, nil))
	}
	deleted, err := c.apply(ctx, plan)
	if err == nil && leased > 0 {
		err = fmt.Errorf("%d instances of %q: %w", leased, name, ErrLeased)
	}
	return deleted, err
}

// checkWanted refuses kinds that don't exist, and names that would reach into other folders.
func checkWanted(kind model.Kind, name string) error {
	switch kind {
	case model.KindService:
		return nil
	case model.KindInstances:
		if strings.Contains(name, "/") {
			return fmt.Errorf("instances of %q: a service's name has no slash", name)
		}
		return nil
	case model.KindTopology:
		if name != "" {
			return fmt.Errorf("topology %q: there is one only, without name", name)
		}
		return nil
	}
	return fmt.Errorf("kind %q: is not %s, %s or %s", kind, model.KindService, model.KindInstances, model.KindTopology)
}

func (c *Client) getKey(ctx context.Context, key string) ([]Entry, error) {
	answer, err := call(ctx, c.link, fmt.Sprintf("read %q", key), func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.link.Get(ctx, key)
	})
	if err != nil {
		return nil, err
	}
	return c.entries(nil, answer.Kvs), nil
}

func (c *Client) getFolder(ctx context.Context, folder string) (entries []Entry, err error) {
	err = c.link.readPages(ctx, folder, pageSize, func(next page) error {
		entries = c.entries(entries, next.keys)
		return nil
	})
	return entries, err
}

func (c *Client) entries(entries []Entry, kvs []*mvccpb.KeyValue) []Entry {
	parser := keyParser{keyspace: c.keys}
	for _, kv := range kvs {
		kind, name, address, _ := parser.parse(kv.Key) // an odd key is shown as it is
		entries = append(entries, Entry{kind, name, address, kv.Value, kv.ModRevision, kv.Lease != 0})
	}
	return entries
}

func (e *Entry) change(action Action, value []byte) Change {
	return Change{
		Action: action, Kind: e.Kind, Name: e.Name, Address: e.Address,
		Old: e.Value, New: value, Leased: e.Leased && e.Kind == model.KindInstances, revision: e.Revision,
	}
}
