package store

import (
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
)

// startProxy starts etcd's own gRPC proxy in front of an etcd, and returns its endpoint and its log.
func startProxy(t *testing.T, e *etcd) (string, *observer.ObservedLogs) {
	t.Helper()
	core, log := observer.New(zap.ErrorLevel)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{e.endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	keys, keysDone := grpcproxy.NewKvProxy(client)
	watches, watchesDone := grpcproxy.NewWatchProxy(client.Ctx(), zap.New(core), client)
	leases, leasesDone := grpcproxy.NewLeaseProxy(client.Ctx(), client)
	server := grpc.NewServer()
	pb.RegisterKVServer(server, keys)
	pb.RegisterWatchServer(server, watches)
	pb.RegisterLeaseServer(server, leases)
	pb.RegisterAuthServer(server, grpcproxy.NewAuthProxy(client))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
		client.Close()
		<-keysDone
		<-watchesDone
		<-leasesDone
	})
	return "http://" + listener.Addr().String(), log
}

// Etcd's gRPC proxy passes no requests for a sign of life on. Behind it an idle mesh is heard nevertheless, nobody moves on
// to another endpoint, and the proxy's log isn't filled.
func TestProxy(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	endpoint, errors := startProxy(t, e)
	cfg := configOf(e, DefaultPrefix)
	cfg.Endpoints, cfg.pilot = append([]string{endpoint}, cfg.Endpoints...), agile
	var log logText
	cfg.Logger = log.logger()
	w := newWriter(t, e, DefaultPrefix)
	w.putService("shop")
	f, sink := follow(t, cfg, quick, func(f *Follower) { f.timing.deafness, f.timing.call = 2*time.Second, 10*time.Second })
	sink.awaitReplace(1)
	board, err := NewBoard(f, "host", "agent", (&boardRig{t: t, bans: map[string]string{}}).took)
	if err != nil {
		t.Fatal(err)
	}
	board.timing.silence = f.timing.silence
	board.Start()
	defer board.Close()
	neighbour := newBoard(t, cfg, "host", "neighbour", func(b *Board) { b.timing.silence = f.timing.silence })
	for round := range 5 {
		for began, confirms := time.Now(), sink.confirmed(); time.Since(began) < 3*f.timing.silence || sink.confirmed() < confirms+3; {
			if status := f.Status(); status.Endpoint != endpoint || status.LastError != "" {
				t.Fatalf("%+v", status)
			}
			if time.Since(began) > 20*time.Second {
				t.Fatal("etcd isn't heard")
			}
			time.Sleep(20 * time.Millisecond)
		}
		sink.awaitRevision(w.putService("bag"))
		board.Publish("shop", instance(round), banned("x"))
		neighbour.has(round + 1)
		if status := board.Status(); status.ReadError != "" || status.WriteError != "" {
			t.Errorf("%+v", status)
		}
	}
	if sink.replaced != 1 || strings.Contains(log.String(), "isn't heard") {
		t.Errorf("%d lists, want only the first:\n%s", sink.replaced, log.String())
	}
	if lines := errors.FilterMessageSnippet("not supported").Len(); lines > 20 {
		t.Errorf("%d lines in the proxy's log", lines)
	}
}
