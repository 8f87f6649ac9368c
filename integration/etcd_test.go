package integration

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// The variables that turn this test program into an etcd server, which can be killed like one.
const (
	etcdFolder = "UFC_TEST_ETCD_FOLDER"
	etcdPort   = "UFC_TEST_ETCD_PORT"
	etcdCerts  = "UFC_TEST_ETCD_CERTS" // folder of server.pem, server.key and ca.pem; empty: no TLS
)

// serveEtcd runs etcd's server until SIGTERM.
func serveEtcd(folder, port string) int {
	cfg := embed.NewConfig()
	cfg.Dir = folder
	cfg.LogLevel = "warn"
	client := url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port)}
	if certs := os.Getenv(etcdCerts); certs != "" {
		client.Scheme = "https"
		cfg.ClientTLSInfo = transport.TLSInfo{
			CertFile: filepath.Join(certs, "server.pem"), KeyFile: filepath.Join(certs, "server.key"),
			TrustedCAFile: filepath.Join(certs, "ca.pem"), ClientCertAuth: true,
		}
	}
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:0"} // a single member: nobody dials it
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
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

// etcd is an external etcd on a port that it keeps, with data that outlive it.
type etcd struct {
	*process
	t      testing.TB
	folder string
	port   int
	certs  string // folder of its certificates; empty: no TLS
}

func newEtcd(t testing.TB) *etcd {
	return &etcd{t: t, folder: t.TempDir(), port: freePort(t)}
}

// start starts it, again perhaps, and waits until it listens.
func (e *etcd) start() {
	e.t.Helper()
	e.process = startProcess(e.t, "etcd", []string{
		etcdFolder + "=" + e.folder, etcdPort + "=" + strconv.Itoa(e.port), etcdCerts + "=" + e.certs,
	}, os.Args[0])
	eventually(e.t, 20*time.Second, func() error { return dial(e.port) })
}

func dial(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
