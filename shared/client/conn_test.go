package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// first runs a program's first exchange on a connection to a server, and compares what is reported of it.
func first(t *testing.T, server *host, program func(t *testing.T, conn net.Conn), want ...string) {
	t.Helper()
	bubble(t, []string{"10.0.0.1:1"}, func(t *testing.T, r *rig) {
		r.set("10.0.0.1:1", server)
		conn := r.dialed(t, "tcp-main")
		program(t, conn)
		conn.Close()
		r.reported(t, want...)
		time.Sleep(time.Minute)
		r.reported(t, want...) // once
	})
}

// silent takes connections and never says anything. deaf doesn't even read.
var (
	silent = &host{accept: func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }}
	deaf   = &host{accept: func(net.Conn) {}}
)

// endlessly is a body that never ends, at 10 bytes a second.
type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return copy(p, "x"), nil
}

// ending is a server that ends its connections after a while.
func ending(after time.Duration) *host {
	return &host{accept: func(conn net.Conn) {
		time.AfterFunc(after, func() { conn.Close() })
		_, _ = io.Copy(io.Discard, conn)
	}}
}

// breaking is a server whose connections fail with an error at the program's end.
type breaking struct {
	net.Conn
	err error
}

func (b breaking) Read([]byte) (int, error)  { return 0, &net.OpError{Op: "read", Err: b.err} }
func (b breaking) Write([]byte) (int, error) { return 0, &net.OpError{Op: "write", Err: b.err} }

func TestFirstExchange(t *testing.T) {
	ask := func(t *testing.T, conn net.Conn) {
		_, _ = conn.Write([]byte("ping"))
		_, _ = conn.Read(make([]byte, 10))
	}
	t.Run("the server speaks first", func(t *testing.T) {
		first(t, &host{accept: func(conn net.Conn) {
			time.Sleep(30 * time.Millisecond)
			_, _ = conn.Write([]byte("5.5.5-MariaDB"))
			conn.Close()
		}}, func(t *testing.T, conn net.Conn) {
			_, _ = conn.Read(make([]byte, 100))
		}, "ok/30")
	})
	t.Run("closed before an answer", func(t *testing.T) {
		first(t, &host{accept: func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 10))
			time.Sleep(5 * time.Millisecond)
			conn.Close()
		}}, ask, "read_error/5")
	})
	t.Run("no answer within the program's deadline", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Now().Add(1300 * time.Millisecond))
			ask(t, conn)
		}, "read_timeout/1300")
	})
	t.Run("no greeting within the program's deadline", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Now().Add(1300 * time.Millisecond))
			_, _ = conn.Read(make([]byte, 10))
		}, "read_timeout/1300")
	})
	t.Run("no answer within the program's deadline, which is shorter than the callee's", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			ask(t, conn)
		})
	})
	t.Run("the program looks again", func(t *testing.T) {
		first(t, echo(700*time.Millisecond), func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			ask(t, conn)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = conn.Read(make([]byte, 10))
		}, "ok/700")
	})
	t.Run("the program looks again until it is too late", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			_, _ = conn.Write([]byte("ping"))
			for range 5 {
				_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				_, _ = conn.Read(make([]byte, 10))
			}
		}, "read_timeout/1200")
	})
	t.Run("the program interrupts its Read", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(300*time.Millisecond, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			ask(t, conn)
		})
	})
	t.Run("the program interrupts its Read after the callee's time", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(1200*time.Millisecond, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
			ask(t, conn)
		}, "read_timeout/1200")
	})
	t.Run("closed during its Read", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(300*time.Millisecond, func() { conn.Close() })
			ask(t, conn)
		})
	})
	t.Run("closed during its Read after the callee's time", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(1500*time.Millisecond, func() { conn.Close() })
			ask(t, conn)
		}, "read_timeout/1500")
	})
	t.Run("closed by a pool that never used it", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(1500*time.Millisecond, func() { conn.Close() })
			_, _ = conn.Read(make([]byte, 10))
		})
	})
	t.Run("ended by the server, since it wasn't used", func(t *testing.T) {
		first(t, ending(2*time.Second), func(t *testing.T, conn net.Conn) {
			_, _ = conn.Read(make([]byte, 10))
		})
	})
	t.Run("ended by a server that was to speak first", func(t *testing.T) {
		first(t, ending(900*time.Millisecond), func(t *testing.T, conn net.Conn) {
			_, _ = conn.Read(make([]byte, 10))
		}, "read_error/900")
	})
	t.Run("ended by the server long after a request", func(t *testing.T) {
		first(t, ending(2*time.Second), ask, "read_error/2000")
	})
	t.Run("closed while it sends a body", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(4*time.Second, func() { conn.Close() })
			_, _ = conn.Write([]byte("PUT"))
			go func() { _, _ = io.Copy(conn, endlessly{}) }()
			_, _ = conn.Read(make([]byte, 10))
		})
	})
	t.Run("closed while it writes", func(t *testing.T) {
		first(t, &host{accept: func(conn net.Conn) { _, _ = conn.Read(make([]byte, 10)) }}, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(4*time.Second, func() { conn.Close() })
			_, _ = conn.Write([]byte("PUT"))
			time.AfterFunc(time.Second, func() { _, _ = conn.Write([]byte("what is not taken")) })
			_, _ = conn.Read(make([]byte, 10))
		})
	})
	t.Run("closed long after it has sent a body", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(6*time.Second, func() { conn.Close() })
			go func() { _, _ = io.Copy(conn, io.LimitReader(endlessly{}, 30)) }() // for 3 s
			_, _ = conn.Read(make([]byte, 10))
		}, "read_timeout/3000")
	})
	t.Run("closed without a Read", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.Sleep(10 * time.Second)
			_, _ = conn.Write([]byte("one way"))
		}, "ok/0")
	})
	t.Run("nothing is to come", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(time.Hour, func() { conn.Close() })
			_, _ = conn.Read(make([]byte, 10))
		}, "ok/0")
	})
	t.Run("no answer comes to a patient program", func(t *testing.T) {
		first(t, silent, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(time.Hour, func() { conn.Close() })
			ask(t, conn)
		})
	})
	t.Run("the program interrupts its Write", func(t *testing.T) {
		first(t, deaf, func(t *testing.T, conn net.Conn) {
			time.AfterFunc(300*time.Millisecond, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
			if _, err := conn.Write([]byte("ping")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	})
	t.Run("not taken within the program's deadline, while it waits for an answer", func(t *testing.T) {
		first(t, deaf, func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Now().Add(1300 * time.Millisecond))
			_ = conn.SetWriteDeadline(time.Now().Add(1400 * time.Millisecond))
			go func() { _, _ = conn.Read(make([]byte, 10)) }()
			_, _ = conn.Write([]byte("ping"))
		}, "write_timeout/1400")
	})
	t.Run("not taken within the program's deadline, after it has interrupted its Read", func(t *testing.T) {
		first(t, deaf, func(t *testing.T, conn net.Conn) {
			_ = conn.SetReadDeadline(time.Unix(1, 0))
			_ = conn.SetWriteDeadline(time.Now().Add(1400 * time.Millisecond))
			_, _ = conn.Write([]byte("ping"))
		}, "write_timeout/1400")
	})
	t.Run("not taken within the program's deadline, which is shorter than the callee's", func(t *testing.T) {
		first(t, deaf, func(t *testing.T, conn net.Conn) {
			_ = conn.SetDeadline(time.Now().Add(400 * time.Millisecond))
			_, _ = conn.Write([]byte("ping"))
		})
	})
	t.Run("not taken within the program's deadline", func(t *testing.T) {
		first(t, deaf, func(t *testing.T, conn net.Conn) {
			_ = conn.SetDeadline(time.Now().Add(1400 * time.Millisecond))
			if _, err := conn.Write([]byte("ping")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}, "write_timeout/1400")
	})
}

// TestPatience: a program's own time limit is one of the callee's, too, if it is as long, or of a second.
func TestPatience(t *testing.T) {
	f := func(callee int, limit time.Duration, read bool, want ...string) {
		t.Helper()
		bubble(t, []string{"10.0.0.1:1"}, func(t *testing.T, r *rig) {
			r.local.limits = callee
			r.set("10.0.0.1:1", map[bool]*host{true: silent, false: deaf}[read])
			conn := r.dialed(t, "tcp-main")
			_ = conn.SetDeadline(time.Now().Add(limit))
			_, err := conn.Write([]byte("ping"))
			if read {
				_, err = conn.Read(make([]byte, 10))
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			conn.Close()
			r.reported(t, want...)
		})
	}
	f(5000, 50*time.Millisecond, true)
	f(5000, 50*time.Millisecond, false)
	f(5000, 3*time.Second, true, "read_timeout/3000")
	f(5000, 3*time.Second, false, "write_timeout/3000")
	f(40, 50*time.Millisecond, true, "read_timeout/50")
	f(40, 50*time.Millisecond, false, "write_timeout/50")
	f(0, 50*time.Millisecond, true, "read_timeout/50")
}

func TestBrokenConnections(t *testing.T) {
	f := func(err error, write bool, want string) {
		t.Helper()
		bubble(t, []string{"10.0.0.1:1"}, func(t *testing.T, r *rig) {
			near, far := net.Pipe()
			defer far.Close()
			r.client.dial = func(context.Context, string, string) (net.Conn, error) { return breaking{near, err}, nil }
			conn := r.dialed(t, "tcp-main")
			if write {
				_, _ = conn.Write([]byte("ping"))
			} else {
				_, _ = conn.Read(make([]byte, 1))
			}
			conn.Close()
			r.reported(t, want)
		})
	}
	f(syscall.ECONNRESET, false, "reset/0")
	f(syscall.ECONNRESET, true, "reset/0")
	f(syscall.EPIPE, true, "reset/0")
	f(syscall.EHOSTUNREACH, true, "write_error/0")
	f(syscall.EHOSTUNREACH, false, "read_error/0")
}

// TestCopies: io.Copy takes the ways around Read and Write.
func TestCopies(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	first(t, &host{accept: func(conn net.Conn) {
		defer conn.Close()
		_, _ = io.CopyN(io.Discard, conn, int64(len(large)))
		time.Sleep(7 * time.Millisecond)
		_, _ = conn.Write(large)
	}}, func(t *testing.T, conn net.Conn) {
		if n, err := io.Copy(conn, bytes.NewReader(large)); n != int64(len(large)) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		var got bytes.Buffer
		if n, err := io.Copy(&got, conn); n != int64(len(large)) || err != nil || !bytes.Equal(got.Bytes(), large) {
			t.Errorf("%d, %v", n, err)
		}
	}, "ok/7")
	first(t, &host{accept: func(conn net.Conn) { conn.Close() }}, func(t *testing.T, conn net.Conn) {
		if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}, "read_error/0")
}

// TestSyscallConn: clients look through it whether an idle connection is alive, by a real socket.
func TestSyscallConn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inner, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{})
	defer c.Close()
	made := c.track(inner, handout{agent: &agent{address: "127.0.0.1:1"}}, 0)
	defer made.Close()
	raw, err := made.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Error(err)
	}
	if err := made.CloseWrite(); err != nil {
		t.Error(err)
	}
	if made.NetConn() != inner {
		t.Error("NetConn is another one")
	}
	near, far := net.Pipe()
	defer far.Close()
	piped := c.track(near, handout{agent: &agent{}}, 0)
	defer piped.Close()
	if _, err := piped.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := piped.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

func BenchmarkSettledRead(b *testing.B) {
	c := New(Config{})
	defer c.Close()
	made := c.track(endless{}, handout{agent: &agent{}}, 0)
	made.settle("", 0)
	buffer := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = made.Read(buffer)
	}
}

type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error) { return len(p), nil }
