package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ufc-mesh/ufc/shared/health"
	"github.com/ufc-mesh/ufc/shared/model"
)

func TestMetrics(t *testing.T) {
	r := newRig(t, append(instances("shop", "10.0.0.1:80"), documented("web", nil), documented("shop", nil))...)
	call := r.begin(t, &Call{Callee: "shop", Caller: "web"})
	attempt := r.pick(t, call)
	attempt.Done(Outcome{Result: health.OK})
	call.End(204)
	for n := range 50 { // strangers don't grow the metrics
		_, _ = r.try(t, fmt.Sprintf("nobody-%d", n), health.OK)
		r.CountCallback(fmt.Sprintf("nobody-%d", n), "ok")
		call := r.begin(t, &Call{Callee: "shop", Caller: fmt.Sprintf("stranger-%d", n)})
		call.End(499)
	}
	r.catalog.Apply(7, []model.Record{{Kind: model.KindService, Name: "bad", Err: errors.New("no")}})
	want := `
# HELP ufc_banned_instances Instances banned now.
# TYPE ufc_banned_instances gauge
ufc_banned_instances{callee="shop"} 0
# HELP ufc_callbacks_total Results reported by programs.
# TYPE ufc_callbacks_total counter
ufc_callbacks_total{callee="unknown",result="ok"} 50
# HELP ufc_config_rejected_total Configuration records refused.
# TYPE ufc_config_rejected_total counter
ufc_config_rejected_total{kind="Service"} 1
# HELP ufc_config_revision The revision of etcd that the configuration stands at.
# TYPE ufc_config_revision gauge
ufc_config_revision 7
# HELP ufc_instances Instances known.
# TYPE ufc_instances gauge
ufc_instances 1
# HELP ufc_refused_total Calls that UFC itself refused, by reason.
# TYPE ufc_refused_total counter
ufc_refused_total{callee="unknown",caller="unknown",reason="unknown_service"} 50
# HELP ufc_requests_total Calls by the status that the caller got and the IDC of the instance.
# TYPE ufc_requests_total counter
ufc_requests_total{callee="shop",caller="unknown",code="499",idc=""} 50
ufc_requests_total{callee="shop",caller="web",code="204",idc="bj-b"} 1
# HELP ufc_services Services known.
# TYPE ufc_services gauge
ufc_services 2
`
	if err := testutil.CollectAndCompare(r, strings.NewReader(want), "ufc_banned_instances", "ufc_callbacks_total",
		"ufc_config_rejected_total", "ufc_config_revision", "ufc_instances", "ufc_refused_total", "ufc_requests_total", "ufc_services"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(r); err != nil || len(problems) > 0 {
		t.Errorf("the metrics' names: %v, %v", problems, err)
	}
}

// That the cap is reached is an alert: what it keeps in the choice is counted.
func TestCapIsAMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, append(instances("shop", "10.0.0.1:80", "10.0.0.2:80"), documented("shop", func(s *model.Service) {
			s.Ban.Requests = &model.RequestBan{Failures: 2, Of: 2}
		}))...)
		for range 8 {
			call := r.begin(t, &Call{Callee: "shop"})
			r.PickAddress(call, netip.MustParseAddrPort("10.0.0.1:80")).Done(Outcome{Result: health.Reset})
			r.PickAddress(call, netip.MustParseAddrPort("10.0.0.2:80")).Done(Outcome{Result: health.Reset})
		}
		want := `
# HELP ufc_bans_total Bans of instances by reason.
# TYPE ufc_bans_total counter
ufc_bans_total{callee="shop",reason="requests"} 1
# HELP ufc_capped_total Bans that the cap didn't allow, by reason; of an instance at most one a minute.
# TYPE ufc_capped_total counter
ufc_capped_total{callee="shop",reason="requests"} 1
`
		if err := testutil.CollectAndCompare(r, strings.NewReader(want), "ufc_bans_total", "ufc_capped_total"); err != nil {
			t.Error(err)
		}
	})
}
