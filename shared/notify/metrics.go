package notify

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what came of a try to deliver a message.
type outcome string

// The outcomes.
const (
	delivered outcome = "delivered"
	failed    outcome = "failed"  // it is tried again
	refused   outcome = "refused" // it is given up
)

var webhooksDesc = prometheus.NewDesc("ufc_webhooks_total",
	"Tries to deliver a message to a service's webhook: delivered, failed (it is tried again) or refused (it is given up).",
	[]string{"callee", "outcome"}, nil)

type countKey struct {
	callee  string
	outcome outcome
}

// counts counts the tries. Its callees are those whose documents have a webhook.
type counts struct {
	mu    sync.Mutex
	tries map[countKey]uint64
}

func (c *counts) add(callee string, outcome outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries == nil {
		c.tries = map[countKey]uint64{}
	}
	c.tries[countKey{callee, outcome}]++
}

func (c *counts) all() map[countKey]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.tries)
}

// Describe implements prometheus.Collector.
func (w *Webhooks) Describe(descs chan<- *prometheus.Desc) { descs <- webhooksDesc }

// Collect implements prometheus.Collector.
func (w *Webhooks) Collect(metrics chan<- prometheus.Metric) {
	for key, count := range w.counts.all() {
		metrics <- prometheus.MustNewConstMetric(webhooksDesc, prometheus.CounterValue, float64(count), key.callee, string(key.outcome))
	}
}

// Interface guard.
var _ prometheus.Collector = (*Webhooks)(nil)
