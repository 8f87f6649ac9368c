package forward

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// TestWatchdog plays what the library tells, in seconds since the attempt's begin, and expects when and by which error it
// ends. The limits are: write 2 s, read 3 s, head in 10 s, end in 30 s.
func TestWatchdog(t *testing.T) {
	type told struct {
		at   int
		what func(*watchdog)
	}
	reading, read := func(w *watchdog) { w.reads(true) }, func(w *watchdog) { w.reads(false) }
	const (
		connection = 1
		never      = 0
	)
	connected := told{connection, (*watchdog).gotConnection}
	f := func(name string, at int, want error, stage model.RetryWhen, result health.Result, play ...told) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				var w watchdog
				w.start(limits{
					write: 2 * time.Second, read: 3 * time.Second,
					head: begin.Add(10 * time.Second), end: begin.Add(30 * time.Second),
				}, cancel)
				for _, event := range play {
					time.Sleep(time.Until(begin.Add(time.Duration(event.at) * time.Second)))
					if synctest.Wait(); ctx.Err() != nil {
						t.Fatalf("it ended before %d s by %v", event.at, w.broken())
					}
					event.what(&w)
				}
				if want == nil {
					time.Sleep(time.Hour)
					if w.broken() != nil {
						t.Errorf("it ended by %v", w.broken())
					}
					return
				}
				<-ctx.Done()
				if took := time.Since(begin); took != time.Duration(at)*time.Second || w.broken() != want || context.Cause(ctx) != want {
					t.Errorf("it ended after %v by %v, %v; want %d s, %v", took, w.broken(), context.Cause(ctx), at, want)
				}
				if gotStage, gotResult := w.blame(); gotStage != stage || gotResult != result {
					t.Errorf("to blame is %v, %v; want %v, %v", gotStage, gotResult, stage, result)
				}
			})
		})
	}
	asked, given, sent, head := (*watchdog).bodyAsked, (*watchdog).bodyGiven, (*watchdog).requestSent, (*watchdog).gotHead
	f("a dial is not its business, but the call's time is", 10, errOver, model.WhenConnect, health.ConnectTimeout)
	f("the head isn't taken", 3, errSlow, model.WhenWrite, health.WriteTimeout, connected)
	f("no answer", 5, errSlow, model.WhenRead, health.ReadTimeout, connected, told{2, sent})
	f("an answer within the limits", never, nil, "", 0, connected, told{2, sent}, told{4, head}, told{5, (*watchdog).end})
	f("the body isn't taken", 9, errSlow, model.WhenWrite, health.WriteTimeout,
		connected, told{1, asked}, told{4, given}, told{5, asked}, told{7, given})
	f("a client that gives nothing is waited for", 30, errOver, model.WhenWrite, health.Canceled, connected, told{2, asked})
	f("the upload's time is given back", 21, errOver, model.WhenRead, health.ReadTimeout, // 11 s of it, from 2 to 13
		connected, told{2, asked}, told{12, given}, told{13, sent}, told{15, (*watchdog).gotConnection}, told{16, sent},
		told{18, (*watchdog).gotConnection}, told{19, sent})
	f("the body is quiet", 12, errSlow, model.WhenRead, health.ReadTimeout,
		connected, told{2, sent}, told{4, head}, told{5, reading}, told{6, read}, told{9, reading})
	f("a slow reader has time", 30, errOver, model.WhenRead, health.ReadTimeout,
		connected, told{2, sent}, told{4, head}, told{5, reading}, told{6, read})
	f("a conversation may be quiet while the client is", 30, errOver, model.WhenWrite, health.Canceled,
		connected, told{2, asked}, told{3, head}, told{4, reading})
	f("and not when it has ended", 23, errSlow, model.WhenRead, health.ReadTimeout,
		connected, told{2, asked}, told{3, head}, told{4, reading}, told{19, given}, told{20, sent})
	f("the instance takes no more of a conversation", 12, errSlow, model.WhenWrite, health.WriteTimeout,
		connected, told{2, asked}, told{3, head}, told{4, reading}, told{10, given})
	f("another connection has its own time", 7, errSlow, model.WhenRead, health.ReadTimeout,
		connected, told{2, sent}, told{3, (*watchdog).gotConnection}, told{4, sent})
}

func TestWatchdogWithoutLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var w watchdog
		w.start(limits{}, cancel)
		w.gotConnection()
		w.bodyAsked()
		w.bodyGiven()
		w.requestSent()
		w.gotHead()
		w.reads(true)
		time.Sleep(24 * time.Hour)
		w.end()
		if ctx.Err() != nil || w.timer != nil {
			t.Errorf("it ended by %v; its timer is %v", w.broken(), w.timer)
		}
	})
}
