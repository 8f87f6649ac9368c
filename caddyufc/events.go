package caddyufc

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/ufc-mesh/ufc/shared/health"
)

// eventPrefix begins the names of the events that the app emits, of origin ufc: ufc_banned, ufc_extended, ufc_capped,
// ufc_half_open, ufc_reopened, ufc_relapsed, ufc_slowed, ufc_lifted, ufc_service_fault, ufc_panic, ufc_panic_over, ufc_avalanche
// and ufc_avalanche_over. Their data are service, instance, idc, reason, rule, value, threshold, inputs, detail, duration and
// banned_for, as far as the decision has them.
const eventPrefix = "ufc_"

// isEvent tells whether a decision is one. That a fuse admits another rate, several times a second in an avalanche, isn't.
func isEvent(d *health.Decision) bool { return d.Kind != health.AnotherRate }

// provisionEvents makes the app emit what the agent decides as Caddy's events, from the moment when all apps have started:
// until then the events app takes subscriptions into the map that Emit reads, and apps start in any order.
func (a *App) provisionEvents(ctx caddy.Context) error {
	module, err := ctx.App("events")
	if err != nil {
		return err
	}
	events := module.(*caddyevents.App)
	return events.On("started", started(func() {
		a.stopEvents = a.mesh.Listen(func(d health.Decision) {
			if name := eventPrefix + string(d.Kind); isEvent(&d) && events.ShouldEmit(name) {
				events.Emit(ctx, name, dataOf(&d))
			}
		})
	}))
}

// started is a handler of the event that Caddy emits when a configuration's apps have started, before it stops those of the
// one before.
type started func()

// Handle implements caddyevents.Handler.
func (s started) Handle(context.Context, caddy.Event) error {
	s()
	return nil
}

func dataOf(d *health.Decision) map[string]any {
	data := map[string]any{"service": d.Service}
	add := func(name string, value any, has bool) {
		if has {
			data[name] = value
		}
	}
	add("instance", d.Instance.String(), d.Instance.IsValid())
	add("idc", d.IDC, d.IDC != "")
	add("reason", string(d.Reason), d.Reason != "")
	add("rule", d.Rule, d.Rule != "")
	add("value", d.Value, d.Threshold != 0)
	add("threshold", d.Threshold, d.Threshold != 0)
	add("inputs", d.Inputs, len(d.Inputs) > 0)
	add("detail", d.Detail, d.Detail != "")
	add("duration", d.Duration.String(), d.Duration > 0)
	add("banned_for", d.BannedFor.String(), d.BannedFor > 0)
	return data
}

// Interface guard.
var _ caddyevents.Handler = started(nil)
