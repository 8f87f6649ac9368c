package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

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
