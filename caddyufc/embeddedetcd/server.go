package embeddedetcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ufc-mesh/ufc/caddyufc/internal/currentlog"
)

const (
	// readyTimeout bounds how long the start of Caddy waits for etcd. A laptop needs under a second, the replay of a
	// long log several.
	readyTimeout = 10 * time.Second
	// stopGrace is how long requests under way may take when the server stops. Watches never end by themselves: they
	// are cut off after it.
	stopGrace = 500 * time.Millisecond
	// quota is the largest database. 200,000 instances and an hour of their changes take about a tenth of it.
	quota = 1 << 30
	// history is how far back watches may resume. An agent that slept longer reads everything again.
	history = "1h"
)

// servers are those running in this process, by directory. Configurations share them, so that a reload keeps them.
var servers = caddy.NewUsagePool()

// running is one server.
type running struct {
	address netip.AddrPort
	etcd    *embed.Etcd
	level   zap.AtomicLevel // of etcd's log
	grpc    atomic.Pointer[grpc.Server]
	watched chan struct{} // closed when the watcher of etcd's errors has ended
}

// Open runs the server, or joins the one that an earlier configuration runs in the same directory. It returns when the
// server answers, at most after 10 s.
func (s *Server) Open() error {
	value, loaded, err := servers.LoadOrNew(s.Dir, func() (caddy.Destructor, error) { return start(s.Dir, s.address) })
	if err != nil {
		return fmt.Errorf("embedded etcd: %w", err)
	}
	if at := value.(*running).address; loaded && at != s.address {
		_, err := servers.Delete(s.Dir)
		return errors.Join(fmt.Errorf(
			"embedded etcd: directory %q is being served at %s; to serve it at %s, restart instead of reloading",
			s.Dir, at, s.address), err)
	}
	s.opened = true
	if !s.address.Addr().IsLoopback() {
		currentlog.Slog("ufc.etcd.embedded").Warn("the embedded etcd has neither users nor TLS, and listens for other machines: whoever "+
			"reaches it may change the mesh; bind it to 127.0.0.1, or let only those in who may", "address", s.address.String())
	}
	return nil
}

// Close gives up this configuration's share of the server; the last one ends it. Without an Open before it does nothing.
func (s *Server) Close() error {
	if !s.opened {
		return nil
	}
	s.opened = false
	_, err := servers.Delete(s.Dir)
	return err
}

func start(dir string, address netip.AddrPort) (*running, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if err := checkUnused(dir); err != nil {
		return nil, err
	}
	// What etcd finds worth a warning while it starts is how it is embedded; what goes wrong then comes back as an error.
	r := &running{address: address, level: zap.NewAtomicLevelAt(zap.ErrorLevel), watched: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()

	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() {
		etcd, err := boot(ctx, r.config(dir))
		done <- result{etcd, err}
	}()
	select {
	case booted := <-done:
		if errors.Is(booted.err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("address %s is taken; stop what listens there, or choose another address with"+
				" \"etcd embedded %s ADDRESS\"", address, dir)
		}
		if booted.err != nil {
			return nil, booted.err
		}
		r.etcd = booted.etcd
	case <-ctx.Done():
		go func() { // boot ends late, when whatever held it up lets go; nobody else would close what it opened
			if late := <-done; late.etcd != nil {
				late.etcd.Close()
			}
		}()
		return nil, fmt.Errorf("directory %q: not ready after %s", dir, readyTimeout)
	}
	r.level.SetLevel(zap.WarnLevel)
	go r.watch()
	return r, nil
}

// checkUnused finds out whether another process has the database open. etcd itself would wait for it for ever, and end
// the process over a file that isn't a database.
func checkUnused(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("directory %q is in use by another etcd; stop it, or choose another directory with"+
			" \"etcd embedded DIR\"", dir)
	}
	if err != nil {
		return fmt.Errorf("directory %q holds no usable etcd data: opening %q: %w", dir, path, err)
	}
	return db.Close()
}

// boot starts etcd and waits until it answers. It returns nothing open with an error.
func boot(ctx context.Context, config *embed.Config) (*embed.Etcd, error) {
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return nil, err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case <-etcd.Server.StopNotify():
		err = errors.New("it stopped while it started")
	case err = <-etcd.Err():
	case <-ctx.Done():
		err = ctx.Err()
	}
	etcd.Close()
	return nil, err
}

// config makes the configuration of a single member that nobody else can join: it has no listener for peers, and the
// peer address below is only a name that etcd insists on. The token makes the cluster's identity, so that a client can
// tell a new directory from the one that was here before. The HTTP gateway is off, and with it what any web page in a
// browser on the same machine could reach.
func (r *running) config(dir string) *embed.Config {
	client := url.URL{Scheme: "http", Host: r.address.String()}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}

	config := embed.NewConfig()
	config.Name = "ufc"
	config.Dir = dir
	config.InitialCluster = config.Name + "=" + peer.String()
	config.InitialClusterToken = rand.Text()
	config.ListenPeerUrls = nil
	config.AdvertisePeerUrls = []url.URL{peer}
	config.ListenClientUrls = []url.URL{client}
	config.AdvertiseClientUrls = []url.URL{client}
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = history
	config.QuotaBackendBytes = quota
	config.EnableGRPCGateway = false
	config.CORS = nil
	config.ServiceRegister = func(server *grpc.Server) { r.grpc.Store(server) }
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(r.logger())
	return config
}

// watch tells the log when a part of the server fails while it runs. Agents go on with what they know.
func (r *running) watch() {
	defer close(r.watched)
	for err := range r.etcd.Err() {
		r.logger().Error("embedded etcd failed", zap.Error(err))
	}
}

func (r *running) logger() *zap.Logger { return currentlog.Zap("ufc.etcd.embedded", r.level) }

// Destruct closes the server. etcd by itself would wait 7 s for watches to end, which they don't, and log every listener
// that is closed as an error.
func (r *running) Destruct() error {
	r.level.SetLevel(zap.DPanicLevel)
	if server := r.grpc.Load(); server != nil {
		cut := time.AfterFunc(stopGrace, server.Stop)
		defer cut.Stop()
	}
	r.etcd.Close()
	<-r.watched
	return nil
}

var _ caddy.Destructor = (*running)(nil)
