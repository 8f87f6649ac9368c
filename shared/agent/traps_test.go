package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// A sound callee is never kept from its callers for longer than it takes to see that it is sound.

// passing makes calls, so many per second for a while, and tells what share is admitted. each does what becomes of an attempt.
func (r *rig) passing(t *testing.T, rate int, d time.Duration, call func() *Call, each func(c *Call, a *Attempt)) float64 {
	t.Helper()
	admitted, asked := 0, 0
	for begun := r.now(); r.now() < begun+d; time.Sleep(time.Second / time.Duration(rate)) {
		asked++
		c := call()
		if r.Begin(c) != nil {
			continue
		}
		admitted++
		if a, err := r.Pick(c); err == nil {
			each(c, a)
		}
	}
	return float64(admitted) / float64(asked)
}

func plainCall() *Call { return &Call{Callee: "shop", Class: DefaultClass} }

func failing(c *Call, a *Attempt) {
	a.Done(Outcome{Result: health.ReadError, Latency: time.Millisecond})
	c.End(502)
}

// A stream is delivered when its head comes, whoever closes it later (server-sent events, a video that is left, gRPC).
func TestStreamsAreDelivered(t *testing.T) {
	f := func(what string, life time.Duration, end health.Result) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, shop(nil)...)
			stream := func(c *Call, a *Attempt) {
				time.AfterFunc(20*time.Millisecond, func() { c.Answered(a) }) // 200
				time.AfterFunc(life, func() {
					a.Done(Outcome{Result: end, Code: 200, Latency: 20 * time.Millisecond})
					c.End(200)
				})
			}
			r.passing(t, 20, time.Minute, plainCall, stream)
			if r.service("shop").fuse.Avalanche() {
				t.Fatal("an avalanche at once")
			}
			r.passing(t, 20, 20*time.Second, plainCall, failing)
			if !r.service("shop").fuse.Avalanche() {
				t.Fatal("no avalanche")
			}
			r.passing(t, 20, 10*time.Minute, plainCall, stream) // it is well again
			if share := r.passing(t, 20, time.Minute, plainCall, stream); share < 0.9 {
				t.Errorf("%s: ten minutes after the callee is well, a share of %v is admitted: %+v", what, share, r.service("shop").fuse.Info())
			}
			r.Close()
			time.Sleep(2 * life)
		})
	}
	f("answered in 20 ms, closed by the client after 5 s", 5*time.Second, health.Canceled)
	f("websockets, open for an hour", time.Hour, health.OK)
}

// A program that resolves a name asks for A and AAAA, and reports one outcome for both questions: an avalanche ends nevertheless.
func TestQuestionsForBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(nil, instances("shop", "[2001:db8::1]:80")...)...)
		n := 0
		question := func() *Call {
			n++
			return &Call{Callee: "shop", Class: DefaultClass, HandOut: true, Family: []Family{IPv4, IPv6}[n%2]}
		}
		report := func(result health.Result) func(*Call, *Attempt) {
			return func(c *Call, a *Attempt) {
				if c.Family == IPv6 {
					return // the program has taken the other one
				}
				time.AfterFunc(20*time.Millisecond, func() { a.Report(Outcome{Result: result, Latency: 20 * time.Millisecond}) })
			}
		}
		r.passing(t, 200, time.Minute, question, report(health.OK))
		r.passing(t, 200, 20*time.Second, question, report(health.ReadError))
		if !r.service("shop").fuse.Avalanche() {
			t.Fatal("no avalanche")
		}
		r.passing(t, 200, 10*time.Minute, question, report(health.OK)) // it is well again
		if share := r.passing(t, 200, time.Minute, question, report(health.OK)); share < 0.9 {
			t.Errorf("ten minutes after the callee is well, a share of %v is admitted: %+v", share, r.service("shop").fuse.Info())
		}
		r.Close()
	})
}

// The same where a part of the programs reports and another doesn't.
func TestHandOutsThatNobodyReports(t *testing.T) {
	f := func(every int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, shop(nil)...)
			n := 0
			question := func() *Call { return &Call{Callee: "shop", Class: DefaultClass, HandOut: true} }
			report := func(result health.Result) func(*Call, *Attempt) {
				return func(_ *Call, a *Attempt) {
					if n++; n%every == 0 {
						time.AfterFunc(20*time.Millisecond, func() { a.Report(Outcome{Result: result, Latency: 20 * time.Millisecond}) })
					}
				}
			}
			r.passing(t, 200, time.Minute, question, report(health.OK))
			r.passing(t, 200, 20*time.Second, question, report(health.ReadError))
			if !r.service("shop").fuse.Avalanche() {
				t.Fatal("no avalanche")
			}
			r.passing(t, 200, 10*time.Minute, question, report(health.OK))
			if share := r.passing(t, 200, time.Minute, question, report(health.OK)); share < 0.9 {
				t.Errorf("one of %d hand-outs is reported: ten minutes after the callee is well, a share of %v is admitted: %+v", every, share, r.service("shop").fuse.Info())
			}
			r.Close()
		})
	}
	f(1)
	f(2) // where most are unreported, nobody is refused
}

// A retry that a call of an avalanche makes after it is over goes by the limits of normal times, unmarked.
func TestRetryAfterTheAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, shop(func(s *model.Service) {
			s.Timeouts.Avalanche.Total = s.Timeouts.Normal.Total
		})...)
		r.overload(t, "shop")
		var call *Call
		for call = plainCall(); r.Begin(call) != nil; call = plainCall() {
			time.Sleep(100 * time.Millisecond)
		}
		attempt := r.pick(t, call)
		s := r.service("shop")
		for n := 0; s.fuse.Avalanche() && n < 1000; n++ { // nobody asks any more
			time.Sleep(100 * time.Millisecond)
			if n == 0 {
				attempt.Done(Outcome{Result: health.ReadError, Latency: time.Millisecond})
			}
		}
		if s.fuse.Avalanche() {
			t.Fatal("still an avalanche")
		}
		if again, err := r.Pick(call); err != nil || again == nil {
			t.Fatal(err)
		}
		if call.Avalanche() || call.Degrade != 0 {
			t.Errorf("the avalanche is over: the retry reads for %v instead of %v, and asks for degrade %d", call.Timeouts().Read.Std(), call.Service().Timeouts.Normal.Read.Std(), call.Degrade)
		}
		r.Close()
	})
}

// One hung instance of four is for bans, also where the others have streams open: late ones aren't put down to those.
func TestBlameByStreams(t *testing.T) {
	f := func(streams int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"), documented("shop", nil))...)
			well := func(c *Call, a *Attempt) {
				time.AfterFunc(50*time.Millisecond, func() {
					c.Answered(a)
					a.Done(Outcome{Result: health.OK, Code: 200, Latency: 50 * time.Millisecond})
					c.End(200)
				})
			}
			left := streams
			r.passing(t, 100, time.Minute, plainCall, func(c *Call, a *Attempt) {
				if left == 0 || a.HostPort == "10.0.0.1:80" {
					well(c, a)
					return
				}
				left--
				time.AfterFunc(50*time.Millisecond, func() { c.Answered(a) }) // and goes on
			})
			admitted := r.passing(t, 100, 30*time.Second, plainCall, func(c *Call, a *Attempt) {
				if a.HostPort != "10.0.0.1:80" {
					well(c, a)
					return
				}
				limit := c.Timeouts().Read.Std()
				time.AfterFunc(limit, func() {
					a.Done(Outcome{Result: health.ReadTimeout, Latency: limit})
					c.End(504)
				})
			})
			if entered := r.service("shop").fuse.Decisions(); len(entered) > 0 {
				t.Errorf("one hung of four, and %d streams on the others: an avalanche, %v admitted; %+v", streams, admitted, entered[0])
			}
			r.Close()
			time.Sleep(time.Minute)
		})
	}
	f(0)
	f(600)
}

// What a caller may wait for, to whom the callee's document allows more time, isn't late.
func TestTimeoutsOfTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := model.Duration(30 * time.Second)
		r := newRig(t, shop(func(s *model.Service) {
			s.Callers = []model.CallerOverride{{Match: []string{"offline-*"}, Timeouts: &model.TimeoutsOverride{
				Normal: model.TimeoutSet{Read: long, Total: long},
			}}}
		})...)
		if got := r.begin(t, &Call{Callee: "shop", Caller: "offline-a"}).Timeouts().Read; got != long {
			t.Fatalf("read is %v", got.Std())
		}
		n := 0
		call := func() *Call {
			c := plainCall()
			if n++; n%5 < 2 {
				c.Caller = "offline-a"
			}
			return c
		}
		admitted := r.passing(t, 100, 5*time.Minute, call, func(c *Call, a *Attempt) {
			takes := 50 * time.Millisecond
			if c.Caller != "" {
				takes = 8 * time.Second // well within its 30 s
			}
			time.AfterFunc(takes, func() {
				c.Answered(a)
				a.Done(Outcome{Result: health.OK, Code: 200, Latency: takes})
				c.End(200)
			})
		})
		if entered := r.service("shop").fuse.Decisions(); len(entered) > 0 {
			t.Errorf("all is answered within the limits of its caller: %v admitted; %+v", admitted, entered[0])
		}
		r.Close()
		time.Sleep(time.Minute)
	})
}
