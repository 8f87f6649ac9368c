package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// serve starts a server for instances that a test writes itself, and returns its address.
func serve(t testing.TB, server *http.Server) string {
	t.Helper()
	listener := listen(t)
	server.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests are about
	t.Cleanup(func() { server.Close() })
	if server.TLSConfig != nil {
		go server.ServeTLS(listener, "", "")
	} else {
		go server.Serve(listener)
	}
	return listener.Addr().String()
}

// speaks returns the protocols of a server or a client.
func speaks(set ...func(*http.Protocols, bool)) *http.Protocols {
	var p http.Protocols
	for _, one := range set {
		one(&p, true)
	}
	return &p
}

// reflect answers with the request's body, its protocol, the client certificate's name, and a trailer.
func reflect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("Got-Host", r.Host)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		w.Header().Set("X-Peer", r.TLS.PeerCertificates[0].Subject.CommonName)
	}
	w.Header().Set("Trailer", "X-Length")
	n, _ := io.Copy(w, r.Body)
	w.Header().Set("X-Length", fmt.Sprint(n))
}

// Every protocol that programs speak with the agent meets every protocol that instances speak.
func TestProtocols(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "mesh")
	cert, key := ca.issue("agent", nil)
	loopback := net.IPv4(127, 0, 0, 1)
	over := fmt.Sprintf("protocol: https\ntls: {ca: %q, cert: %q, key: %q}", ca.file, cert, key)
	start := func(config *tls.Config, protocols *http.Protocols) string {
		return serve(t, &http.Server{Handler: http.HandlerFunc(reflect), TLSConfig: config, Protocols: protocols})
	}
	http1, http2, h2c := (*http.Protocols).SetHTTP1, (*http.Protocols).SetHTTP2, (*http.Protocols).SetUnencryptedHTTP2
	m := startAgent(t, strings.Join([]string{
		documents("plain", "protocol: http", start(nil, speaks(http1))),
		documents("prior", "protocol: h2c", start(nil, speaks(h2c))),
		documents("secure", over, start(ca.server(nil, loopback), speaks(http1, http2))),
		documents("secure-one", over, start(ca.server(nil, loopback), speaks(http1))),
		documents("named", over+"\nhost: shop.example.test", start(ca.server([]string{"shop.example.test"}), speaks(http1, http2))),
	}, "---\n"))

	body := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(body)
	for _, client := range []*http.Protocols{speaks(http1), speaks(h2c)} {
		transport := &http.Transport{Protocols: client, DisableCompression: true}
		defer transport.CloseIdleConnections()
		f := func(service, proto, peer, host string) {
			t.Helper()
			req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("http://127.0.0.1:%d/%s", m.agent, service), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = "www.example.test"
			req.Header.Set("X-Ufc-Service-Name", service)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s, client %v: %v", service, client, err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || crc32.ChecksumIEEE(got) != crc32.ChecksumIEEE(body) {
				t.Fatalf("%s, client %v: status %d, %d bytes of %d, %v", service, client, resp.StatusCode, len(got), len(body), err)
			}
			for header, want := range map[string]string{"X-Proto": proto, "X-Peer": peer, "Got-Host": host} {
				if got := resp.Header.Get(header); got != want {
					t.Errorf("%s, client %v: %s is %q, want %q", service, client, header, got, want)
				}
			}
			if got := resp.Trailer.Get("X-Length"); got != fmt.Sprint(len(body)) {
				t.Errorf("%s, client %v: the trailer says %q", service, client, got)
			}
		}
		f("plain", "HTTP/1.1", "", "www.example.test")
		f("prior", "HTTP/2.0", "", "www.example.test")
		f("secure", "HTTP/2.0", "agent", "www.example.test")
		f("secure-one", "HTTP/1.1", "agent", "www.example.test")
		f("named", "HTTP/2.0", "agent", "shop.example.test")
	}
}

// untrusted starts an instance that speaks TLS, and an agent with services that trust it, or that one of the two sides
// doesn't trust.
func untrusted(t *testing.T) (m *mesh, instance string) {
	t.Helper()
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.issue("agent", nil)
	foreign, foreignKey := theirs.issue("stranger", nil)
	instance = serve(t, &http.Server{
		Handler: http.HandlerFunc(reflect), TLSConfig: ours.server([]string{"shop.example.test"}, net.IPv4(127, 0, 0, 1)),
	})
	settings := func(ca, cert, key, more string) string {
		text := fmt.Sprintf("protocol: https\ntls: {ca: %q", ca)
		if cert != "" {
			text += fmt.Sprintf(", cert: %q, key: %q", cert, key)
		}
		return text + "}\n" + more
	}
	return startAgent(t, strings.Join([]string{
		documents("trusted", settings(ours.file, cert, key, ""), instance),
		documents("wrong-ca", settings(theirs.file, cert, key, ""), instance),
		documents("wrong-name", settings(ours.file, cert, key, "host: other.example.test"), instance),
		documents("no-certificate", settings(ours.file, "", "", ""), instance),
		documents("wrong-certificate", settings(ours.file, foreign, foreignKey, ""), instance),
		documents("no-tls", settings(ours.file, cert, key, ""), newBackend(t, "plain").address),
		documents("no-file", settings("/nowhere/ca.pem", cert, key, ""), instance),
	}, "---\n")), instance
}

// Who can't be trusted isn't talked to.
func TestUntrustedInstances(t *testing.T) {
	t.Parallel()
	m, address := untrusted(t)
	f := func(service string, status int, reasons ...string) {
		t.Helper()
		a := m.ask(service, "/")
		if a.status != status || !slices.Contains(reasons, a.header.Get("X-Ufc-Error")) || strings.Contains(a.body, address) {
			t.Errorf("%s: status %d, x-ufc-error %q, want %d, %q, and no address of an instance in %s",
				service, a.status, a.header.Get("X-Ufc-Error"), status, reasons, a.body)
		}
	}
	f("trusted", http.StatusOK, "")
	f("wrong-ca", http.StatusBadGateway, "connect")
	f("wrong-name", http.StatusBadGateway, "connect")
	f("no-tls", http.StatusBadGateway, "connect")
	f("no-file", http.StatusBadGateway, "protocol")
	// In TLS 1.3 an instance refuses the client's certificate after the handshake, when the request may be under way, and its
	// reset may overtake what it says.
	f("no-certificate", http.StatusBadGateway, "connect", "write", "read")
	f("wrong-certificate", http.StatusBadGateway, "connect", "write", "read")
}

// Who calls an instance that can't be trusted is told so.
func TestUntrustedInstancesAreExplained(t *testing.T) {
	t.Parallel()
	m, _ := untrusted(t)
	for service, want := range map[string]string{
		"wrong-ca": "certificate is not valid", "wrong-name": "certificate is not valid", "no-tls": "doesn't speak TLS",
	} {
		if a := m.ask(service, "/"); !strings.Contains(a.body, want) {
			t.Errorf("%s: want %q in %s", service, want, a.body)
		}
	}
}
