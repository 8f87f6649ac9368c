package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/miekg/dns"
)

// face is one of the two binaries.
type face interface {
	name() string
	// agent starts an agent that follows what is below a prefix. It answers, but may not have loaded it yet.
	agent(b *bench, prefix string) (*server, error)
	// calls is how many calls a second are made to measure the memory of an agent whose callees are all called.
	calls() int
	// client returns what asks an agent. It is for one goroutine.
	client(agent *server) (client, error)
}

// client asks an agent for a service, and tells whether it was sent to the second one of the probe's instances.
type client interface {
	ask(service string) (second bool, err error)
	io.Closer
}

func faceOf(name string) (face, error) {
	for _, f := range []face{through{}, bypass{}} {
		if f.name() == name {
			return f, nil
		}
	}
	return nil, fmt.Errorf("face %q is neither caddy nor coredns", name)
}

// snapshot returns the path of a snapshot file that doesn't exist yet.
func (b *bench) snapshot() string {
	b.names++
	return filepath.Join(b.dir, fmt.Sprintf("%d.snapshot", b.names))
}

// through is bin/caddy, asked by HTTP.
type through struct{}

func (through) name() string { return "caddy" }

// Each call may open a connection, to one of 200,000 addresses.
func (through) calls() int { return 25 }

func (f through) agent(b *bench, prefix string) (*server, error) {
	address, admin := free(), free()
	file, err := b.write("Caddyfile", fmt.Sprintf("{\n admin %s\n ufc {\n  etcd http://%s\n  prefix %s\n  idc idc-0\n  snapshot %s\n }\n}\n"+
		"http://:%s {\n bind 127.0.0.1\n ufc_bypass /bypass\n ufc\n}\n", admin, b.etcd.address, prefix, b.snapshot(), portOf(address)))
	if err != nil {
		return nil, err
	}
	s, err := b.start(f.name(), address, *caddyBinary, "run", "--config", file, "--adapter", "caddyfile")
	if s != nil {
		s.admin = admin
	}
	return s, err
}

func (through) client(agent *server) (client, error) {
	conn, err := net.Dial("tcp", agent.address)
	if err != nil {
		return nil, err
	}
	return &httpClient{conn, bufio.NewReader(conn), nil}, nil
}

type httpClient struct {
	net.Conn
	reader  *bufio.Reader
	request []byte
}

// errUnknown: the agent doesn't know the service yet.
var errUnknown = errors.New("unknown service")

func (c *httpClient) ask(service string) (second bool, err error) {
	c.request = fmt.Appendf(c.request[:0], "GET / HTTP/1.1\r\nHost: scale.test\r\nx-ufc-service-name: %s\r\n\r\n", service)
	if _, err := c.Write(c.request); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return false, err
	case resp.StatusCode == http.StatusOK:
		return string(body) == "1", nil
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusServiceUnavailable:
		return false, fmt.Errorf("%w: %s", errUnknown, resp.Status)
	}
	return false, fmt.Errorf("%s: %s", resp.Status, body)
}

// bypass is bin/coredns, asked by DNS.
type bypass struct{}

const zone = "scale.test."

func (bypass) name() string { return "coredns" }

func (bypass) calls() int { return 400 }

func (f bypass) agent(b *bench, prefix string) (*server, error) {
	address, callback := free(), free()
	file, err := b.write("Corefile", fmt.Sprintf("%s:%s {\n bind 127.0.0.1\n ufc {\n  etcd http://%s\n  prefix %s\n  idc idc-0\n"+
		"  snapshot %s\n  callback %s\n }\n}\n", zone, portOf(address), b.etcd.address, prefix, b.snapshot(), callback))
	if err != nil {
		return nil, err
	}
	return b.start(f.name(), address, *corednsBinary, "-quiet", "-conf", file)
}

func (bypass) client(agent *server) (client, error) {
	conn, err := net.Dial("udp", agent.address)
	if err != nil {
		return nil, err
	}
	return &dnsClient{conn, new(dns.Msg), make([]byte, 512)}, nil
}

type dnsClient struct {
	net.Conn
	message *dns.Msg
	buffer  []byte
}

func (c *dnsClient) ask(service string) (second bool, err error) {
	c.message.SetQuestion(service+"."+zone, dns.TypeA)
	question, err := c.message.PackBuffer(c.buffer)
	if err != nil {
		return false, err
	}
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return false, err
	}
	if _, err := c.Write(question); err != nil {
		return false, err
	}
	n, err := c.Read(c.buffer)
	if err != nil {
		return false, err
	}
	var answer dns.Msg
	if err := answer.Unpack(c.buffer[:n]); err != nil {
		return false, err
	}
	if answer.Rcode == dns.RcodeServerFailure || answer.Rcode == dns.RcodeNameError {
		return false, errUnknown
	}
	if len(answer.Answer) != 1 {
		return false, fmt.Errorf("%s: %s, %d answers", service, dns.RcodeToString[answer.Rcode], len(answer.Answer))
	}
	a, ok := answer.Answer[0].(*dns.A)
	return ok && a.A.Equal(net.IPv4(127, 0, 0, 3)), nil
}
