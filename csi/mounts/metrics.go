package mounts

import "github.com/prometheus/client_golang/prometheus"

// metrics are those of the clients.
type metrics struct {
	registry *prometheus.Registry
	starts   *prometheus.CounterVec
	failures *prometheus.CounterVec
}

func newMetrics(running func() int) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_starts_total", Help: "Clients that were started and answered; more than one of a pool means that one has died.",
		}, []string{"pool"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_start_failures_total", Help: "Clients that could not be started, or did not answer in time.",
		}, []string{"pool"}),
	}
	m.registry.MustRegister(m.starts, m.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atoll_clients_running", Help: "GlusterFS clients of this process that are running.",
	}, func() float64 { return float64(running()) }))
	return m
}

// Metrics are those of the clients.
func (c *Clients) Metrics() prometheus.Gatherer { return c.metrics.registry }

// running counts the clients whose process has not ended.
func (c *Clients) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, o := range c.clients {
		if o.runs.Load() {
			n++
		}
	}
	return n
}
