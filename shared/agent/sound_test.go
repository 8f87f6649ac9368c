package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func fourShops(t *testing.T, change func(*model.Service)) *rig {
	return newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"), documented("shop", change))...)
}

// Streams that stay open are answered when their head comes. Of 100 a second 98 are answered at once and stay open for an hour, 2 fail.
func TestStreamsInNormalTimes(t *testing.T) {
	f := func(uploading bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := fourShops(t, nil)
			n := 0
			call := func() *Call {
				c := plainCall()
				c.Uploading = uploading // as of gRPC's streams in both directions
				return c
			}
			share := r.passing(t, 100, 2*time.Minute, call, func(c *Call, a *Attempt) {
				if n++; n%49 == 0 {
					failing(c, a)
					return
				}
				time.AfterFunc(20*time.Millisecond, func() { c.Answered(a) })
				time.AfterFunc(time.Hour, func() {
					a.Done(Outcome{Result: health.OK, Code: 200, Latency: 20 * time.Millisecond})
					c.End(200)
				})
			})
			t.Logf("uploading %v: %v, %d decisions, %+v", uploading, share, len(r.service("shop").fuse.Decisions()), r.service("shop").fuse.Info())
			if d := r.service("shop").fuse.Decisions(); len(d) > 0 {
				t.Errorf("uploading %v: of 100 streams a second 98 %% are answered in 20 ms and stay open, 2 %% fail: an avalanche, a share of %v is admitted in 2 minutes; %+v; %+v", uploading, share, d[0], r.service("shop").fuse.Info())
			}
			r.Close()
			time.Sleep(2 * time.Hour)
		})
	}
	f(false)
	f(true)
}

// The same in an avalanche, of those that are Uploading or patient, too.
func TestStreamsInAnAvalanche(t *testing.T) {
	f := func(uploading bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := fourShops(t, nil)
			n := 0
			call := func() *Call {
				c := plainCall()
				c.Uploading = uploading
				return c
			}
			r.passing(t, 100, time.Minute, plainCall, func(c *Call, a *Attempt) {
				time.AfterFunc(20*time.Millisecond, func() {
					a.Done(Outcome{Result: health.OK, Code: 200, Latency: 20 * time.Millisecond})
					c.End(200)
				})
			})
			r.passing(t, 100, 20*time.Second, plainCall, failing)
			if !r.service("shop").fuse.Avalanche() {
				t.Fatal("no avalanche")
			}
			stream := func(c *Call, a *Attempt) {
				if n++; n%49 == 0 {
					failing(c, a)
					return
				}
				time.AfterFunc(20*time.Millisecond, func() { c.Answered(a) })
				time.AfterFunc(time.Hour, func() {
					a.Done(Outcome{Result: health.OK, Code: 200, Latency: 20 * time.Millisecond})
					c.End(200)
				})
			}
			r.passing(t, 100, 10*time.Minute, call, stream)
			if share := r.passing(t, 100, time.Minute, call, stream); share < 0.9 {
				t.Errorf("uploading %v: ten minutes after the callee is well (98 %% of streams answered in 20 ms): a share of %v is admitted; %+v", uploading, share, r.service("shop").fuse.Info())
			}
			r.Close()
			time.Sleep(2 * time.Hour)
		})
	}
	f(true)
	f(false)
}

// Callers that may wait longer than others, and get no more time in an avalanche than all, don't keep it going.
func TestPatientCallersInAnAvalanche(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := model.Duration(30 * time.Second)
		r := fourShops(t, func(s *model.Service) {
			s.Callers = []model.CallerOverride{{Match: []string{"offline-*"}, Timeouts: &model.TimeoutsOverride{
				Normal: model.TimeoutSet{Read: long, Total: long},
			}}}
		})
		n := 0
		call := func() *Call {
			c := plainCall()
			if n++; n%5 < 2 {
				c.Caller = "offline-a"
			}
			return c
		}
		sound := func(c *Call, a *Attempt) {
			takes, limit, result, code := 50*time.Millisecond, c.Timeouts().Read.Std(), health.OK, 200
			if c.Caller != "" {
				takes = 8 * time.Second
			}
			if takes > limit {
				takes, result, code = limit, health.ReadTimeout, 0
			}
			time.AfterFunc(takes, func() {
				if code != 0 {
					c.Answered(a)
				}
				a.Done(Outcome{Result: result, Code: code, Latency: takes})
				c.End(200)
			})
		}
		r.passing(t, 60, 2*time.Minute, plainCall, sound)
		r.passing(t, 60, 20*time.Second, plainCall, failing)
		if !r.service("shop").fuse.Avalanche() {
			t.Fatal("no avalanche")
		}
		r.passing(t, 100, 30*time.Minute, call, sound)
		if share := r.passing(t, 100, time.Minute, call, sound); share < 0.9 {
			t.Errorf("half an hour after the callee is well, 40 %% of the calls from one that may wait 30 s, answered in 8 s: a share of %v is admitted; %+v", share, r.service("shop").fuse.Info())
		}
		r.Close()
		time.Sleep(time.Minute)
	})
}

// Decisions are told under no lock, that of a callee which nobody has any more, too.
func TestToldUnderNoLock(t *testing.T) {
	r := fourShops(t, nil)
	locked := false
	tell := r.Agent.tell
	r.Agent.tell = func(d health.Decision) {
		if d.Kind == "avalanche_over" {
			if r.Agent.mu.TryLock() {
				r.Agent.mu.Unlock()
			} else {
				locked = true
			}
		}
		tell(d)
	}
	s := r.service("shop")
	r.overload(t, "shop")
	r.catalog.Replace(2, []model.Record{documented("other", nil)})
	_ = s
	if s.fuse.Avalanche() {
		t.Log("still an avalanche")
	}
	if locked {
		t.Error("the end of the avalanche is told while the agent's lock is held: a listener that asks the agent for anything waits for ever")
	}
}

// For -race: an attempt's Sent, as a wire's goroutine calls it that still waited for the client's body, while the call goes on to another
// attempt.
func TestSentBesidePick(t *testing.T) {
	r := fourShops(t, nil)
	c := &Call{Callee: "shop", Class: DefaultClass, Uploading: true}
	first := r.pick(t, r.begin(t, c))
	first.Done(Outcome{Result: health.ConnectError})
	done := make(chan struct{})
	go func() {
		first.Sent()
		close(done)
	}()
	if _, err := r.Pick(c); err != nil {
		t.Fatal(err)
	}
	<-done
}
