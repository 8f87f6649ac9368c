package caddyufc

import (
	"github.com/caddyserver/caddy/v2"
	"go.opentelemetry.io/contrib/propagators/autoprop"

	"github.com/ufc-mesh/ufc/caddyufc/internal/currentlog"
	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/forward"
)

// sharedByAgent holds what configurations of one mesh share, so that connections to instances outlive a reload.
var sharedByAgent = caddy.NewUsagePool()

// shared is what goes with one attachment to a mesh.
type shared struct {
	agent     *agent.Agent
	forwarder *forward.Forwarder
}

func acquireShared(a *agent.Agent) (*shared, error) {
	value, _, err := sharedByAgent.LoadOrNew(a, func() (caddy.Destructor, error) {
		forwarder := forward.New(a, currentlog.Slog("ufc"))
		forwarder.Trace = attemptTracer{autoprop.NewTextMapPropagator()}.trace // by OTEL_PROPAGATORS, as `tracing`
		return &shared{agent: a, forwarder: forwarder}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*shared), nil
}

// release gives back one configuration's share.
func (s *shared) release() error {
	_, err := sharedByAgent.Delete(s.agent)
	return err
}

// Destruct closes the connections, when the last configuration has gone.
func (s *shared) Destruct() error {
	s.forwarder.Close()
	return nil
}

var _ caddy.Destructor = (*shared)(nil)
