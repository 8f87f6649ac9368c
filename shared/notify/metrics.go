package notify

import "github.com/prometheus/client_golang/prometheus"

var webhooksDesc = prometheus.NewDesc("ufc_webhooks_total",
	"Messages to webhooks: delivered, refused (given up), or failed (sent again).", []string{"outcome"}, nil)

// Describe implements prometheus.Collector.
func (w *Webhooks) Describe(descs chan<- *prometheus.Desc) { descs <- webhooksDesc }

// Collect implements prometheus.Collector.
func (w *Webhooks) Collect(metrics chan<- prometheus.Metric) {
	for outcome, count := range map[string]uint64{
		"delivered": w.sent.delivered.Load(), "refused": w.sent.refused.Load(), "failed": w.sent.failed.Load(),
	} {
		metrics <- prometheus.MustNewConstMetric(webhooksDesc, prometheus.CounterValue, float64(count), outcome)
	}
}

// Interface guard.
var _ prometheus.Collector = (*Webhooks)(nil)
