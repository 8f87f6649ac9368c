package agent

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestNothingIsRememberedOfNeighboursBansThatAreOver(t *testing.T) {
	r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
	address := netip.MustParseAddrPort("10.0.0.1:80")
	for _, callee := range []string{"shop", "unknown-yet"} {
		r.Told(callee, address, &model.ToldBan{Agent: "dns", Until: time.Now().Add(time.Minute)})
		r.Told(callee, address, nil)
		r.Told(callee, address, nil)
	}
	if len(r.told) != 0 || r.service("shop").state.Load().banned() != 0 {
		t.Errorf("%v is remembered", r.told)
	}
}

// What a neighbour said of his ban is no error of a probe of this agent's.
func TestBanInfoOfANeighboursBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80")...)
		defer r.Close()
		r.Told("shop", netip.MustParseAddrPort("10.0.0.1:80"), &model.ToldBan{
			Agent: "dns", Reason: "proof", Detail: "refused", Until: time.Now().Add(time.Minute),
		})
		answer, err := r.Query([]string{"ban_info", "shop"})
		if err != nil {
			t.Fatal(err)
		}
		bans := answer.(map[string][]*BanInfo)["shop"]
		if len(bans) != 1 || bans[0].Reason != health.ByNeighbour || bans[0].Why != "dns: proof refused" || bans[0].ProbeError != "" {
			t.Errorf("%+v", bans[0])
		}
	})
}

// In panic a neighbour's word that an instance is dead counts; that it is slow is no reason to leave it out for the dead.
func TestPanicGoesByANeighboursReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, instances("shop", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")...)
		defer r.Close()
		for address, why := range map[string]health.Reason{
			"10.0.0.1:80": health.ByLatency, "10.0.0.2:80": health.ByProof, "10.0.0.3:80": health.ByProof,
		} {
			r.Told("shop", netip.MustParseAddrPort(address), &model.ToldBan{Agent: "dns", Reason: string(why), Until: time.Now().Add(time.Minute)})
		}
		if spread := r.spread(t, "shop", 30); spread["10.0.0.1:80"] != 30 {
			t.Errorf("%v", spread)
		}
	})
}
