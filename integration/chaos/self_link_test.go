package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echoes starts a server that says everything back, and a link to it.
func echoes(t *testing.T, sniffs bool) *link {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t, "127.0.0.1"))
	return openLink(t, &link{address: address, target: listener.Addr().String(), sniffs: sniffs})
}

// say sends a text over a connection and waits for its echo.
func say(conn net.Conn, text string, patience time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	buffer := make([]byte, len(text))
	_, err := io.ReadFull(conn, buffer)
	if err == nil && string(buffer) != text {
		err = fmt.Errorf("%q came back", buffer)
	}
	return err
}

func TestLink(t *testing.T) {
	l := echoes(t, false)
	conn, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := say(conn, "open", time.Second); err != nil {
		t.Fatal(err)
	}

	l.set(silent)
	if err := say(conn, "lost?", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("over a silent link: %v", err)
	}
	if late, err := net.DialTimeout("tcp", l.address, 100*time.Millisecond); err == nil {
		late.Close()
		t.Error("a silent link takes a new connection")
	}
	l.set(open)
	if err := say(conn, "", time.Second); err != nil {
		t.Error(err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	late := make([]byte, len("lost?"))
	if _, err := io.ReadFull(conn, late); err != nil || string(late) != "lost?" {
		t.Errorf("what was said over a silent link comes as %q, %v", late, err)
	}

	l.set(refusing)
	if err := say(conn, "gone", time.Second); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("over a refusing link: %v", err)
	}
	if err := dial(l.address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("to a refusing link: %v", err)
	}
	l.set(open)
	again, err := net.Dial("tcp", l.address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := say(again, "back", time.Second); err != nil {
		t.Error(err)
	}
}

// Of two etcd members that speak over a link, one is cut off.
func TestLinkCutsOffOne(t *testing.T) {
	l := echoes(t, true)
	hello := func(id string) (net.Conn, error) {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, say(conn, "GET /raft HTTP/1.1\r\nX-Server-From: "+id+"\r\n\r\n", time.Second)
	}
	one, err := hello("1a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := hello("2b")
	if err != nil {
		t.Fatal(err)
	}
	l.cut("1a")
	if err := say(one, "from one", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the member that is cut off: %v", err)
	}
	if err := say(two, "from two", time.Second); err != nil {
		t.Errorf("the other: %v", err)
	}
	l.cut("")
	if err := say(one, "", time.Second); err != nil {
		t.Error(err)
	}
}
