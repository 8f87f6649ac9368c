package forward

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// authority issues certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serial atomic.Int64

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	template := a.template()
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert, a.key = template, a.newKey()
	der := a.sign(template, a.key)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) template() *x509.Certificate {
	number := serial.Add(1)
	return &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: fmt.Sprint("secret-name-", number)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// issue returns the PEM texts of a certificate, for instances and clients, and of its key.
func (a *authority) issue(change func(*x509.Certificate)) (cert, key []byte) {
	template := a.template()
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames, template.IPAddresses = []string{"shop.test"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	if change != nil {
		change(template)
	}
	own := a.newKey()
	der, err := x509.MarshalECPrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pemText("CERTIFICATE", a.sign(template, own)), pemText("EC PRIVATE KEY", der)
}

func (a *authority) pem() []byte { return pemText("CERTIFICATE", a.cert.Raw) }

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server returns the TLS configuration of an instance that the authority vouches for.
func (a *authority) server(change func(*x509.Certificate)) *tls.Config {
	pair, err := tls.X509KeyPair(a.issue(change))
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}

func pemText(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// tlsBackend starts an instance that speaks HTTP/1.1 over TLS, and HTTP/2 if its configuration says so in NextProtos.
func tlsBackend(t testing.TB, config *tls.Config, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.EnableHTTP2 = len(config.NextProtos) > 0
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// files writes texts into files of the names, in a new folder.
type files string

func newFiles(t testing.TB) files { return files(t.TempDir()) }

// write replaces a file as its name's text, at once.
func (f files) write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(string(f), name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// get sends a request for the status of the answer.
func get(ctx context.Context, w wire, address string) (int, error) {
	req, err := http.NewRequest("GET", "http://"+address+"/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := w.RoundTrip(&exchange{ctx: ctx, request: req, limits: limits{connect: patience, read: patience}})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func hello(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }

func TestTLSVerification(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	folder := newFiles(t)
	ca := folder.write(t, "ca.pem", ours.pem())
	strangers := folder.write(t, "strangers.pem", theirs.pem())
	writePair := func(name string, cert, key []byte) model.TLS {
		return model.TLS{CA: ca, Cert: folder.write(t, name+".pem", cert), Key: folder.write(t, name+".key", key)}
	}
	cert, key := ours.issue(nil)
	known := writePair("known", cert, key)
	cert, key = theirs.issue(nil)
	unknown := writePair("unknown", cert, key)

	f := func(name string, server *tls.Config, settings model.TLS, host, want string) {
		t.Helper()
		for _, protocols := range [][]string{nil, {"h2", "http/1.1"}} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				t.Run(fmt.Sprint(name, protocols, tls.VersionName(version)), func(t *testing.T) {
					config := server.Clone()
					config.NextProtos, config.MaxVersion = protocols, version
					address := tlsBackend(t, config, hello)
					w, err := newTLS(model.DefaultService("shop").Connections, settings, host, quiet)
					if err != nil {
						t.Fatal(err)
					}
					defer w.CloseIdle()
					_, err = get(t.Context(), w, address)
					if want == "" && err != nil {
						t.Fatal(err)
					}
					if want != "" {
						rejected(t, err, want)
					}
				})
			}
		}
	}
	trusted := model.TLS{CA: ca}
	f("by name", ours.server(nil), trusted, "shop.test", "")
	f("by name and port", ours.server(nil), trusted, "shop.test:443", "")
	f("by address", ours.server(nil), trusted, "", "")
	f("strange authority", ours.server(nil), model.TLS{CA: strangers}, "shop.test", "the instance's certificate is not valid")
	f("the system's authorities", ours.server(nil), model.TLS{}, "shop.test", "the instance's certificate is not valid")
	f("another name", ours.server(nil), trusted, "web.test", "the instance's certificate is not valid")
	f("another address", ours.server(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }), trusted, "",
		"the instance's certificate is not valid")
	expired := ours.server(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	f("expired", expired, trusted, "shop.test", "the instance's certificate is not valid")
	f("not verified", expired, model.TLS{SkipVerify: true}, "web.test", "")

	mutual := ours.server(nil)
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ours.pool()
	f("client certificate", mutual, known, "shop.test", "")
	f("no client certificate", mutual, trusted, "shop.test", "the instance did not take the agent's certificate")
	f("strange client certificate", mutual, unknown, "shop.test", "the instance did not take the agent's certificate")
}

// rejected expects a failure of connecting, and that what callers are told of it has no names.
func rejected(t *testing.T, err error, want string) {
	t.Helper()
	failed, ok := err.(*failure)
	if !ok || failed.stage != model.WhenConnect || failed.result != health.ConnectError {
		t.Fatalf("got %T %v, want a failure to connect", err, err)
	}
	if got := plainTLS(failed); got != want {
		t.Errorf("callers are told %q, want %q, of %v", got, want, failed)
	}
}

func TestInstanceWithoutTLS(t *testing.T) {
	w, err := newTLS(model.DefaultService("shop").Connections, model.TLS{SkipVerify: true}, "", quiet)
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(t.Context(), w, backend(t, hello))
	rejected(t, err, "the instance doesn't speak TLS")
	address := tlsBackend(t, &tls.Config{Certificates: newAuthority(t).server(nil).Certificates, MaxVersion: tls.VersionTLS10,
		MinVersion: tls.VersionTLS10}, hello)
	_, err = get(t.Context(), w, address)
	rejected(t, err, "the TLS handshake failed")
	if plainTLS(io.EOF) != "" {
		t.Error("an end of data is no matter of TLS")
	}
}

func TestTLSFilesThatAreNoGood(t *testing.T) {
	a, folder := newAuthority(t), newFiles(t)
	cert, key := a.issue(nil)
	_, otherKey := a.issue(nil)
	good := model.TLS{CA: folder.write(t, "ca.pem", a.pem()), Cert: folder.write(t, "c.pem", cert), Key: folder.write(t, "k.pem", key)}
	f := func(change func(*model.TLS), names ...string) {
		t.Helper()
		settings := good
		change(&settings)
		_, err := newTLS(model.Connections{}, settings, "", quiet)
		for _, name := range names {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v, want an error with %q", err, name)
			}
		}
	}
	f(func(s *model.TLS) { s.CA = "/nowhere/ca.pem" }, "tls.ca", "/nowhere/ca.pem")
	f(func(s *model.TLS) { s.CA = s.Key }, "tls.ca", good.Key)
	f(func(s *model.TLS) { s.Cert = "/nowhere/c.pem" }, "tls.cert", "/nowhere/c.pem")
	f(func(s *model.TLS) { s.Key = "/nowhere/k.pem" }, "tls.key", "/nowhere/k.pem")
	f(func(s *model.TLS) { s.Key = folder.write(t, "other.pem", otherKey) }, good.Cert, "other.pem")
	if _, err := newTLS(model.Connections{}, good, "", quiet); err != nil {
		t.Error(err)
	}
}

// logged counts what is logged.
type logged struct {
	slog.Handler
	failures, changes atomic.Int32
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, record slog.Record) error {
	if record.Level >= slog.LevelError {
		l.failures.Add(1)
	} else {
		l.changes.Add(1)
	}
	return nil
}

func TestTLSFilesThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newAuthority(t), newAuthority(t)
		folder := newFiles(t)
		settings := model.TLS{CA: folder.write(t, "ca.pem", first.pem())}
		cert, key := first.issue(nil)
		settings.Cert, settings.Key = folder.write(t, "c.pem", cert), folder.write(t, "k.pem", key)
		log := &logged{}
		s, err := newSecure(settings, "", nil, slog.New(log))
		if err != nil {
			t.Fatal(err)
		}
		begin := s.client("[::1]:443")
		if begin.ServerName != "::1" {
			t.Errorf("the instance is to prove that it is %q", begin.ServerName)
		}
		expect := func(what string, changed bool, failures, changes int32) {
			t.Helper()
			now := s.client("127.0.0.1:1")
			differs := !now.RootCAs.Equal(begin.RootCAs)
			if differs != changed || log.failures.Load() != failures || log.changes.Load() != changes {
				t.Errorf("%s: changed is %v, %d failures and %d changes are logged; want %v, %d, %d",
					what, differs, log.failures.Load(), log.changes.Load(), changed, failures, changes)
			}
		}
		folder.write(t, "ca.pem", []byte("rubbish"))
		expect("at once", false, 0, 0)
		for range 3 {
			time.Sleep(recheck)
			expect("rubbish", false, 1, 0)
		}
		os.Remove(settings.CA)
		for range 3 {
			time.Sleep(recheck)
			expect("gone", false, 2, 0)
		}
		folder.write(t, "ca.pem", second.pem())
		expect("too early", false, 2, 0)
		time.Sleep(recheck)
		expect("replaced", true, 2, 1)
		cert, key = second.issue(nil)
		folder.write(t, "c.pem", cert)
		time.Sleep(recheck)
		expect("half a pair", true, 3, 1)
		folder.write(t, "k.pem", key)
		time.Sleep(recheck)
		expect("the other half", true, 3, 2)
		time.Sleep(recheck)
		expect("no change", true, 3, 2)
	})
}

// TestRotationUnderLoad replaces all certificates while requests are sent: first both authorities are trusted, as a rotation
// does it, then the instances' and the agent's certificates change.
func TestRotationUnderLoad(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	folder := newFiles(t)
	settings := model.TLS{CA: folder.write(t, "ca.pem", first.pem())}
	cert, key := first.issue(nil)
	settings.Cert, settings.Key = folder.write(t, "c.pem", cert), folder.write(t, "k.pem", key)

	var current atomic.Pointer[tls.Config]
	current.Store(first.server(nil))
	var used sync.Map // serial numbers of the agent's certificates
	both := first.pool()
	both.AddCert(second.cert)
	address := tlsBackend(t, &tls.Config{
		NextProtos: []string{"h2"}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: both,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &current.Load().Certificates[0], nil },
	}, func(w http.ResponseWriter, r *http.Request) {
		used.Store(r.TLS.PeerCertificates[0].Issuer.CommonName, true)
	})
	policy := model.DefaultService("shop").Connections
	policy.KeepAlive = false // so that each request makes a connection
	w, err := newTLS(policy, settings, "shop.test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	var running sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, err := get(t.Context(), w, address); err != nil || status != 200 {
					t.Error(status, err)
				}
				requests.Add(1)
			}
		})
	}
	step := func(what func()) {
		what()
		w.secure.mu.Lock()
		w.secure.checked = time.Time{} // as if the time had passed
		w.secure.mu.Unlock()
		for done := requests.Load() + 40; requests.Load() < done && !t.Failed(); time.Sleep(time.Millisecond) {
		}
	}
	step(func() { folder.write(t, "ca.pem", append(first.pem(), second.pem()...)) })
	step(func() { current.Store(second.server(nil)) })
	cert, key = second.issue(nil)
	step(func() { folder.write(t, "c.pem", cert) })
	step(func() { folder.write(t, "k.pem", key) })
	step(func() { folder.write(t, "ca.pem", second.pem()) })
	close(stop)
	running.Wait()
	for _, a := range []*authority{first, second} {
		if _, ok := used.Load(a.cert.Subject.CommonName); !ok {
			t.Errorf("no request came with a certificate of %s", a.cert.Subject.CommonName)
		}
	}
}
