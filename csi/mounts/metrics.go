package mounts

import "github.com/prometheus/client_golang/prometheus"

// metrics count what happens to the clients.
type metrics struct {
	registry *prometheus.Registry
	starts   *prometheus.CounterVec
	failures *prometheus.CounterVec
}

func newMetrics(running func() int) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_starts_total",
			Help: "GlusterFS clients that were started and responded; more than one for a pool means that one has died.",
		}, []string{"pool"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_start_failures_total",
			Help: "GlusterFS clients that could not be started or did not respond in time.",
		}, []string{"pool"}),
	}
	m.registry.MustRegister(m.starts, m.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atoll_clients_running", Help: "GlusterFS clients of this process that are running.",
	}, func() float64 { return float64(running()) }))
	return m
}

// Metrics returns the metrics of the clients.
func (c *Clients) Metrics() prometheus.Gatherer { return c.metrics.registry }

// countRunning counts the clients whose process has not ended.
func (c *Clients) countRunning() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, cl := range c.clients {
		if cl.running.Load() {
			n++
		}
	}
	return n
}
