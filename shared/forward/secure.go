package forward

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// recheck is how often the files of a Service's tls are looked at, at most: when a connection is made. Certificates are
// replaced days before they expire, but after an incident a new authority should be in force soon.
const recheck = 10 * time.Second

// secure makes the TLS configuration of new connections to a Service's instances, of the files as they are now.
//
// Each connection gets a configuration that is complete and never changes, and the library verifies by it as it always
// does. Callbacks in one lasting configuration would do for the client's certificate, but for the authorities they mean to
// switch the library's verification off and write an own one. There is no session cache, so that every connection proves
// anew who it is.
type secure struct {
	settings   model.TLS
	serverName string // empty: the instance's address
	protocols  []string
	logger     *slog.Logger

	config atomic.Pointer[tls.Config]

	mu      sync.Mutex // held while looking at the files; nobody waits for it
	checked time.Time
	seen    []os.FileInfo // of the files, as they were last looked at. nil: one couldn't be
}

func newSecure(settings model.TLS, host string, protocols []string, logger *slog.Logger) (*secure, error) {
	s := &secure{
		settings: settings, serverName: withoutPort(host), protocols: protocols, logger: logger, checked: time.Now(),
	}
	s.seen, _ = s.look() // what can't be looked at can't be read either
	config, err := s.load()
	if err != nil {
		return nil, err
	}
	s.config.Store(config)
	return s, nil
}

// withoutPort returns the host of what may be a host and a port.
func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		return host[1 : n-1]
	}
	return host
}

// client returns the configuration of a connection to the address.
func (s *secure) client(address string) *tls.Config {
	s.refresh()
	config := s.config.Load().Clone()
	if config.ServerName == "" {
		config.ServerName = withoutPort(address)
	}
	return config
}

// refresh loads the files again if one has changed. A new file that is no good leaves all of them as they were, since a
// certificate and its key must fit; the next change may mend it.
func (s *secure) refresh() {
	if !s.mu.TryLock() {
		return // somebody else is about it
	}
	defer s.mu.Unlock()
	if time.Since(s.checked) < recheck {
		return
	}
	s.checked = time.Now()
	// Looked at before it is read: a file that changes in between differs again at the next look.
	seen, err := s.look()
	if sameFiles(seen, s.seen) {
		return
	}
	s.seen = seen
	var config *tls.Config
	if err == nil {
		config, err = s.load()
	}
	if err != nil {
		s.logger.Error("a changed file of tls is no good; the last good ones stay in force", "error", err)
		return
	}
	s.config.Store(config)
	s.logger.Info("files of tls have changed; new connections use the new ones",
		"ca", s.settings.CA, "cert", s.settings.Cert, "key", s.settings.Key)
}

// look tells the files' state. The error names one that can't be looked at.
func (s *secure) look() ([]os.FileInfo, error) {
	var seen []os.FileInfo
	for _, name := range []string{s.settings.CA, s.settings.Cert, s.settings.Key} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		seen = append(seen, info)
	}
	return seen, nil
}

func sameFiles(a, b []os.FileInfo) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// load reads the files. The error names the one that can't be read or parsed.
func (s *secure) load() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: s.serverName, NextProtos: s.protocols,
		InsecureSkipVerify: s.settings.SkipVerify,
	}
	if s.settings.CA != "" {
		text, err := os.ReadFile(s.settings.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca: %s: there is no certificate in PEM in it", s.settings.CA)
		}
	}
	if s.settings.Cert != "" {
		certificate, err := s.loadCertificate()
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

func (s *secure) loadCertificate() (tls.Certificate, error) {
	cert, err := os.ReadFile(s.settings.Cert)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls.cert: %w", err)
	}
	key, err := os.ReadFile(s.settings.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls.key: %w", err)
	}
	certificate, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("tls.cert %s, tls.key %s: %w", s.settings.Cert, s.settings.Key, err)
	}
	return certificate, nil
}

// certificateAlerts are what a TLS server says when it doesn't take the client's certificate (RFC 8446 §6.2).
var certificateAlerts = func() map[string]bool {
	alerts := map[string]bool{}
	for _, code := range []tls.AlertError{40, 42, 43, 44, 45, 46, 48, 49, 116} {
		alerts[code.Error()] = true
	}
	return alerts
}()

// isRejected tells whether an instance has refused the client's certificate. In TLS 1.3 that comes after the client's part of
// the handshake, when the request may be on its way already; the instance has read nothing of it.
func isRejected(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "remote error" && certificateAlerts[operation.Err.Error()]
}

// plainTLS says what went wrong with TLS, without names and addresses. Empty: nothing did.
func plainTLS(err error) string {
	var (
		verification *tls.CertificateVerificationError
		record       tls.RecordHeaderError
		alert        *net.OpError
	)
	switch {
	case errors.As(err, &verification):
		return "the instance's certificate is not valid"
	case errors.As(err, &record):
		return "the instance doesn't speak TLS"
	case isRejected(err):
		return "the instance did not take the agent's certificate"
	case errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"):
		return "the TLS handshake failed"
	default:
		return ""
	}
}
