package caddyufc_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// open listens on an address of the network ufc.
func open(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := tryOpen(t, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func tryOpen(t *testing.T, address string) (net.Listener, error) {
	t.Helper()
	parsed, err := caddy.ParseNetworkAddress("ufc/" + address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := parsed.Listen(t.Context(), 0, net.ListenConfig{})
	if err != nil {
		return nil, err
	}
	return listener.(net.Listener), nil
}

// accepts tells whether a connection that is made now comes to a listener.
func accepts(t *testing.T, address string, listener net.Listener) {
	t.Helper()
	client, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, "hello"); err != nil { // connections of silent clients are held back
		t.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.RemoteAddr().String() != client.LocalAddr().String() {
		t.Errorf("the connection is another one: %s, not %s", conn.RemoteAddr(), client.LocalAddr())
	}
}

func TestNetwork(t *testing.T) {
	address := freeAddress(t)
	old := open(t, address)
	if old.Addr().String() != address {
		t.Errorf("address %s, not %s", old.Addr(), address)
	}
	accepts(t, address, old)

	// Connections come to the newest, and to the old one again if the new configuration fails.
	failing := open(t, address)
	accepts(t, address, failing)
	failing.Close()
	accepts(t, address, old)

	waiting := make(chan error)
	go func() {
		_, err := old.Accept()
		waiting <- err
	}()
	current := open(t, address)
	old.Close()
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of a closed listener: %v", err)
	}
	if err := old.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
	accepts(t, address, current)

	current.Close()
	taken, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the last Close leaves the socket open: %v", err)
	}
	defer taken.Close()
	if _, err := tryOpen(t, address); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("an address in use: %v", err)
	}
	taken.Close()
	accepts(t, address, open(t, address))
}
