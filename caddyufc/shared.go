package caddyufc

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/ufc-mesh/ufc/caddyufc/internal/currentlog"
	"github.com/ufc-mesh/ufc/shared/forward"
	"github.com/ufc-mesh/ufc/shared/mesh"
)

// sharedByMesh holds what configurations of one mesh share, so that connections to instances outlive a reload.
var sharedByMesh = caddy.NewUsagePool()

// shared is what goes with one attachment to a mesh.
type shared struct {
	mesh      *mesh.Mesh
	forwarder *forward.Forwarder
}

func acquireShared(m *mesh.Mesh) (*shared, error) {
	value, _, err := sharedByMesh.LoadOrNew(m, func() (caddy.Destructor, error) {
		return &shared{mesh: m, forwarder: forward.New(m.Agent, currentlog.Slog("ufc"))}, nil
	})
	if err != nil {
		return nil, err
	}
	return value.(*shared), nil
}

// release gives back one configuration's share.
func (s *shared) release() error {
	_, err := sharedByMesh.Delete(s.mesh)
	return err
}

// Destruct closes the connections, when the last configuration has gone.
func (s *shared) Destruct() error {
	s.forwarder.Close()
	return nil
}

var _ caddy.Destructor = (*shared)(nil)
