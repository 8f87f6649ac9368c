package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
)

// tlsConfig reads the TLS files. nil: no TLS, or the system's defaults if the endpoints are https.
func tlsConfig(cfg *Config) (*tls.Config, error) {
	if cfg.CA == "" && cfg.Cert == "" {
		return nil, nil
	}
	secrets := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CA != "" {
		authorities, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("read the authorities that etcd is trusted by: %w", err)
		}
		secrets.RootCAs = x509.NewCertPool()
		if !secrets.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("read the authorities that etcd is trusted by: %q holds no PEM certificate", cfg.CA)
		}
	}
	if cfg.Cert == "" {
		return secrets, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("read etcd's client certificate %q and key %q: %w", cfg.Cert, cfg.Key, err)
	}
	secrets.Certificates = []tls.Certificate{pair}
	return secrets, nil
}

// renewed are gRPC's credentials by the TLS files as they are at each handshake. Package tls has a hook for a renewed
// certificate, but none for renewed authorities.
type renewed struct {
	cfg  *Config
	last *atomic.Pointer[tls.Config] // the last that could be read
}

func newRenewed(cfg *Config, secrets *tls.Config) renewed {
	r := renewed{cfg, &atomic.Pointer[tls.Config]{}}
	r.last.Store(secrets)
	return r
}

// ClientHandshake goes by the last files that could be read: half of a file, or a certificate whose key is yet to come, is
// no reason to be without etcd.
func (r renewed) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secrets, unread := tlsConfig(r.cfg)
	if unread == nil {
		r.last.Store(secrets)
	}
	secured, info, err := credentials.NewTLS(r.last.Load()).ClientHandshake(ctx, authority, conn)
	if err != nil && unread != nil {
		err = fmt.Errorf("%w; %w", err, unread)
	}
	return secured, info, err
}

// Info implements credentials.TransportCredentials.
func (r renewed) Info() credentials.ProtocolInfo { return credentials.NewTLS(r.last.Load()).Info() }

// Clone implements credentials.TransportCredentials.
func (r renewed) Clone() credentials.TransportCredentials { return r }

// ServerHandshake implements credentials.TransportCredentials.
func (renewed) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("this is a client")
}

// OverrideServerName implements credentials.TransportCredentials. Nobody calls it.
func (renewed) OverrideServerName(string) error { return errors.New("the endpoint names the server") }
