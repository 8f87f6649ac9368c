package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ufc-mesh/ufc/shared/client"
)

// newClient is a Go program's client of the agents on these ports.
func newClient(t *testing.T, ports ...int) *client.Client {
	config := client.Config{Caller: "a-program"}
	for _, port := range ports {
		config.Agents = append(config.Agents, fmt.Sprintf("127.0.0.1:%d", port))
	}
	c := client.New(config)
	t.Cleanup(func() { c.Close() })
	return c
}

// A Redis is killed, and another one hangs, under go-redis as it is.
func TestClientRedis(t *testing.T) {
	t.Parallel()
	port := freePort(t, redisAddresses...)
	servers := startRedises(t, redisAddresses, port)
	m := startAgent(t, documents("redis-main", "protocol: tcp\nban: {duration: 30s}\ntimeouts: {normal: {read: 100ms}}", at(redisAddresses, port)...))
	mesh := newClient(t, m.agent)
	db := redis.NewClient(&redis.Options{Addr: "redis-main", Dialer: mesh.DialContext, PoolSize: 8, ReadTimeout: 300 * time.Millisecond})
	defer db.Close()
	ping := func() error { return db.Set(t.Context(), "key", "value", 0).Err() }

	victim := fmt.Sprintf("127.0.0.3:%d", port)
	m.survives(m.agent, "redis-main", victim, servers["127.0.0.3"], 8, 8, 200*time.Millisecond, ping)

	// One that takes connections and never answers: its connections break one after another, and new ones tell.
	hung := fmt.Sprintf("127.0.0.4:%d", port)
	servers["127.0.0.4"].signal(syscall.SIGSTOP)
	start := time.Now()
	eventually(t, 20*time.Second, func() error {
		one := redis.NewClient(&redis.Options{
			Addr: "redis-main", Dialer: mesh.DialContext, ReadTimeout: 100 * time.Millisecond, MaxRetries: -1, DisableIdentity: true,
		})
		defer one.Close()
		_ = one.Ping(t.Context()).Err()
		return m.bannedAt(m.agent, "redis-main", hung)
	})
	t.Logf("the hung Redis was banned after %s: %+v", time.Since(start).Round(time.Millisecond), mesh.Stats())
	servers["127.0.0.4"].signal(syscall.SIGCONT)
}

// The local agent is killed under load: its backup is asked at once, and the local one again when it lives.
func TestClientBackup(t *testing.T) {
	t.Parallel()
	one := newBackend(t, "one")
	port := freePort(t, redisAddresses[0])
	startRedis(t, redisAddresses[0], port)
	local := startAgent(t, service("shop", "protocol: http", one)+"---\n"+
		documents("redis-main", "protocol: tcp", fmt.Sprintf("%s:%d", redisAddresses[0], port)))
	backup := newMesh(t)
	backup.etcd = local.etcd
	backup.startCaddy(externalEtcd)
	backup.untilAt(backup.agent, local.revision())

	mesh := newClient(t, local.agent, backup.agent)
	web := http.Client{Transport: mesh, Timeout: 5 * time.Second}
	send := func(method string) error {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://shop/", io.MultiReader(strings.NewReader("x")))
		if err != nil {
			return err
		}
		if method == http.MethodGet {
			req.Body = nil
		}
		resp, err := web.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, x-ufc-error %q", resp.StatusCode, resp.Header.Get("X-Ufc-Error"))
		}
		return nil
	}
	dial := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		conn, err := mesh.DialContext(ctx, "tcp", "redis-main")
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, make([]byte, len("+PONG\r\n")))
		return err
	}
	var posts, slowest atomic.Int64
	var lost outcomes
	timed := func(request func() error) func() error {
		return func() error {
			start := time.Now()
			err := request()
			for took := int64(time.Since(start)); ; {
				if old := slowest.Load(); took <= old || slowest.CompareAndSwap(old, took) {
					return err
				}
			}
		}
	}
	gets := startLoad(t, 3, timed(func() error { return send(http.MethodGet) }))
	dials := startLoad(t, 2, timed(dial))
	posting := startLoad(t, 2, func() error { // those that were out when the agent died are lost: it isn't known what became of them
		posts.Add(1)
		if err := send(http.MethodPost); err != nil {
			lost.count(err)
		}
		return nil
	})
	time.Sleep(400 * time.Millisecond)
	local.caddy.signal(syscall.SIGKILL)
	local.caddy.wait(5 * time.Second)
	time.Sleep(800 * time.Millisecond)
	served := one.served.Load()
	local.startCaddy()
	local.untilMetric(`ufc_requests_total{callee="shop",caller="unknown",code="200",idc=""}`, 1)
	gets.stop("GET through the local agent's death")
	dials.stop("dials through the local agent's death")
	posting.stop("POST through the local agent's death")
	// Two are under way at a time. A process that is being killed may take a connection or two more before its sockets close.
	if len(lost.failures) > 6 {
		t.Errorf("%d POSTs were lost: %v", len(lost.failures), lost.failures[0].err)
	}
	// Nothing was sent twice but GETs that had got no answer.
	if sent := int64(gets.done) + posts.Load(); one.served.Load() > sent+3 {
		t.Errorf("the instance served %d requests of %d", one.served.Load(), sent)
	}
	if served == 0 || time.Duration(slowest.Load()) > 3*time.Second {
		t.Errorf("the slowest took %s", time.Duration(slowest.Load()))
	}
	t.Logf("%d GETs, %d dials, %d POSTs of which %d were lost; the slowest took %s; %+v",
		gets.done, dials.done, posts.Load(), len(lost.failures), time.Duration(slowest.Load()).Round(time.Millisecond), mesh.Stats())
}
