package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

// notes are what a board or a neighbour was called with.
type notes []string

func (n *notes) Publish(service string, address netip.AddrPort, ban model.ToldBan) {
	*n = append(*n, fmt.Sprintf("publish %s %s %s since %s until %s: %s", service, address, ban.Reason,
		ban.Since.Format(time.TimeOnly), ban.Until.Format(time.TimeOnly), ban.Detail))
}

func (n *notes) Withdraw(service string, address netip.AddrPort) {
	*n = append(*n, fmt.Sprintf("withdraw %s %s", service, address))
}

func (n *notes) Told(service string, address netip.AddrPort, ban *model.ToldBan) {
	*n = append(*n, fmt.Sprintf("told %s %s %v", service, address, ban != nil))
}

func TestTeller(t *testing.T) {
	address := netip.MustParseAddrPort("10.0.0.1:80")
	f := func(decision health.Decision, want ...string) {
		t.Helper()
		var got notes
		decision.Service, decision.Time = "shop", time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
		(&teller{board: &got}).decided(decision)
		if !slices.Equal(got, want) {
			t.Errorf("%s by %s: %q, want %q", decision.Kind, decision.Reason, got, want)
		}
	}
	published := "publish shop 10.0.0.1:80 proof since 14:59:00 until 15:00:10: "
	for _, kind := range []health.Kind{health.Banned, health.Extended, health.Relapsed} {
		d := health.Decision{
			Kind: kind, Instance: address, Reason: health.ByProof, Duration: 10 * time.Second, BannedFor: time.Minute,
		}
		f(d, published)
		d.Detail = "connection refused"
		f(d, published+"connection refused")
		d.Rule = "the probe failed"
		f(d, published+"the probe failed: connection refused")
		// What others know, or said, isn't told again, and takes the place of what was told.
		for _, reason := range []health.Reason{health.ByNeighbour, health.ByHand} {
			d.Reason = reason
			f(d, "withdraw shop 10.0.0.1:80")
		}
	}
	for _, kind := range []health.Kind{health.Reopened, health.Lifted} {
		f(health.Decision{Kind: kind, Instance: address, Reason: health.ByProof}, "withdraw shop 10.0.0.1:80")
	}
	for _, kind := range []health.Kind{health.HalfOpen, health.Capped, health.Slowed} {
		f(health.Decision{Kind: kind, Instance: address, Reason: health.ByProof})
	}
	f(health.Decision{Kind: health.Fault})
}

func TestTellerHears(t *testing.T) {
	address := netip.MustParseAddrPort("10.0.0.1:80")
	var heard notes
	tell := &teller{agent: &heard}
	tell.told("shop", address, &model.ToldBan{Agent: "a"})
	tell.told("shop", address, nil)
	if want := []string{"told shop 10.0.0.1:80 true", "told shop 10.0.0.1:80 false"}; !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}

func TestHostIsChecked(t *testing.T) {
	config := deadConfig(t)
	config.Host = "a/b"
	if _, err := Acquire(config); err == nil {
		t.Error("a host with a slash was taken")
	}
}

// sharedNotes are notes that are read while they are taken.
type sharedNotes struct {
	mu sync.Mutex
	notes
}

func (n *sharedNotes) Publish(service string, address netip.AddrPort, ban model.ToldBan) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes.Publish(service, address, ban)
}

func (n *sharedNotes) Withdraw(service string, address netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes.Withdraw(service, address)
}

func (n *sharedNotes) all() []string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.notes)
}

// An instance that leaves the list while it is banned takes its key along when the ban's time is over, and so does one whose
// whole service goes.
func TestWhoLeavesTheListIsWithdrawn(t *testing.T) {
	f := func(name string, leave ...model.Record) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var board sharedNotes
			views := catalog.New(slog.New(slog.DiscardHandler))
			refuse := func(context.Context, netip.AddrPort, time.Duration) error { return errors.New("refused") }
			a := agent.New(views, agent.Options{Probe: refuse, Decided: (&teller{board: &board}).decided})
			defer a.Close()
			var records []model.Record
			for _, text := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
				instance := model.DefaultInstance()
				instance.Address = netip.MustParseAddrPort(text)
				records = append(records, model.Record{Kind: model.KindInstances, Name: "shop", Address: text, Instance: &instance})
			}
			views.Replace(1, records)
			call := &agent.Call{Callee: "shop", HandOut: true}
			if err := a.Begin(call); err != nil {
				t.Fatal(err)
			}
			a.PickAddress(call, netip.MustParseAddrPort("10.0.0.1:80")).Done(agent.Outcome{Result: health.ConnectError})
			if told := board.all(); len(told) != 1 || !strings.HasPrefix(told[0], "publish shop 10.0.0.1:80 proof") {
				t.Fatalf("%s: %q", name, told)
			}
			views.Apply(2, leave)
			if told := board.all(); len(told) != 1 {
				t.Errorf("%s: its ban stands, in case it comes back: %q", name, told)
			}
			time.Sleep(time.Minute)
			if told := board.all(); len(told) != 2 || told[1] != "withdraw shop 10.0.0.1:80" {
				t.Errorf("%s: %q", name, told)
			}
		})
	}
	gone := func(address string) model.Record {
		return model.Record{Kind: model.KindInstances, Name: "shop", Address: address, Deleted: true}
	}
	f("it alone", gone("10.0.0.1:80"))
	f("the service", gone("10.0.0.1:80"), gone("10.0.0.2:80"))
}
