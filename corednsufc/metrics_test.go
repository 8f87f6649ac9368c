package corednsufc

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestExports(t *testing.T) {
	registry := prometheus.NewRegistry()
	var e exports
	registry.MustRegister(&e)
	count := func() int {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, family := range families {
			total += len(family.GetMetric())
		}
		return total
	}
	value := func() float64 {
		t.Helper()
		families, _ := registry.Gather()
		return families[0].GetMetric()[0].GetGauge().GetValue()
	}
	gauge := func(v float64) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "ufc_test", Help: "test"})
		g.Set(v)
		return g
	}
	first, second := gauge(1), gauge(2)

	e.add(first)
	e.add(first) // another server block, or the next configuration
	if count() != 1 {
		t.Fatalf("%d metrics after adding one agent twice", count())
	}
	e.add(second) // the next configuration names another mesh
	if count() != 1 || value() != 1 {
		t.Errorf("the second agent's metrics are in the way of the first's")
	}
	e.remove(first)
	if value() != 1 {
		t.Errorf("the first agent is still used, and not exported")
	}
	e.remove(first)
	if count() != 1 || value() != 2 {
		t.Errorf("the first agent is gone, and the second not exported")
	}
	e.remove(second)
	if count() != 0 {
		t.Errorf("%d metrics after all agents are gone", count())
	}
}
