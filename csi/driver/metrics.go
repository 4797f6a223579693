package driver

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are those of one driver.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec

	size, used, promised, volumes *prometheus.GaugeVec // by pool

	mu    sync.Mutex
	known []string // pools with numbers
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atoll_csi_call_duration_seconds", Help: "Duration of calls of the CSI services.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"method", "code"}),
		size:     pools("atoll_pool_size_bytes", "What the pool has."),
		used:     pools("atoll_pool_used_bytes", "What of it is used, by volumes and by everything else."),
		promised: pools("atoll_pool_promised_bytes", "Sum of the sizes of its volumes: more than the pool has where classes overcommit."),
		volumes:  pools("atoll_pool_volumes", "Volumes of the pool, of all layouts, and snapshots."),
	}
	m.registry.MustRegister(m.calls, m.size, m.used, m.promised, m.volumes)
	return m
}

func pools(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"pool"})
}

// forget takes out pools that are not among these.
func (m *metrics) forget(but []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.known {
		if !slices.Contains(but, name) {
			for _, g := range []*prometheus.GaugeVec{m.size, m.used, m.promised, m.volumes} {
				g.DeleteLabelValues(name)
			}
		}
	}
	m.known = but
}

// Metrics are the driver's.
func (d *Driver) Metrics() prometheus.Gatherer { return d.measures().registry }

func (d *Driver) measures() *metrics {
	d.metricsOnce.Do(func() { d.metrics = newMetrics() })
	return d.metrics
}

func (d *Driver) measure(method string, code codes.Code, took time.Duration) {
	d.measures().calls.WithLabelValues(method, code.String()).Observe(took.Seconds())
}
