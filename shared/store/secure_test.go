package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ufc-mesh/ufc/shared/model"
)

// logText is a log that tests read.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// enableUsers makes etcd ask for users: root, and one who may do all below a prefix.
func enableUsers(t *testing.T, client *clientv3.Client, prefix, user, password string) {
	t.Helper()
	ctx := testContext(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.UserAdd(ctx, "root", "geheim-root"))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.RoleAdd(ctx, "mesh"))
	must(client.RoleGrantPermission(ctx, "mesh", prefix+"/", prefix+"0", clientv3.PermissionType(clientv3.PermReadWrite)))
	must(client.UserAdd(ctx, user, password))
	must(client.UserGrantRole(ctx, user, "mesh"))
	must(client.AuthEnable(ctx))
}

func TestUsers(t *testing.T) {
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	w.putService("shop")
	enableUsers(t, w.client, DefaultPrefix, "agent", "geheim-1")

	var log logText
	cfg := configOf(e, DefaultPrefix)
	cfg.Logger = log.logger()
	refused := func(user, password, prefix, want string) {
		t.Helper()
		cfg := cfg
		cfg.Username, cfg.Password, cfg.Prefix = user, password, prefix
		f, sink := follow(t, cfg)
		eventually(t, "a refusal", 10*time.Second, func() bool { return strings.Contains(f.Status().LastError, want) })
		if sink.replaced != 0 || f.Status().Synced {
			t.Errorf("user %q: got in", user)
		}
		f.Close()
	}
	refused("agent", "geheim-2", DefaultPrefix, "authentication failed")
	refused("nobody", "geheim-2", DefaultPrefix, "authentication failed")
	refused("", "", DefaultPrefix, "user name is empty")
	refused("agent", "geheim-1", "/elsewhere", "permission denied")

	cfg.Username, cfg.Password = "agent", "geheim-1"
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	client := openClient(t, cfg)
	apply(t, client, documents(t, serviceJSON("bag")))
	sink.await("the change", 10*time.Second, func() bool { return len(sink.state) == 2 })
	f.Close()

	wrong := cfg
	wrong.Password = "geheim-2"
	if _, err := NewClient(wrong); err == nil || !strings.Contains(err.Error(), "authentication failed") ||
		!strings.Contains(err.Error(), cfg.Endpoints[0]) {
		t.Errorf("wrong password: error %v", err)
	}
	if strings.Contains(log.String(), "geheim") {
		t.Errorf("the log shows a password:\n%s", log.String())
	}
	if !strings.Contains(log.String(), "authentication failed") {
		t.Errorf("the log doesn't say what is wrong:\n%s", log.String())
	}
}

// The user may be made, or the password changed, after the agent was started.
func TestUserMadeLater(t *testing.T) {
	e := startEtcd(t)
	w := newWriter(t, e, DefaultPrefix)
	enableUsers(t, w.client, DefaultPrefix, "agent", "geheim-1")
	root := configOf(e, DefaultPrefix)
	root.Username, root.Password = "root", "geheim-root"

	cfg := root
	cfg.Username, cfg.Password = "late", "geheim-late"
	f, sink := follow(t, cfg)
	eventually(t, "a refusal", 10*time.Second, func() bool { return f.Status().LastError != "" })
	admin := openClient(t, root).link
	if _, err := admin.UserAdd(testContext(t), "late", "geheim-late"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UserGrantRole(testContext(t), "late", "mesh"); err != nil {
		t.Fatal(err)
	}
	sink.awaitReplace(1)
	f.Close()
}

// A flood of the same failure is one line.
func TestFailuresAreLoggedSeldom(t *testing.T) {
	var log logText
	c := complaints{logger: log.logger(), trouble: "trouble", relief: "relief"}
	for range 1000 {
		c.about(errSilent)
		c.about(errBehind)
	}
	c.over()
	c.over()
	c.about(errBehind)
	if got := strings.Count(log.String(), "\n"); got != 3 {
		t.Errorf("%d lines, want one for the failures, one that it is over, and one of the new failure:\n%s", got, log.String())
	}
}

// authority signs certificates for a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// sign writes NAME.pem and NAME.key.
func (a *authority) sign(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(crand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(name+".pem", "CERTIFICATE", der)
	write(name+".key", "EC PRIVATE KEY", secret)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// startSecure starts an etcd that wants client certificates, and returns a configuration that it accepts.
func startSecure(t *testing.T, a *authority) Config {
	t.Helper()
	a.sign(t, "server", serverCertificate())
	a.sign(t, "client", clientCertificate())
	e := newEtcd(t.TempDir(), "https")
	e.change = func(cfg *embed.Config) {
		cfg.ClientTLSInfo = transport.TLSInfo{
			CertFile: a.file("server.pem"), KeyFile: a.file("server.key"), TrustedCAFile: a.file("ca.pem"), ClientCertAuth: true,
		}
	}
	e.start(t)
	t.Cleanup(e.close)
	cfg := configOf(e, DefaultPrefix)
	cfg.CA, cfg.Cert, cfg.Key = a.file("ca.pem"), a.file("client.pem"), a.file("client.key")
	return cfg
}

func serverCertificate() *x509.Certificate {
	return &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func clientCertificate() *x509.Certificate {
	return &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cfg := startSecure(t, a)
	apply(t, openClient(t, cfg), documents(t, serviceJSON("shop")))
	f, sink := follow(t, cfg)
	sink.awaitReplace(1)
	sink.has("Service/shop")
	f.Close()

	refused := func(name, want string, change func(*Config)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg
			change(&cfg)
			f, sink := follow(t, cfg, quick)
			eventually(t, "an error with "+want, 15*time.Second, func() bool { return strings.Contains(f.Status().LastError, want) })
			if sink.replaced != 0 {
				t.Error("got in")
			}
			client, err := newClient(cfg, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			_, err = client.Get(t.Context(), model.KindService, "")
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the client's error %v, want one with %q", err, want)
			}
		})
	}
	// The server refuses after the handshake; the client may see its word for that, or only a broken pipe.
	refused("no certificate", cfg.Endpoints[0], func(cfg *Config) { cfg.Cert, cfg.Key = "", "" })
	refused("unknown authority", "certificate signed by unknown authority", func(cfg *Config) { cfg.CA = "" })

	t.Run("renewed certificate", func(t *testing.T) {
		t.Parallel()
		stranger := newAuthority(t)
		stranger.sign(t, "client", clientCertificate())
		cfg := cfg
		cfg.Cert, cfg.Key = stranger.file("client.pem"), stranger.file("client.key")
		f, sink := follow(t, cfg, quick)
		eventually(t, "a refusal", 15*time.Second, func() bool { return f.Status().LastError != "" })
		for _, name := range []string{"client.pem", "client.key"} {
			data, err := os.ReadFile(a.file(name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(stranger.file(name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sink.awaitReplace(1)
	})
}
