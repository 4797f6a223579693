package driver

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are those of one driver.
type metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atoll_csi_call_duration_seconds", Help: "Duration of calls of the CSI services.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"method", "code"}),
	}
	m.registry.MustRegister(m.calls)
	return m
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
