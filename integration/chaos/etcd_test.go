package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// memberSpec is what a member's process is told, in the variable of this name.
type memberSpec struct{ Name, Folder, Client, Peer, Advertised, Cluster string }

const memberVariable = "UFC_CHAOS_MEMBER"

// serveMember runs a member of etcd until it is killed.
func serveMember() int {
	var spec memberSpec
	if err := json.Unmarshal([]byte(os.Getenv(memberVariable)), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	at := func(address string) []url.URL { return []url.URL{{Scheme: "http", Host: address}} }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel = spec.Name, spec.Folder, "warn"
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(spec.Client), at(spec.Client)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(spec.Peer), at(spec.Advertised)
	cfg.InitialCluster = spec.Cluster
	cfg.UnsafeNoFsync = true // the kernel survives what is done here, and a shared disk needn't
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	<-signals
	server.Close()
	return 0
}

// member is one of etcd's.
type member struct {
	*process
	spec memberSpec
	link *link // the others' way to it
	id   string
}

// cluster is an etcd of three members, which reach each other by links.
type cluster struct {
	t       testing.TB
	folder  string
	members [3]*member
	client  *clientv3.Client
	written int64 // the revision of the last write; others', of bans told, aren't everybody's business
}

// newCluster starts it, and waits until it has a leader.
func newCluster(t testing.TB, folder string) *cluster {
	t.Helper()
	c := &cluster{t: t, folder: folder}
	local := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1")) }
	var everyone, endpoints []string
	for n := range c.members {
		m := &member{spec: memberSpec{Name: fmt.Sprintf("etcd-%d", n+1), Client: local(), Peer: local(), Advertised: local()}}
		m.spec.Folder = filepath.Join(folder, m.spec.Name)
		m.link = openLink(t, &link{address: m.spec.Advertised, target: m.spec.Peer, sniffs: true})
		c.members[n] = m
		everyone = append(everyone, m.spec.Name+"=http://"+m.spec.Advertised)
		endpoints = append(endpoints, "http://"+m.spec.Client)
	}
	for _, m := range c.members {
		m.spec.Cluster = strings.Join(everyone, ",")
		c.start(m)
	}
	var err error
	c.client, err = clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.client.Close() })
	mustUntil(t, 30*time.Second, "etcd's first election", func() error { _, err := c.leader(); return err })
	return c
}

// start starts a member, again perhaps.
func (c *cluster) start(m *member) {
	c.t.Helper()
	text, err := json.Marshal(m.spec)
	if err != nil {
		c.t.Fatal(err)
	}
	m.process = startProcess(c.t, c.folder, m.spec.Name, []string{role + "=etcd", memberVariable + "=" + string(text)}, os.Args[0])
}

// status asks one member for its state. It notes its ID.
func (c *cluster) status(m *member) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	status, err := c.client.Status(ctx, "http://"+m.spec.Client)
	if err == nil {
		m.id = types.ID(status.Header.MemberId).String()
	}
	return status, err
}

// leader returns the member that leads.
func (c *cluster) leader() (*member, error) {
	var failed error
	for _, m := range c.members {
		if m.ended() {
			continue
		}
		status, err := c.status(m)
		if err != nil {
			failed = err
		} else if status.Leader == status.Header.MemberId && len(status.Errors) == 0 {
			return m, nil
		}
	}
	return nil, fmt.Errorf("etcd has no leader: %v", failed)
}

// mustLead returns the leader; a follower too.
func (c *cluster) mustLead() (leader, follower *member) {
	c.t.Helper()
	mustUntil(c.t, 30*time.Second, "etcd", func() (err error) { leader, err = c.leader(); return err })
	for _, m := range c.members {
		if m != leader {
			follower = m
		}
	}
	return leader, follower
}

// whole is nil if all members are there and agree on who leads.
func (c *cluster) whole() error {
	leaders := map[uint64]bool{}
	for _, m := range c.members {
		status, err := c.status(m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.spec.Name, err)
		}
		leaders[status.Leader] = true
	}
	if len(leaders) != 1 || leaders[0] {
		return fmt.Errorf("etcd's members see the leaders %v", leaders)
	}
	return nil
}

// isolate cuts a member off from the others, both ways.
func (c *cluster) isolate(m *member) {
	m.link.set(silent)
	for _, other := range c.members {
		if other != m {
			other.link.cut(m.id)
		}
	}
}

// rejoin ends isolate.
func (c *cluster) rejoin(m *member) {
	m.link.set(open)
	for _, other := range c.members {
		other.link.cut("")
	}
}

// killAll kills all members.
func (c *cluster) killAll() {
	for _, m := range c.members {
		m.kill()
	}
}

// startAll starts all members that are gone, and waits until they agree on a leader.
func (c *cluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		if m.ended() {
			c.start(m)
		}
	}
	c.mustBeWhole()
}

// mustBeWhole waits until all members are there and agree on who leads.
func (c *cluster) mustBeWhole() {
	c.t.Helper()
	mustUntil(c.t, 30*time.Second, "etcd", c.whole)
}

// lose takes away the data of members that are gone.
func (c *cluster) lose() {
	c.t.Helper()
	for _, m := range c.members {
		if err := os.RemoveAll(m.spec.Folder); err != nil {
			c.t.Fatal(err)
		}
	}
}

// write repeats a write until etcd takes it, and returns the revision. Elections lose writes.
func (c *cluster) write(ops ...clientv3.Op) (revision int64) {
	c.t.Helper()
	mustUntil(c.t, 30*time.Second, "a write to etcd", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		answer, err := c.client.Txn(ctx).Then(ops...).Commit()
		if err == nil {
			c.written = answer.Header.Revision
		}
		return err
	})
	return c.written
}

// compact makes etcd forget all history.
func (c *cluster) compact() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := c.client.Get(ctx, "nothing")
	if err == nil {
		_, err = c.client.Compact(ctx, answer.Header.Revision)
	}
	if err != nil {
		c.t.Fatalf("compaction: %v", err)
	}
}
