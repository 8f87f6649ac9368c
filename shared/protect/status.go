package protect

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Status is what a Guard holds back.
type Status struct {
	Instances int        `json:"instances"`
	Services  int        `json:"services"` // documents
	Bans      int        `json:"bans"`     // by hand
	Topology  bool       `json:"topology"`
	Since     *time.Time `json:"since,omitempty"` // the oldest hold
	Revision  int64      `json:"revision,omitempty"`
	Of        []Held     `json:"of,omitempty"` // the services that most is held of, at most maxHeld
}

// Held is what is held of one service.
type Held struct {
	Service   string    `json:"service"`
	Instances int       `json:"instances"`
	Of        int       `json:"of"` // in force
	Since     time.Time `json:"since"`
}

// maxHeld bounds the services in a Status.
const maxHeld = 20

// Status tells what is held back. Revision is that of the latest removal: what a confirmation must reach.
func (g *Guard) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status()
}

func (g *Guard) status() Status {
	status := Status{Instances: g.mesh.held, Services: g.documents.held}
	for k, revision := range g.held {
		status.Revision = max(status.Revision, revision)
		switch k.kind {
		case model.KindBan:
			status.Bans++
		case model.KindTopology:
			status.Topology = true
		}
	}
	since := func(h *hold) {
		if h != nil && (status.Since == nil || h.since.Before(*status.Since)) {
			moment := h.since.UTC()
			status.Since = &moment
		}
	}
	since(g.mesh.hold)
	since(g.documents.hold)
	for name, s := range g.services {
		if since(s.hold); s.hold != nil {
			status.Of = append(status.Of, Held{name, s.held, g.instances(name), s.hold.since.UTC()})
		}
	}
	slices.SortFunc(status.Of, func(a, b Held) int {
		return cmp.Or(cmp.Compare(b.Instances, a.Instances), cmp.Compare(a.Service, b.Service))
	})
	status.Of = slices.Clip(status.Of[:min(len(status.Of), maxHeld)])
	return status
}

// alarm logs what is held, at a bounded rate: more than before each 10 s at most, the same each minute.
type alarm struct {
	logger *slog.Logger
	count  int // records held when it was logged; 0: nothing is
	at     time.Time
}

func (g *Guard) tell(now time.Time) {
	a := &g.alarm
	count := len(g.held)
	switch {
	case count == 0 && a.count == 0:
		return
	case count == 0:
		a.count = 0
		a.logger.Info("no removal is held back any more")
		return
	case a.count > 0 && now.Sub(a.at) < 10*time.Second, a.count >= count && now.Sub(a.at) < time.Minute:
		return
	}
	a.count, a.at = count, now
	status := g.status()
	most := ""
	if len(status.Of) > 0 {
		most = status.Of[0].Service
	}
	a.logger.Warn("removal held back, since it is over the share that protect allows: if it is meant, run caddy ufc confirm",
		"instances", status.Instances, "services", status.Services, "bans", status.Bans, "topology", status.Topology,
		"most_of", most, "revision", status.Revision)
}

var heldDesc = prometheus.NewDesc("ufc_config_held",
	"Configuration records that etcd has no more and that are held in force, by kind.", []string{"kind"}, nil)

// Describe implements prometheus.Collector.
func (g *Guard) Describe(descs chan<- *prometheus.Desc) { descs <- heldDesc }

// Collect implements prometheus.Collector.
func (g *Guard) Collect(metrics chan<- prometheus.Metric) {
	status := g.Status()
	topology := 0
	if status.Topology {
		topology = 1
	}
	for kind, count := range map[model.Kind]int{
		model.KindInstances: status.Instances, model.KindService: status.Services,
		model.KindBan: status.Bans, model.KindTopology: topology,
	} {
		metrics <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(count), string(kind))
	}
}

// Interface guard.
var _ prometheus.Collector = (*Guard)(nil)
