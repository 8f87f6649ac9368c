package store

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// cluster is three real members in this process.
type cluster struct {
	t       *testing.T
	members []*etcd
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	var peers []url.URL
	var initial []string
	for i := range 3 {
		peers = append(peers, url.URL{Scheme: "http", Host: freeAddress()})
		initial = append(initial, fmt.Sprintf("m%d=%s", i, peers[i].String()))
	}
	opened := make(chan error)
	for i := range peers {
		member := newEtcd(t.TempDir(), "http")
		member.change = func(cfg *embed.Config) {
			cfg.Name, cfg.InitialCluster = fmt.Sprintf("m%d", i), strings.Join(initial, ",")
			cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peers[i:i+1], peers[i:i+1]
			cfg.TickMs, cfg.ElectionMs = 20, 400 // three of them on a busy machine must not lose each other
		}
		c.members = append(c.members, member)
		go func() { opened <- member.open() }()
	}
	for range peers {
		if err := <-opened; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, member := range c.members {
			if member.server != nil {
				member.close()
			}
		}
	})
	return c
}

func (c *cluster) config() Config {
	cfg := Config{Prefix: DefaultPrefix, Logger: quiet, pilot: agile}
	for _, member := range c.members {
		cfg.Endpoints = append(cfg.Endpoints, member.endpoint())
	}
	return cfg
}

// isolate cuts a member's lines to the others, or mends them.
func (c *cluster) isolate(n int, cut bool) {
	for i, other := range c.members {
		if i == n || other.server == nil {
			continue
		}
		one, another := c.members[n].server.Server, other.server.Server
		if cut {
			one.CutPeer(another.MemberID())
			another.CutPeer(one.MemberID())
		} else {
			one.MendPeer(another.MemberID())
			another.MendPeer(one.MemberID())
		}
	}
}

// lead makes a member the leader.
func (c *cluster) lead(n int) {
	c.t.Helper()
	wanted := c.members[n].server.Server.MemberID()
	eventually(c.t, "another leader", 20*time.Second, func() bool {
		leader := c.members[n].server.Server.Leader()
		if leader == wanted {
			return true
		}
		for _, member := range c.members {
			if server := member.server.Server; leader != 0 && server.MemberID() == leader {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_ = server.MoveLeader(ctx, uint64(leader), uint64(wanted)) // it is tried again
				cancel()
			}
		}
		return false
	})
}

// write writes by way of a member, again and again until it is done: an election refuses writes.
func (c *cluster) write(n int, name string) int64 {
	c.t.Helper()
	w := newWriter(c.t, c.members[n], DefaultPrefix)
	var revision int64
	eventually(c.t, "a write", 20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		answer, err := w.client.Put(ctx, w.root+"services/"+name, serviceJSON(name))
		if err == nil {
			revision = answer.Header.Revision
		}
		return err == nil
	})
	return revision
}

func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	cfg := c.config()
	c.write(0, "shop")
	f, sink := follow(t, cfg, quick)
	sink.awaitReplace(1)
	uses(t, f, cfg.Endpoints[0])
	step := func(what string, f func()) {
		t.Helper()
		began := time.Now()
		f()
		if sink.replaced != 1 || len(sink.state) == 0 {
			t.Fatalf("%s: %d lists, want only the first; %d records", what, sink.replaced, len(sink.state))
		}
		t.Log(what, time.Since(began))
	}
	step("leader changes", func() {
		for n := range 3 {
			c.lead(n)
			sink.awaitRevision(c.write(n, fmt.Sprintf("s%d", n)))
		}
	})
	step("the member in use is killed", func() {
		c.members[0].close()
		sink.awaitRevision(c.write(1, "killed"))
	})
	step("it is back", func() {
		c.members[0].start(t)
		uses(t, f, cfg.Endpoints[0])
		sink.awaitRevision(c.write(1, "back"))
	})
	step("it is cut off from the others", func() { // it goes on taking connections, and answers what needs no leader
		c.isolate(0, true)
		sink.awaitRevision(c.write(1, "cut"))
		uses(t, f, cfg.Endpoints[1])
	})
	step("it is with them again", func() {
		c.isolate(0, false)
		uses(t, f, cfg.Endpoints[0])
		sink.awaitRevision(c.write(2, "mended"))
	})
	step("two are killed: no quorum", func() {
		c.members[1].close()
		c.members[2].close()
		eventually(t, "an error", 30*time.Second, func() bool { return f.Status().LastError != "" })
		c.members[1].start(t)
		sink.awaitRevision(c.write(1, "quorum"))
		eventually(t, "all well", 20*time.Second, func() bool { return f.Status().Synced })
	})
}
