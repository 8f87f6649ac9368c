package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// inBubble runs f in a bubble of time, with a wire whose instances are functions at the other ends of pipes. A pipe has no
// buffer: what the instance doesn't read blocks the writer.
func inBubble(t *testing.T, name string, instance func(net.Conn, *bufio.Reader), f func(t *testing.T, w *direct)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var running sync.WaitGroup
			defer running.Wait()
			w := newDirect(usualPolicy)
			w.dial = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				running.Go(func() {
					defer there.Close()
					instance(there, bufio.NewReader(there))
				})
				return here, nil
			}
			f(t, w)
			w.CloseIdle()
			time.Sleep(time.Hour) // slow bodies are still being read
		})
	})
}

// lasted checks how long the attempt lasted, and how it failed.
func lasted(t *testing.T, begun time.Time, want time.Duration, err error, stage model.RetryWhen, result health.Result, cause error) {
	t.Helper()
	if got := time.Since(begun); got != want {
		t.Errorf("it lasted %v, want %v", got, want)
	}
	var failed *failure
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	// When the call's time is over, nobody asks which stage it was, and writer and reader find out in the same moment.
	if cause != errOver && (failed.stage != stage || failed.result != result) || !errors.Is(err, cause) {
		t.Errorf("got stage %q, result %v, error %v", failed.stage, failed.result, failed.err)
	}
}

const second = time.Second

func silentInstance(_ net.Conn, reader *bufio.Reader) { io.Copy(io.Discard, reader) }

func TestDirectConnectLimits(t *testing.T) {
	f := func(name string, set func(*limits), want time.Duration, cause error) {
		inBubble(t, name, silentInstance, func(t *testing.T, w *direct) {
			w.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
			}
			x, begun := exchangeWith("i", "GET", nil), time.Now()
			x.limits = limits{connect: 4 * second}
			set(&x.limits)
			_, err := w.RoundTrip(x)
			lasted(t, begun, want, err, model.WhenConnect, health.ConnectTimeout, cause)
		})
	}
	f("connect", func(*limits) {}, 4*second, errSlow)
	f("head", func(l *limits) { l.head = time.Now().Add(3 * second) }, 3*second, errOver)
	f("end", func(l *limits) { l.end = time.Now().Add(2 * second) }, 2*second, errOver)
}

func TestDirectReadLimits(t *testing.T) {
	f := func(name string, set func(*limits), want time.Duration, cause error) {
		for _, method := range []string{"GET", "POST", "POST buffered"} {
			inBubble(t, name+" "+method, silentInstance, func(t *testing.T, w *direct) {
				x, begun := exchangeWith("i", "GET", nil), time.Now()
				if method != "GET" {
					x = exchangeWith("i", "POST", onlyReader{strings.NewReader("x")})
					x.buffered = method != "POST"
				}
				x.limits = limits{}
				set(&x.limits)
				_, err := w.RoundTrip(x)
				lasted(t, begun, want, err, model.WhenRead, health.ReadTimeout, cause)
			})
		}
	}
	f("read", func(l *limits) { l.read = 3 * second }, 3*second, errSlow)
	f("head", func(l *limits) { l.read, l.head = 3*second, time.Now().Add(2*second) }, 2*second, errOver)
	f("end", func(l *limits) { l.read, l.end = 3*second, time.Now().Add(1*second) }, 1*second, errOver)
}

// TestDirectReadLimitIsAnew uses one connection for many requests, each of which takes nearly as long as it may: the alarms
// of the earlier ones mustn't end the later ones.
func TestDirectReadLimitIsAnew(t *testing.T) {
	inBubble(t, "", func(conn net.Conn, reader *bufio.Reader) {
		for i := 0; discardRequest(reader) == nil; i++ {
			time.Sleep(2900 * time.Millisecond)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
			time.Sleep(2900 * time.Millisecond)
			if i == 5 {
				time.Sleep(second)
			}
			io.WriteString(conn, "k")
		}
	}, func(t *testing.T, w *direct) {
		for i := range 6 {
			x := exchangeWith("i", "GET", nil)
			if i%2 == 1 {
				x = exchangeWith("i", "POST", onlyReader{strings.NewReader("x")})
			}
			x.limits = limits{write: second, read: 3 * second}
			want := "200 ok"
			if i == 5 {
				want = "200 o + " + errSlow.Error()
			}
			if got := answer(w, x); got != want {
				t.Errorf("%d: %s", i, got)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// TestDirectUploadTime sends a body slowly: that time is the client's, but for the call's end.
func TestDirectUploadTime(t *testing.T) {
	slowly := func(pieces int) io.Reader {
		return readerFunc(func(p []byte) (int, error) {
			if pieces--; pieces < 0 {
				return 0, io.EOF
			}
			time.Sleep(10 * second)
			p[0] = 'x'
			return 1, nil
		})
	}
	f := func(name string, buffered bool, set func(*limits), want time.Duration, cause error) {
		inBubble(t, name, silentInstance, func(t *testing.T, w *direct) {
			x, begun := exchangeWith("i", "POST", slowly(6)), time.Now()
			x.buffered, x.limits = buffered, limits{}
			set(&x.limits)
			_, err := w.RoundTrip(x)
			lasted(t, begun, want, err, model.WhenRead, health.ReadTimeout, cause)
		})
	}
	for _, buffered := range []bool{false, true} { // who promised that reading never blocks has lied here
		f("read", buffered, func(l *limits) { l.write, l.read = second, 3*second }, 63*second, errSlow)
		f("head", buffered, func(l *limits) { l.read, l.head = 3*second, time.Now().Add(2*second) }, 62*second, errOver)
	}
	f("end", false, func(l *limits) { l.read, l.end = 3*second, time.Now().Add(25*second) }, 25*second, errOver)
}

func TestDirectWriteLimits(t *testing.T) {
	f := func(name string, set func(*limits), want time.Duration, cause error) {
		for _, buffered := range []bool{false, true} {
			inBubble(t, name, func(_ net.Conn, reader *bufio.Reader) {
				http.ReadRequest(reader)
				io.CopyN(io.Discard, reader, 99_999)
				time.Sleep(time.Hour)
			}, func(t *testing.T, w *direct) {
				x, begun := exchangeWith("i", "POST", strings.NewReader(strings.Repeat("x", 1<<20))), time.Now()
				x.buffered, x.limits = buffered, limits{read: 100 * second}
				set(&x.limits)
				_, err := w.RoundTrip(x)
				lasted(t, begun, want, err, model.WhenWrite, health.WriteTimeout, cause)
			})
		}
	}
	// A pipe takes part of a write: the limit passes once for that, and once for nothing. Then the last words.
	f("write", func(l *limits) { l.write = 3 * second }, 6*second+lastWords, errSlow)
	f("end", func(l *limits) { l.write, l.end = 3*second, time.Now().Add(2*second) }, 2*second, errOver)
}

// TestDirectBodyLimits ends a response whose body stands still. One that moves may take long.
func TestDirectBodyLimits(t *testing.T) {
	instance := func(conn net.Conn, reader *bufio.Reader) {
		http.ReadRequest(reader)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
		for range 5 {
			time.Sleep(2 * second)
			io.WriteString(conn, "x")
		}
		time.Sleep(time.Hour)
	}
	f := func(name string, set func(*limits), want time.Duration, text string, cause error) {
		inBubble(t, name, instance, func(t *testing.T, w *direct) {
			x, begun := exchangeWith("i", "GET", nil), time.Now()
			x.limits = limits{}
			set(&x.limits)
			resp, err := w.RoundTrip(x)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if string(body) != text || !errors.Is(err, cause) || time.Since(begun) != want {
				t.Errorf("after %v: %q, %v", time.Since(begun), body, err)
			}
			if _, again := resp.Body.Read(make([]byte, 1)); again != err {
				t.Errorf("and then %v", again)
			}
		})
	}
	f("read", func(l *limits) { l.read, l.head = 3*second, time.Now().Add(second) }, 13*second, "xxxxx", errSlow)
	f("end", func(l *limits) { l.read, l.end = 3*second, time.Now().Add(5*second) }, 5*second, "xx", errOver)
}

// TestDirectBodyWaitsForUpload lets a response stand still until the rest of the request's body comes: that isn't the
// instance's fault.
func TestDirectBodyWaitsForUpload(t *testing.T) {
	inBubble(t, "", func(conn net.Conn, reader *bufio.Reader) {
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
		io.Copy(io.Discard, req.Body)
		time.Sleep(2 * second)
		io.WriteString(conn, "o")
		time.Sleep(4 * second)
		io.WriteString(conn, "k")
	}, func(t *testing.T, w *direct) {
		from, to := io.Pipe()
		x, begun := exchangeWith("i", "POST", from), time.Now()
		x.limits = limits{read: 3 * second}
		time.AfterFunc(30*second, func() { to.Close() })
		if got, want := answer(w, x), "200 o + "+errSlow.Error(); got != want {
			t.Errorf("got %q", got)
		}
		if got := time.Since(begun); got != 35*second {
			t.Errorf("it lasted %v", got)
		}
	})
}

// TestDirectExpectsInVain sends a body to an instance that doesn't know 100 (Continue).
func TestDirectExpectsInVain(t *testing.T) {
	inBubble(t, "", func(conn net.Conn, reader *bufio.Reader) {
		begun := time.Now()
		for discardRequest(reader) == nil {
			if got := time.Since(begun).Truncate(10 * time.Millisecond); got != patienceForContinue {
				t.Errorf("the body came after %v", got)
			}
			io.WriteString(conn, okResponse)
			begun = time.Now()
		}
	}, func(t *testing.T, w *direct) {
		for range 2 {
			upload := &watched{Reader: readerFunc(strings.NewReader(strings.Repeat("x", 200_000)).Read)}
			x := exchangeWith("i", "POST", upload)
			x.request.Body, x.request.Header["Expect"] = upload, []string{"100-continue"}
			if got := answer(w, x); got != "200 ok" {
				t.Error(got)
			}
			upload.check(t)
		}
		if n := w.idleCount(); n != 1 {
			t.Errorf("%d connections are idle: it was sent whole", n)
		}
	})
}

// TestDirectStaleWithoutDescriptor is TestDirectStale for connections that can't be asked for nothing.
func TestDirectStaleWithoutDescriptor(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		requests := 0
		inBubble(t, method, func(conn net.Conn, reader *bufio.Reader) {
			if discardRequest(reader) == nil {
				requests++
				io.WriteString(conn, okResponse)
			}
		}, func(t *testing.T, w *direct) {
			for range 3 {
				if got := answer(w, exchangeWith("i", method, nil)); got != "200 ok" {
					t.Error(got)
				}
				synctest.Wait()
			}
			if requests != 3 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

// TestDirectLimitsOfDescriptors has real time, and little of it: that limits hold where the descriptor is read by hand.
func TestDirectLimitsOfDescriptors(t *testing.T) {
	w, request := directTo(t, rawBackend(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for discardRequest(reader) == nil {
			if _, err := reader.Peek(1); err != nil {
				return
			}
		}
	}))
	for _, body := range []io.Reader{nil, strings.NewReader("x")} {
		x, begun := request("POST", body), time.Now()
		x.limits.read = 30 * time.Millisecond
		_, err := w.RoundTrip(x)
		if !errors.Is(err, errSlow) || time.Since(begun) < x.limits.read || time.Since(begun) > patience {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	}
}
