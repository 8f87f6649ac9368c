package notify

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestLongBanIsToldWhenItIsLong(t *testing.T) {
	inBubble(t, 10*time.Minute, func(_ *testing.T, r *rig) {
		r.decide(health.Banned, "1", 0)
		time.Sleep(10*time.Minute - 1)
		r.expect()
		time.Sleep(time.Nanosecond)
		r.expect("long_ban 1 @ 10m0s")
		// Once, whatever is decided while it stands.
		for range 3 {
			r.decide(health.Extended, "1", time.Since(r.begun))
			r.decide(health.HalfOpen, "1", 0)
			r.decide(health.Relapsed, "1", time.Since(r.begun))
			time.Sleep(10 * time.Minute)
		}
		r.expect("long_ban 1 @ 10m0s")
		// Well meanwhile, and banned again: another long ban.
		r.decide(health.Reopened, "1", 41*time.Minute)
		r.decide(health.Banned, "1", 0)
		time.Sleep(10 * time.Minute)
		r.expect("long_ban 1 @ 10m0s", "long_ban 1 @ 50m0s")
	})
}

func TestMessage(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		began := time.Now().UTC()
		r.decide(health.Banned, "1", 0)
		time.Sleep(4 * time.Minute)
		r.Take(&health.Decision{
			Time: time.Now(), Kind: health.Extended, Service: "shop", Instance: address("1"), Rule: "the port must answer",
			BannedFor: 4 * time.Minute, Detail: "timeout",
		})
		time.Sleep(6 * time.Minute)
		p := r.got()[0]
		want := `{"event":"long_ban","id":"` + p.key + `","time":"` + began.Add(10*time.Minute).Format(time.RFC3339Nano) +
			`","agent":"a1","host":"h1","idc":"bj-a","service":"shop","instances":[{"instance":"10.0.0.1:80","reason":"proof","since":"` +
			began.Format(time.RFC3339Nano) + `","banned_for_seconds":600,"rule":"a > b","inputs":{"a":1},"value":1,"threshold":0.5,` +
			`"detail":"timeout"}]}` + "\n"
		if p.body != want {
			t.Errorf("%s\nnot\n%s", p.body, want)
		}
	})
}

func TestFiguresThatJSONHasNotLoseNoMessage(t *testing.T) {
	inBubble(t, time.Second, func(t *testing.T, r *rig) {
		r.Take(&health.Decision{
			Time: time.Now(), Kind: health.Banned, Service: "shop", Instance: address("1"),
			Inputs: map[string]float64{"odds": math.Inf(1)}, Value: math.NaN(),
		})
		time.Sleep(time.Second)
		if body := r.got()[0].body; !strings.Contains(body, `"inputs":{"odds":null},"value":null,"threshold":0,`) {
			t.Error(body)
		}
	})
}

func TestTheFuseIsNoMatterOfWebhooks(t *testing.T) {
	inBubble(t, time.Second, func(t *testing.T, r *rig) {
		for _, kind := range []health.Kind{health.Avalanche, health.AnotherRate, health.AvalancheOver} {
			r.Take(&health.Decision{Time: time.Now(), Kind: kind, Service: "shop"})
			time.Sleep(time.Hour)
		}
		r.expect()
		if r.remembers() != 0 {
			t.Error("something is remembered of it")
		}
	})
}

func TestReturnBeforeIsNoLongBan(t *testing.T) {
	for _, kind := range []health.Kind{health.Reopened, health.Lifted} {
		inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
			r.decide(health.Banned, "1", 0)
			time.Sleep(9 * time.Minute)
			r.decide(kind, "1", 9*time.Minute)
			time.Sleep(time.Hour)
			r.expect()
			if r.remembers() != 0 {
				t.Errorf("%s: something is remembered of it: %d services", kind, r.remembers())
			}
		})
	}
}

func TestBansAddUpWithoutAReturnWorthTheName(t *testing.T) {
	inBubble(t, 10*time.Minute, func(_ *testing.T, r *rig) {
		// Eight minutes of each ten it is banned.
		total := time.Duration(0)
		for range 4 {
			r.decide(health.Banned, "1", total)
			time.Sleep(8 * time.Minute)
			total += 8 * time.Minute
			r.decide(health.Reopened, "1", total)
			time.Sleep(2 * time.Minute)
		}
		// Banned for 10 minutes altogether after 12, and for another 10 after the return that ended the second ban.
		r.expect("long_ban 1 @ 12m0s", "long_ban 1 @ 24m0s", "long_ban 1 @ 36m0s")
	})
}

func TestUnheardBeginnings(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.decide(health.Extended, "1", 7*time.Minute)
		r.decide(health.Relapsed, "2", 11*time.Minute)
		r.decide(health.Reopened, "3", 11*time.Minute)
		time.Sleep(10 * time.Minute)
		r.expect("long_ban 2 @ 0s", "long_ban 1 @ 3m0s")
		if p := r.got()[0]; !p.Instances[0].Since.Equal(r.begun.Add(-11*time.Minute)) || p.Instances[0].BannedFor != 660 {
			t.Errorf("%s", p.body)
		}
	})
}

func TestAMinuteApart(t *testing.T) {
	inBubble(t, 10*time.Second, func(_ *testing.T, r *rig) {
		for _, name := range []string{"3", "1", "2", "4"} {
			r.decide(health.Banned, name, 0)
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Minute)
		r.expect("long_ban 3 @ 10s", "long_ban 124 @ 1m10s")
		r.Take(&health.Decision{Kind: health.Banned, Service: "other", Instance: address("9")})
		time.Sleep(10 * time.Second)
		r.decide(health.Banned, "5", 0)
		time.Sleep(10 * time.Second)
		r.expect("long_ban 3 @ 10s", "long_ban 124 @ 1m10s", "long_ban 9 @ 2m14s", "long_ban 5 @ 2m24s")
	})
}

func TestCapIsToldAtOnceAndOnce(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.decide(health.Capped, "1", 0)
		for range 30 { // as often as it is said while it lasts
			time.Sleep(time.Minute)
			r.decide(health.Capped, "1", 0)
		}
		r.decide(health.Capped, "2", 0)
		r.expect("cap_reached 1 @ 0s", "cap_reached 2 @ 30m0s")
		if !strings.Contains(r.got()[0].body, `"banned_for_seconds":0,"rule":"a > b"`) {
			t.Error(r.got()[0].body)
		}
		time.Sleep(10 * time.Minute)
		r.decide(health.Capped, "1", 0)
		r.expect("cap_reached 1 @ 0s", "cap_reached 2 @ 30m0s", "cap_reached 1 @ 40m0s")
	})
}

func TestBothEventsShareTheMinute(t *testing.T) {
	inBubble(t, 10*time.Second, func(_ *testing.T, r *rig) {
		r.decide(health.Banned, "1", 0)
		r.decide(health.Capped, "2", 0)
		time.Sleep(20 * time.Second)
		r.decide(health.Capped, "3", 0)
		time.Sleep(5 * time.Minute)
		r.expect("cap_reached 2 @ 0s", "long_ban 1 @ 1m0s", "cap_reached 3 @ 2m0s")
	})
}

func TestPolicyChanges(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		set := func(hook *model.Webhook) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.hook = hook
		}
		r.decide(health.Banned, "1", 0)
		r.Take(&health.Decision{Kind: health.Banned, Service: "none", Instance: address("1")})
		set(nil)
		time.Sleep(11 * time.Minute)
		r.expect() // no webhook any more
		if r.decide(health.Extended, "1", 11*time.Minute); r.remembers() != 0 {
			t.Error("a service without a webhook is remembered")
		}
		set(&model.Webhook{URL: hookURL, After: model.Duration(time.Hour)})
		r.decide(health.Extended, "1", 11*time.Minute)
		time.Sleep(4 * time.Minute)
		r.expect()
		set(&model.Webhook{URL: hookURL, After: model.Duration(10 * time.Minute)})
		r.decide(health.Extended, "1", 15*time.Minute) // the next decision sees it
		r.expect("long_ban 1 @ 15m0s")
		// And while a message waits for its next try.
		r.answer = func(int) (*http.Response, error) { return status(500), nil }
		r.decide(health.Banned, "2", 20*time.Minute)
		time.Sleep(10 * time.Minute)
		set(nil)
		before := len(r.got())
		time.Sleep(time.Hour)
		if got := len(r.got()); got != before || r.remembers() != 0 {
			t.Errorf("%d posts after the webhook's end, %d services", got-before, r.remembers())
		}
	})
}

func TestWhoHasLeftTheListIsNotToldOf(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.decide(health.Banned, "1", 0)
		r.mu.Lock()
		r.gone[address("1")] = true
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		r.expect()
		if r.remembers() != 0 {
			t.Error("it is remembered")
		}
	})
}

func TestNothingIsRememberedForEver(t *testing.T) {
	inBubble(t, 10*time.Minute, func(t *testing.T, r *rig) {
		r.decide(health.Banned, "1", 0)
		r.decide(health.Capped, "2", 0)
		r.decide(health.Banned, "3", 0)
		time.Sleep(11 * time.Minute)
		r.decide(health.Reopened, "3", 11*time.Minute)
		r.expect("cap_reached 2 @ 0s", "long_ban 13 @ 10m0s")
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if r.remembers() != 0 {
			t.Errorf("%d services", r.remembers())
		}
	})
}

func TestCloseBreaksOff(t *testing.T) {
	inBubble(t, time.Second, func(t *testing.T, r *rig) {
		r.answer = func(int) (*http.Response, error) { return nil, errors.New("down") }
		r.decide(health.Banned, "1", 0)
		time.Sleep(2 * time.Second)
		r.decide(health.Banned, "2", 11*time.Second)
		r.decide(health.Reopened, "2", 11*time.Second)
		r.Close()
		if !strings.Contains(r.log.String(), `"webhooks not delivered before the end" instances=2`) {
			t.Error(r.log.String())
		}
		r.decide(health.Banned, "3", time.Hour)
		r.Close()
	})
}

func TestNeighboursTellThemselves(t *testing.T) {
	inBubble(t, time.Second, func(_ *testing.T, r *rig) {
		r.Take(&health.Decision{Time: time.Now(), Kind: health.Banned, Service: "shop", Instance: address("1"), Reason: health.ByNeighbour})
		time.Sleep(time.Minute)
		r.expect()
	})
}
